"""The campaigns of a folder, as their files show them; no database is opened."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from aarlab.core.errors import NotFound
from aarlab.core.layout import RunDir
from aarlab.server.dashboard import run_files

Facts = dict[str, Any]


def campaigns(runs: Path) -> list[Facts]:
    """Newest first."""
    found = [_campaign(RunDir(path)) for path in runs.iterdir() if _is_one(path)]
    return sorted(found, key=lambda one: str(one["last"]), reverse=True)


def campaign(runs: Path, name: str) -> RunDir:
    """Raises NotFound for what is no campaign of this folder."""
    if not _is_name(name) or not _is_one(runs / name):
        raise NotFound(f"no campaign {name[:64]!r} in this folder")
    return RunDir(runs / name)


def _is_one(path: Path) -> bool:
    run = RunDir(path)
    known = run.spec.is_file() or (path / "launch.yaml").is_file()
    return _is_name(path.name) and not path.is_symlink() and known


def _is_name(name: str) -> bool:
    """Return whether the name is that of one visible folder.

    Any letters and spaces are allowed, but no path separator and no unprintable character.
    """
    return name.isprintable() and bool(name) and not name.startswith(".") and "/" not in name


def _campaign(run: RunDir) -> Facts:
    events = run_files.last_events(run)
    spec = run_files.campaign_spec(run)
    aars = spec.get("aars")
    tasks = spec.get("tasks")
    standing = run_files.standing(run, events)
    return {
        "name": run.path.name,
        "link": quote(run.path.name, safe=""),
        "state": standing.state,
        "state_words": standing.words,
        "why": standing.why[:300],
        "tasks": tasks if isinstance(tasks, list) else [],
        "n_aars": len(aars) if isinstance(aars, list) else 0,
        "last": events[-1]["at"] if events else "",
        "event": events[-1]["kind"].replace("_", " ") if events else "",
        "words": "" if events else _last_words(run),
    }


def _last_words(run: RunDir) -> str:
    """What a campaign that never began has said."""
    try:
        text = (run.path / "campaign.log").read_text(encoding="utf-8", errors="replace")
        lines = text.strip().split("\n")
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
