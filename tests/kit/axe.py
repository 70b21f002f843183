"""axe-core over a page: what would keep somebody from using it."""

from pathlib import Path
from typing import Any

AXE = (Path(__file__).parents[1] / "browser" / "vendor" / "axe.min.js").read_text()
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # axe-core 4.14.1


def faults(page: Any) -> list[str]:
    """Serious and critical findings, each with the first element that has it."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:160]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
