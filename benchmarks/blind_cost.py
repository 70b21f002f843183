"""What a blind run costs beside an open one, and where its CPU time goes.

    AARLAB_HOME=... python benchmarks/blind_cost.py --out benchmarks/blind_cost.md
    AARLAB_HOME=... python benchmarks/blind_cost.py --trees before=/path/to/another/src

Whole verified runs of the demo's task by the real verifier in its sandboxes: the same methods on
the same seeds and teachers, blind and open in turn, each in a fresh process. With `--trees` other
source trees are run in turn with this one, so that all meet the same load. CPU seconds are those of
verifier and sandboxes together; the cheapest of `--repeats` counts, as cores are shared. The parts
are measured in one more run a method: the child's by marks at its own clock, the judge's by the
clock of its thread.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

Facts = dict[str, Any]
TASK = "oversight"
FIRST_SEED = 700
FEW = {"epochs": 3, "lr": 1e-3, "weight_decay": 10.0}
TEACHERS = {"label": {"source": "teachers"}, "train": FEW}
RECIPES: dict[str, Facts] = {
    "teachers_overlap_restrained": TEACHERS | {"select": {"kind": "overlap"}},
    "eight_students": {"predict": {"members": 8}},  # what a longer method pays
}
METHODS = ("vanilla", "teachers_overlap_restrained", "confident", "eight_students")
# The child's own clock, at the ends of its parts.
MARKS = """
import gc, os, sys, time
def mark(name):
    marks.append((name, time.process_time()))
marks = []
mark("interpreter")
gc.disable()
import numpy
mark("numpy")
from aarlab.verify import inside
gc.freeze()
gc.enable()
mark("other imports")
load, predict = inside.load_method, inside.checked_predictions
def loaded(folder):
    mark("task")
    method = load(folder)
    mark("the method's imports")
    class Marked:
        def fit(self, *given):
            found = method.fit(*given)
            mark("fit")
            return found
    return Marked()
def predicted(*given):
    mark("")
    found = predict(*given)
    mark("predict")
    return found
inside.load_method, inside.checked_predictions = loaded, predicted
code = inside.main(sys.argv[1:])
before = 0.0
for name, at in marks:
    sys.stderr.write(f"@{name}={at - before:.5f}\\n")
    before = at
sys.stderr.flush()
os._exit(code)
"""


def one(name: str, way: str, seeds: int, parts: bool) -> Facts:
    """Verify a method once, in this process."""
    import verified_run

    from aarlab.agents.trial import ONE_THREAD
    from aarlab.cli.settings import data_root
    from aarlab.core.layout import RunDir
    from aarlab.testbed.methods.named_method import named_files
    from aarlab.testbed.recipes.recipe import recipe_from
    from aarlab.testbed.running.method_folder import recipe_files
    from aarlab.verify.rerun import Verifier

    recipe = RECIPES.get(name)
    files = named_files(name) if recipe is None else recipe_files(recipe_from(recipe))
    source = ("READS_TEXT = True\n" if way == "open" else "") + files["method.py"]
    wanted = verified_run.wanted(TASK, range(FIRST_SEED, FIRST_SEED + seeds), method=name)
    ONE_THREAD["PYTHONPATH"] = os.environ["PYTHONPATH"]  # the sandbox sees this tree's package
    spent = watched() if parts else Counter[str]()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o711)
        verifier = Verifier(RunDir(Path(place)), data_root(), "bubblewrap", 0, at_once=2)
        given = verified_run.content(files | {"method.py": source})
        before, begun = cpu(), time.monotonic()
        result = verifier.rerun(wanted, given)
        after, wall = cpu(), time.monotonic() - begun
    if result.error:
        raise SystemExit(f"{name} {way}: {result.error}")
    return {"cpu": sum(after) - sum(before), "own": after[0] - before[0], "wall": wall} | spent


def cpu() -> list[float]:
    """Return CPU seconds of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return [one.ru_utime + one.ru_stime for one in used]


def watched() -> Counter[str]:
    """Have the parts of the blind runs of this process counted, in CPU seconds."""
    from aarlab.verify import basis, judge

    spent = Counter[str]()

    def timed(owner: Any, name: str, part: str) -> None:
        plain: Callable[..., Any] = getattr(owner, name)

        def run(*given: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return plain(*given, **named)
            finally:
                spent[part] += time.thread_time() - begun

        setattr(owner, name, run)

    timed(basis.Table, "turned", "judge: basis and noise, with whitening")
    timed(basis.Table, "white", "judge: whitening, once a run")
    timed(judge.Judge, "hear", "judge: all")
    plain = judge.run

    def run(*given: Any, **named: Any) -> Any:
        done = plain(*given, **named)
        said = re.findall(r"@(.*?)=([\d.]+)", done.stderr.decode())
        predictions = [float(value) for name, value in said if name == "predict"]
        for name, value in said:
            if name not in ("", "predict"):
                spent[f"child: {name}"] += float(value)
        spent["child: predictions that are scored"] += predictions[-1]
        spent["child: predictions for probes"] += sum(predictions[:-1])
        between = sum(float(value) for name, value in said if name == "")
        spent["child: rows of deliveries"] += between
        spent["sandbox around it"] += done.cpu_s - sum(float(value) for _, value in said)
        return done

    judge.run, judge.START = run, MARKS
    return spent


def called(tree: Path, *words: str) -> Facts:
    """Run this file with a source tree, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, str(Path(__file__).resolve()), "--one", *words]
    done = subprocess.run(argv, env=env, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: Facts = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--trees", default="", help="NAME=FOLDER,...: source trees to run as well")
    parser.add_argument("--out", type=Path, default=HERE / "blind_cost.md")
    given = parser.parse_args()
    if given.one:
        name, way, seeds, parts = given.one
        print(json.dumps(one(name, way, int(seeds), parts == "parts")))
        return
    others = (pair.partition("=") for pair in given.trees.split(",") if pair)
    trees = {name: Path(folder) for name, _, folder in others} | {"now": HERE.parent / "src"}
    names, load = given.methods.split(","), [os.getloadavg()[0]]
    runs: dict[str, list[Facts]] = {}
    for number in range(given.repeats):
        for name in names:
            for way in ("blind", "open"):
                for tree, folder in trees.items():
                    found = called(folder, name, way, str(given.seeds), "")
                    runs.setdefault(f"{name}/{way}/{tree}", []).append(found)
                    load.append(os.getloadavg()[0])
                    print(number, name, way, tree, found, flush=True)
    parts = {name: called(trees["now"], name, "blind", str(given.seeds), "parts") for name in names}
    made = (
        f"{datetime.now(UTC).date().isoformat()}, {os.cpu_count()} cores {platform.machine()}, "
        f"load {min(load):.1f} to {max(load):.1f} (mean {mean(load):.1f}), {given.seeds} seeds, "
        f"{given.repeats} repeats"
    )
    facts = {"made": made, "seeds": given.seeds, "trees": [*trees], "runs": runs, "parts": parts}
    given.out.with_suffix(".json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    given.out.write_text(page(facts), encoding="utf-8")


# ---------------------------------------------------------------- the page
def page(facts: Facts) -> str:
    seeds, trees = facts["seeds"], facts["trees"]
    names = list(dict.fromkeys(key.split("/")[0] for key in facts["runs"]))
    lines = [
        "# Cost of blind runs\n",
        f"{facts['made']}. Task `{TASK}`, two seeds at one time; the real verifier in its "
        "sandboxes. CPU seconds of verifier and sandboxes, the cheapest run; wall seconds, the "
        "quickest run. Made by `benchmarks/blind_cost.py`.\n",
        "| method | version | blind, CPU s | open, CPU s | ratio | more a seed, CPU s "
        "| blind, wall s | open, wall s | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        for tree in trees:
            blind, texts = (facts["runs"][f"{name}/{way}/{tree}"] for way in ("blind", "open"))
            cells = [f"{name} | {tree}"]
            for what in ("cpu", "wall"):
                one, other = (min(run[what] for run in runs) for runs in (blind, texts))
                cells.append(f"{one:.1f} | {other:.1f} | {one / other:.2f}")
                if what == "cpu":
                    cells.append(f"{(one - other) / seeds:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    shown = list(dict.fromkeys(part for found in facts["parts"].values() for part in found))
    shown = [part for part in shown if part not in ("cpu", "own", "wall")]
    lines += [
        "\n## Where the CPU time of a blind run goes\n",
        f"CPU milliseconds a seed, mean of {seeds}; one more run of this version.\n",
        f"| part | {' | '.join(facts['parts'])} |",
        "|---|" + "---|" * len(facts["parts"]),
    ]
    for part in sorted(shown):
        cells = [f"{1000 * found.get(part, 0) / seeds:.0f}" for found in facts["parts"].values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    for part, what in (("verifier: all, with the judge", "own"), ("all", "cpu")):
        cells = [f"{1000 * found[what] / seeds:.0f}" for found in facts["parts"].values()]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
