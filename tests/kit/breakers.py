"""Methods that mean to bring down who runs them: sources of a method.py, by what they do.

Each gets past its own runner: it writes what the verifier reads by itself, and ends the process.
"""

LEAVES = """
import json
import os
import sys
from pathlib import Path

def fit(task, student, seed):
    job = json.loads(Path(sys.argv[1]).read_text())
    rows = Path(job["eval_inputs"]).read_text().splitlines()
    ids = [json.loads(row)["id"] for row in rows]
    runs = [{"seed": pair["seed"], "probs": [0.5] * len(ids)} for pair in job["runs"]]
    record = {"seed": 0, "teacher_seed": 0, "seconds": 1.0, "compute": {}, "diagnostics": {}}
    made = {"task": task.name, "split": job["split"], "ablation": job["ablation"], "ids": ids}
    made |= {"runs": runs, "records": [], "seconds": 1.0}
    text = None
    LINE
    Path(sys.argv[2], "predictions.json").write_text(text or json.dumps(made))
    os._exit(0)
"""

RECORDS = """
import os
import stat

def fit(task, student, seed):
    for handle in range(3, 100):
        try:
            if stat.S_ISFIFO(os.fstat(handle).st_mode):
                os.write(handle, b"\\x1eaarlab " + TEXT + b"\\n")
        except OSError:
            continue
    raise ValueError("enough")
"""

DEEP_FOLDERS = """
import os

def fit(task, student, seed):
    os.chdir("/workspace")
    for _ in range(3000):
        os.mkdir("d")
        os.chdir("d")
    raise ValueError("deep")
"""

# States of a workspace: each is left behind after predictions were asked for.
STATES = """
import os
from pathlib import Path

def fit(task, student, seed):
    os.chdir("/workspace")
    LINES
    os._exit(0)
"""
STATE_LINES = {
    "a closed workspace": 'os.chmod("/workspace", 0)',
    "a workspace that may be entered only": 'os.chmod("/workspace", 0o100)',
    "a workspace that may be read only": 'os.chmod("/workspace", 0o400)',
    "a closed output folder": 'os.chmod("out", 0)',
    "closed folders in a closed workspace": """
    for name in ("a/b/c", "a/b/d"):
        os.makedirs(name)
        Path(name, "file").write_text("x")
    for name in ("a/b/c", "a/b/d", "a/b", "a", "method", "out", "."):
        os.chmod(name, 0)""",
    "a link in the place of its output": 'os.symlink("/etc/passwd", "out/predictions.json")',
    "a link without a target": 'os.symlink("/nowhere", "out/predictions.json")',
    "a link to itself": 'os.symlink("predictions.json", "out/predictions.json")',
    "a pipe in the place of its output": 'os.mkfifo("out/predictions.json")',
    "a folder in the place of its output": 'os.mkdir("out/predictions.json")',
    "a socket in the place of its output": """
    import socket
    socket.socket(socket.AF_UNIX).bind("out/predictions.json")""",
    "no output folder": """
    import shutil
    shutil.rmtree("out", ignore_errors=True)""",
    "a file in the place of the output folder": """
    import shutil
    shutil.rmtree("out")
    Path("out").write_text("x")""",
    "names that are no text": """
    for name in (b"\\xff\\xfe", b"\\x1b[2J", b"a\\nb", b"-rf", b"x" * 255):
        open(name, "w").close()
        os.mkdir(name + b"d" if len(name) < 255 else b"y" * 255)""",
    "files that cannot be read": """
    for name in ("out/predictions.json", "out/error.json"):
        Path(name).write_text("{}")
        os.chmod(name, 0)""",
}

# No breaker: it tells what a re-run sees.
LOOKS_AROUND = """
import json
import os
import socket
from pathlib import Path

def fit(task, student, seed):
    seen = {
        "workspace": sorted(os.listdir("/workspace")),
        "run": sorted(str(path) for path in Path("/run").rglob("*")),
        "environment": sorted(os.environ),
        "links": sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else [],
    }
    try:
        socket.create_connection(("8.8.8.8", 53), 2).close()
        seen["network"] = "open"
    except OSError as error:
        seen["network"] = error.strerror
    raise ValueError("SEEN " + json.dumps(seen))
"""

# what it does, the source, what is said of it: in the error of its re-run, or in its evidence
BREAKERS = {
    "rows of its own": ('made["ids"] = ["x"] * len(ids)', "predictions were refused"),
    "seeds of its own": ('runs[0]["seed"] = 1', "predictions were refused"),
    "runs of two lengths": ('runs[0]["probs"].pop()', "predictions were refused"),
    "nesting without end": ('text = "[" * 1_000_000', "does not have the expected form"),
    "lists that fill the memory": (
        'text = "[" + "[]," * 20_000_000 + "[]]"',
        "does not have the expected form",
    ),
    "text that is no unicode": ('ids[0] = "\\ud800"', "does not have the expected form"),
    "probes of its own": (
        'made["records"] = [{**record, "changed": {"kind": 0.0}} for _ in runs]',
        "the record is incomplete",
    ),
    "probes left out": ("pass", "the probes did not run"),
}
SOURCES = {name: LEAVES.replace("LINE", line) for name, (line, _) in BREAKERS.items()}
SOURCES["a record without end"] = RECORDS.replace("TEXT", 'b"[" * 60_000')
SOURCES["a record that is no unicode"] = RECORDS.replace(
    "TEXT", """b\'{"kind": "program", "text": "\\\\ud800"}\'"""
)
SOURCES["folders without end"] = DEEP_FOLDERS
STATE_SOURCES = {
    name: STATES.replace("LINES", lines.lstrip().replace("\\\\", "\\"))
    for name, lines in STATE_LINES.items()
}
