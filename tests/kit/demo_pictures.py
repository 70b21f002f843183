"""The pictures of a finished demo: `python tests/kit/demo_pictures.py runs/demo`.

The top of its report, and the end of what `aarlab demo` prints; the first two of the README.
"""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pictures import FLAGS, IMAGES, WITHOUT_PATHS, small
from playwright.sync_api import sync_playwright

FIRST = "PGR, the performance gap"
PAGE = """<meta charset="utf-8"><style>body{{margin:0;background:#16191d;color:#d8dee6}}
pre{{margin:0;padding:18px 22px;font:13px/1.32 "DejaVu Sans Mono",monospace}}</style>
<pre>{}</pre>"""


def main() -> None:
    run = Path(sys.argv[1]).resolve()
    printed = subprocess.run(
        [sys.executable, "-m", "aarlab.cli", "demo", "--out", str(run)],
        env={**os.environ, "COLUMNS": "104"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    end = printed[printed.index(FIRST) : printed.index("report: ")]
    end = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", end)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto((run / "report" / "index.html").as_uri())
        page.evaluate(WITHOUT_PATHS, str(run.parent))
        page.screenshot(path=IMAGES / "report.png")
        terminal = Path(folder) / "end.html"
        terminal.write_text(PAGE.format(html.escape(end.rstrip())), encoding="utf-8")
        page.set_viewport_size({"width": 880, "height": 100})
        page.goto(terminal.as_uri())
        page.screenshot(path=IMAGES / "terminal.png", full_page=True)
        browser.close()
    for name in ("report.png", "terminal.png"):
        small(IMAGES / name)


if __name__ == "__main__":
    sys.exit(main())
