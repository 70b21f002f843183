"""`events.jsonl`: what happened to a campaign, one JSON object a line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aarlab.core.clock import now_iso

Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class EventLog:
    """Appends to the file and tells `notify`, which draws the progress."""

    path: Path
    notify: Notify

    def add(self, kind: str, **facts: Any) -> None:
        line = json.dumps({"at": now_iso(), "kind": kind, **facts}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
        self.notify(kind, facts)
