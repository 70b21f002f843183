"""Bring the files outside `docs/` that its pages link to into the site, at the same places.

In the repository a page links to `../benchmarks/blind.md` or `../CHANGELOG.md`, which is right on
a code host. The site has the pages of `docs/` at its root, so there the first `../` goes away.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add each linked file outside `docs/` that exists, and what those link to in turn."""
    waiting = [ROOT / "docs" / f.src_uri for f in files.documentation_pages()]
    waiting += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    seen = set[Path]()
    while waiting:
        page = waiting.pop()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        outside = not page.is_relative_to(ROOT / "docs")
        if outside and page.is_relative_to(ROOT):
            place = page.relative_to(ROOT).as_posix()
            if files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(page)))
        if page.suffix == ".md":
            text = page.read_text(encoding="utf-8")
            waiting += [(page.parent / link).resolve() for link, _ in LINK.findall(text)]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite links to where the site has their target."""
    source = Path(page.file.abs_src_path)

    def moved(found: re.Match[str]) -> str:
        target = (source.parent / found[1]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return found[0]  # mkdocs warns of it
        docs = ROOT / "docs"
        place = target.relative_to(docs if target.is_relative_to(docs) else ROOT).as_posix()
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}{place}{found[2] or ''})"

    return LINK.sub(moved, markdown)
