"""Nine AARs on three nodes of a cluster, and a node lost in the middle: what is lost, what doubled.

    python benchmarks/cluster.py --engine slurm   # or ray

A real campaign by the real command: six language-model AARs, whose model is a script behind a local
endpoint that counts what it is asked, and three control researchers, on the toy task of the tests,
with TLS between nodes and platform. The nodes share this machine. When every language AAR has made
some calls, one node is killed with all its processes, as a machine that loses its power. Afterwards
log, ledger, transcripts, submissions and report are checked; any fault ends the run with an error
and writes nothing. `cluster_ENGINE.json` has the figures, `cluster.md` a table of all engines.
"""

import argparse
import json
import os
import platform as machine
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import lost_node
import yaml
from fake_models import FakeModels
from slurm import Slurm
from toy_campaign import build_toy, command

from aarlab.core.layout import RunDir
from cluster_ray import RayEngine

LANGUAGES = ["ada", "bea", "cleo", "dora", "elsa", "fay"]
CONTROLS = ["rowan", "sorrel", "tansy"]
TRIALS = 24  # of each control researcher: it still works when the node is lost
CALLS_BEFORE = 5  # of each language AAR before the node is lost
MOST_S = 900.0


class Engine(Protocol):
    """A cluster of three nodes. Enter it to start it; leave it to remove all of it."""

    name: str

    def version(self) -> str: ...
    def executor(self, keys: Path) -> dict[str, Any]: ...
    def where(self) -> dict[str, str]: ...
    def lose(self, node: str) -> None: ...


class SlurmEngine(AbstractContextManager["SlurmEngine"]):
    """Three slurmds on loopback; Slurm gives a node up after 10 s of silence."""

    name = "slurm"

    def __enter__(self) -> "SlurmEngine":
        self.cluster = Slurm(nodes=3)
        os.environ["SLURM_CONF"] = str(self.cluster.conf)
        self.cluster.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.remove()
        del os.environ["SLURM_CONF"]

    def version(self) -> str:
        return "Slurm " + self.cluster.say("sinfo", "--version").split()[-1]

    def executor(self, keys: Path) -> dict[str, Any]:
        options = {"host": "127.0.0.1", "env_file": str(keys), "poll_s": 1.0}
        return {"name": "slurm", "options": options, "cpus": 1, "hours": 1}

    def where(self) -> dict[str, str]:
        return self.cluster.where()

    def lose(self, node: str) -> None:
        self.cluster.lose(node)


ENGINES = {"slurm": SlurmEngine, "ray": RayEngine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        figures = measured(ENGINES[given.engine], Path(folder))
    out = HERE / f"cluster_{given.engine}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = table([json.loads(p.read_text("utf-8")) for p in sorted(HERE.glob("cluster_*.json"))])
    (HERE / "cluster.md").write_text(page, encoding="utf-8")
    print(page)


def measured(kind: Any, folder: Path) -> dict[str, Any]:
    """Run the campaign and check it; raises where anything is lost or doubled."""
    root, run, began = build_toy(folder / "data"), RunDir(folder / "run"), time.monotonic()
    with ExitStack() as stack:
        engine: Engine = stack.enter_context(kind())
        fake = stack.enter_context(FakeModels(lost_node.steady, lost_node.THINKS))
        keys = lost_node.key_file(folder, fake)
        os.environ["ANTHROPIC_API_KEY"] = fake.key  # for the check before the campaign starts
        spec = lost_node.spec_of(fake, engine.executor(keys), LANGUAGES, CONTROLS)
        for aar in spec["aars"][len(LANGUAGES) :]:
            aar["limits"] = {"submissions": TRIALS, "dollars": 1.0}
        path = folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        process = command(root, "campaign", "run", str(path), "--out", str(run.path))
        try:
            watched = attend(process, engine, run)
        finally:
            process.kill()
        kills = len(set(watched["lost_aars"]) & set(LANGUAGES))
        export = lost_node.check_whole(run, fake, kills)
        counts = fake.counts()
        version = engine.version()
    assert lost_node.events(run, "process_crashed") == []
    report(run, root.path)
    [ended] = lost_node.events(run, "campaign_ended")
    return {
        "engine": kind.name,
        "version": version,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores ({machine.machine()}), Linux, Python "
        f"{machine.python_version()}",
        "nodes": 3,
        "aars": {"language": len(LANGUAGES), "control": len(CONTROLS)},
        **watched,
        "ending": ended["ending"],
        "model_calls": {
            "asked": counts.n_paid,
            "recorded": lost_node.recorded(export),
            "paid_twice": sum(n - 1 for n in counts.paid.values()),
            "cut_off": kills,
        },
        "submissions": len(export.submissions),
        "findings": len(export.findings),
        "verified": len(export.verifications),
        "log_entries": export.head.seq,
        "lives": dict(sorted(Counter(map(str, lost_node.lives(run).values())).items())),
        "wall_s": round(time.monotonic() - began),
    }


def attend(process: subprocess.Popen[bytes], engine: Engine, run: RunDir) -> dict[str, Any]:
    """Watch the campaign to its end and kill a node meanwhile; return what became of its AARs."""
    places, began = defaultdict[str, list[str]](list), time.monotonic()
    lost, lost_at, back = "", 0.0, dict[str, float]()
    while process.poll() is None:
        assert time.monotonic() - began < MOST_S, "the campaign does not end"
        for name, node in engine.where().items():
            if places[name][-1:] != [node]:
                places[name].append(node)
        if not lost and all(lost_node.calls(run, name) >= CALLS_BEFORE for name in LANGUAGES):
            lost = places[LANGUAGES[0]][-1]
            there = sorted(name for name, node in engine.where().items() if node == lost)
            calls = {name: lost_node.calls(run, name) for name in LANGUAGES}
            engine.lose(lost)
            lost_at = time.monotonic()
        elif lost:
            for name in there:
                if name not in back and lost_node.lives(run)[name] == 2:
                    back[name] = round(time.monotonic() - lost_at, 1)
        time.sleep(0.2)
    out = (process.stdout.read() if process.stdout else b"").decode()
    assert process.returncode == 0, out
    assert lost and set(back) == set(there), f"{there} were lost, {sorted(back)} came back"
    assert all(len(places[name]) == 2 and places[name][0] == lost for name in there), places
    return {
        "lost_node": lost,
        "lost_aars": there,
        "calls_before": calls,
        "seconds_until_the_new_life": back,
        "moved_to": {name: places[name][-1] for name in there},
    }


def report(run: RunDir, root: Path) -> None:
    """Check log and report by the operator's own commands."""
    for words in (("log", "verify"), ("report",)):
        done = subprocess.run(
            [sys.executable, "-m", "aarlab.cli", *words, str(run.path)],
            env={**os.environ, "AARLAB_HOME": str(root)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


def table(all_figures: list[dict[str, Any]]) -> str:
    """The page: what was done, and a column for each engine."""

    def of(figures: dict[str, Any]) -> dict[str, str]:
        calls, back = figures["model_calls"], figures["seconds_until_the_new_life"].values()
        language, control = figures["aars"]["language"], figures["aars"]["control"]
        return {
            "engine": figures["version"],
            "date": figures["date"],
            "machine": figures["machine"],
            "nodes": f"{figures['nodes']}, all on this machine",
            "AARs": f"{language} language, {control} control",
            "on the lost node": ", ".join(figures["lost_aars"]),
            "new life after the kill": f"{min(back):.0f} to {max(back):.0f} s",
            "campaign": f"{figures['ending']} in {figures['wall_s']} s with the cluster's start",
            "model calls asked / recorded": f"{calls['asked']} / {calls['recorded']} "
            f"({calls['paid_twice']} paid twice, at most {calls['cut_off']} could be)",
            "submissions / findings": f"{figures['submissions']} / {figures['findings']}, "
            "none lost, none doubled",
            "verified methods": str(figures["verified"]),
            "tokens, dollars": "ledger, transcripts and endpoint agree to the token",
            "`aarlab log verify`": f"passes, {figures['log_entries']} entries",
            "crashes counted": "none: a lost node is not the AAR's fault",
        }

    columns = [of(figures) for figures in all_figures]
    lines = ["# Nine AARs on a cluster that loses a node", ""]
    lines += [" ".join((__doc__ or "").split("\n\n", 2)[2].split()), ""]
    lines.append("| |" + " |" * len(columns))
    lines.append("|---|" + "---|" * len(columns))
    lines += [f"| {row} | {' | '.join(c[row] for c in columns)} |" for row in columns[0]]
    lines += ["", "Other work ran on the same cores meanwhile: the seconds are noisy.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
