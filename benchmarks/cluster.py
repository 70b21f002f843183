"""Nine AARs on three nodes of a cluster, and a node lost in the middle: what is lost, what doubled.

    python benchmarks/cluster.py --engine slurm          # or ray: a job for each AAR
    python benchmarks/cluster.py --engine slurm --pods   # a job for three, with student servers

A real campaign by the real command, with TLS between nodes and platform. The models of the AARs are
scripts behind a local endpoint that counts what it is asked. With a job for each AAR they are six
language-model AARs and three control researchers on the toy task of the tests. With pods they are
the nine language-model AARs of the recorded campaign, on a tiny random language model whose
students train its last block: each pod has two student servers on the CPU. The nodes share this
machine. When every language AAR has made some calls, one node is killed with all its processes, as
a machine that loses its power. Afterwards log, ledger, transcripts, submissions and report are
checked; any fault ends the run with an error and writes nothing. `cluster_ENGINE.json` and
`cluster_ENGINE_pods.json` have the figures, `cluster.md` a table of all. The runs with pods are
kept in `docs/recorded-ENGINE`.
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
from typing import Any, ClassVar, Protocol

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import lost_node
import yaml
from fake_models import FakeModels
from fake_talk import Answer
from slurm import Slurm
from tiny_task import tiny_data, tiny_options, tiny_pair
from toy_campaign import build_toy, command

import cluster_talk
from aarlab.agents.state import load_state
from aarlab.core.layout import DataRoot, RunDir
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.tasks.making import Workshop
from cluster_ray import RayEngine
from cluster_record import keep

TRIALS = 24  # of each control researcher: it still works when the node is lost
CALLS_BEFORE = 5  # of each language AAR before the node is lost
MOST_S, STATE = 1800.0, "state.json"
POD, DEVICES = 3, 2  # AARs and student servers of a pod


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


class Alone:
    """A job for each AAR, on stored states: nothing but the campaign's own machinery."""

    languages = ("ada", "bea", "cleo", "dora", "elsa", "fay")
    controls = ("rowan", "sorrel", "tansy")
    jobs = "one for each AAR"
    answer: Answer = staticmethod(lost_node.steady)
    pods: ClassVar[dict[str, list[str]]] = {}

    def build(self, home: Path) -> DataRoot:
        return build_toy(home)

    def spec(self, fake: FakeModels, executor: dict[str, Any]) -> dict[str, Any]:
        spec = lost_node.spec_of(fake, executor, list(self.languages), list(self.controls))
        for aar in spec["aars"][len(self.languages) :]:
            aar["limits"] = {"submissions": TRIALS, "dollars": 1.0}
        return spec

    def keys(self, folder: Path, fake: FakeModels) -> Path:
        return lost_node.key_file(folder, fake)


class Pods:
    """Nine scripted AARs, and the hand-tuned baselines, in pods with student servers."""

    languages = tuple(cluster_talk.SCRIPTS)
    controls = ("human", "guards")
    jobs = f"pods of {POD} AARs, each with {DEVICES} student servers on the CPU"
    answer: Answer = staticmethod(cluster_talk.nine)

    def __init__(self) -> None:
        names = [*self.languages, *self.controls]
        starts = range(0, len(names), POD)
        self.pods = {f"pod-{n}": names[at : at + POD] for n, at in enumerate(starts, 1)}

    def build(self, home: Path) -> DataRoot:
        root = DataRoot(home)
        tiny_pair(root, home / "hf")
        settings = TestbedSettings(device="cpu", torch_threads=1)
        Workshop(root, lambda line: None, settings=settings).build(tiny_data(), tiny_options())
        return root

    def spec(self, fake: FakeModels, executor: dict[str, Any]) -> dict[str, Any]:
        executor |= {"aars_per_pod": POD, "devices_per_pod": DEVICES}
        spec = lost_node.spec_of(fake, executor, [], [])
        human, guards = (
            {"name": name, "researcher": "fixed", "role": role, "arm": role, "methods": methods}
            for name, role, methods in (
                ("human", "human", ["vanilla", "confident"]),
                ("guards", "guard", ["guard_length"]),
            )
        )
        spec["aars"] = [
            *(
                {"name": name, "researcher": "language", "direction": direction}
                for name, (_, direction) in cluster_talk.SCRIPTS.items()
            ),
            human,
            guards,
        ]
        spec |= {"tasks": ["words"], "student_server": {"device": "cpu"}}
        spec["limits"] |= {"submissions": 12, "methods": 3}
        spec["verify"] |= {"top": 2, "seeds": 2}
        return spec

    def keys(self, folder: Path, fake: FakeModels) -> Path:
        locks = folder / "k"
        locks.mkdir()
        return lost_node.key_file(folder, fake, devices=locks)


Setting = Alone | Pods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--pods", action="store_true", help="three AARs a job, student servers")
    given = parser.parse_args()
    name = f"{given.engine}_pods" if given.pods else given.engine
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        setting = Pods() if given.pods else Alone()
        figures = measured(ENGINES[given.engine], setting, Path(folder))
        if given.pods:
            out, run = HERE.parent / "docs" / f"recorded-{given.engine}", Path(folder) / "run"
            keep(RunDir(run), figures, out, {folder: "~/cluster", sys.prefix: "~/venv"})
    out = HERE / f"cluster_{name}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = table([json.loads(p.read_text("utf-8")) for p in sorted(HERE.glob("cluster_*.json"))])
    (HERE / "cluster.md").write_text(page, encoding="utf-8")
    print(page)


def measured(kind: Any, setting: Setting, folder: Path) -> dict[str, Any]:
    """Run the campaign and check it; raises where anything is lost or doubled."""
    root, run, began = setting.build(folder / "data"), RunDir(folder / "run"), time.monotonic()
    with ExitStack() as stack:
        engine: Engine = stack.enter_context(kind())
        fake = stack.enter_context(FakeModels(setting.answer, lost_node.THINKS))
        keys = setting.keys(folder, fake)
        os.environ["ANTHROPIC_API_KEY"] = fake.key  # for the check before the campaign starts
        spec = setting.spec(fake, engine.executor(keys))
        path = folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        process = command(root, "campaign", "run", str(path), "--out", str(run.path))
        try:
            watched = attend(process, engine, setting, run)
        finally:
            process.kill()
        kills = len(set(watched["lost_aars"]) & set(setting.languages))
        export = lost_node.check_whole(run, fake, kills, steady=setting.answer is lost_node.steady)
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
        "jobs": setting.jobs,
        "aars": {"language": len(setting.languages), "control": len(setting.controls)},
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


def attend(
    process: subprocess.Popen[bytes], engine: Engine, setting: Setting, run: RunDir
) -> dict[str, Any]:
    """Watch the campaign to its end and kill a node meanwhile; return what became of its AARs."""

    def where() -> dict[str, str]:
        found = engine.where()  # by the name of the job, or of the AAR
        return {aar: node for name, node in found.items() for aar in setting.pods.get(name, [name])}

    places, began = defaultdict[str, list[str]](list), time.monotonic()
    lost, lost_at, back = "", 0.0, dict[str, float]()
    while process.poll() is None:
        assert time.monotonic() - began < MOST_S, "the campaign does not end"
        for name, node in where().items():
            if places[name][-1:] != [node]:
                places[name].append(node)
        if not lost and all(lost_node.calls(run, n) >= CALLS_BEFORE for n in setting.languages):
            lost = places[setting.languages[0]][-1]
            there = sorted(name for name, node in where().items() if node == lost)
            engine.lose(lost)
            there = [name for name in there if not load_state(run.aar(name) / STATE).finished]
            calls = {name: lost_node.calls(run, name) for name in setting.languages}
            lost_when = datetime.now(UTC).isoformat(timespec="seconds")
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
        "lost_at": lost_when,
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
            "jobs": figures["jobs"],
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
