"""A campaign on a cluster that loses a node, and what must hold of it afterwards.

Language-model AARs, with a vendor's own client against a fake endpoint that counts what it is
asked, beside control researchers, on the toy task. Nothing here knows the cluster's engine.
"""

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psutil
import yaml
from fake_models import FakeModels, Fault
from fake_talk import Conversation, Reply
from fault_scripts import worker
from toy_campaign import command, finished

from aarlab.agents.state import load_state
from aarlab.core.files import text_in
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import CampaignExport
from aarlab.report.load import load_export
from aarlab.store.log import verify_log

MODEL = "anthropic/claude-x"
STEPS = 24
THINKS = [Fault("slow", every=1, wait_s=0.5)]
CONTROLS = ("random", "evolutionary")


def steady(said: Conversation) -> Reply:
    """What the models say: it works, submits, freezes and posts in turn, then finishes."""
    return worker(said, STEPS)


METHOD = """\
def fit(task, student, seed):
    return student.new(student.options).fit(task.inputs, task.weak_labels_N)
"""
SERVED = "python -m aarlab.students.trying --socket /students/socket --tokens /students/tokens"
TRAIN = f"""\
mkdir -p t && cat > t/method.py <<'END' && {SERVED} t t/out --seeds 1
{METHOD}END
"""
TRAINED = "wrote t/out/predictions.json"  # is in the result of a command that began with TRAIN


def training(said: Conversation) -> Reply:
    """The same, and each of its commands trains a student on the student server first."""
    reply = steady(said)
    calls = tuple(
        replace(call, arguments={"command": TRAIN + call.arguments["command"]})
        if call.name == "bash"
        else call
        for call in reply.calls
    )
    return replace(reply, calls=calls)


def spec_of(
    fake: FakeModels, executor: dict[str, Any], languages: list[str], controls: list[str]
) -> dict[str, Any]:
    """A campaign's spec: language AARs and control researchers by name."""
    price = {"dated": "made up", "input": 3.0, "output": 15.0}
    direction = "elicitation"
    return {
        "name": "cluster",
        "tasks": ["gauss"],
        "executor": executor,
        "language": {"model": MODEL, "base_url": fake.anthropic_url, "max_output_tokens": 500},
        "prices": {MODEL: price},
        "aars": [
            *({"name": n, "researcher": "language", "direction": direction} for n in languages),
            *(
                {"name": n, "researcher": CONTROLS[i % 2], "direction": direction, "seed": i}
                for i, n in enumerate(controls)
            ),
        ],
        "limits": {"submissions": 6, "dollars": 50.0},
        "seeds_per_submission": 2,
        "verify": {"top": 1, "ablate_top": 0, "seeds": 2, "certify": False, "live": False},
    }


TRIALS = 30  # so that most control researchers still work when their nodes are lost


def in_pods(spec: dict[str, Any], pods: dict[str, list[str]]) -> dict[str, Any]:
    """A spec with its AARs in the order of the pods, each pod with student servers on the CPU."""
    order = [name for members in pods.values() for name in members]
    spec["aars"].sort(key=lambda aar: order.index(aar["name"]))
    for aar in spec["aars"]:
        aar["limits"] = {"submissions": TRIALS, "dollars": 50.0}
    return spec | {"student_server": {"device": "cpu"}}


class Cluster(Protocol):
    """An engine with nodes that tests take away, as in `slurm` and `ray_cluster`."""

    def lose(self, node: str, whole: bool = True) -> None: ...


class Course:
    """A campaign under way on a cluster, and the nodes on which each of its jobs was seen.

    `where` says on which node each job runs now. Nothing is verified at the end.
    """

    def __init__(
        self,
        root: DataRoot,
        folder: Path,
        spec: dict[str, Any],
        where: Callable[[], dict[str, str]],
    ) -> None:
        self.run, self._where = RunDir(folder / "run"), where
        self.seen = defaultdict[str, list[str]](list)
        spec["verify"]["top"] = 0
        path = folder / "spec.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        self._process = command(root, "campaign", "run", str(path), "--out", str(self.run.path))

    def look(self) -> None:
        for name, node in self._where().items():
            if node not in self.seen[name]:
                self.seen[name].append(node)
        time.sleep(0.2)

    def until(self, true: Callable[[], bool]) -> None:
        """Look on until something is true; the campaign must not end before."""
        while not true():
            assert self._process.poll() is None, finished(self._process)
            self.look()

    def worked(self, names: list[str]) -> dict[str, str]:
        """Look on until each of these AARs has made three calls; return where the jobs are."""
        self.until(lambda: min(calls(self.run, name) for name in names) >= 3)
        return self._where()

    def lose_two(
        self, fake: FakeModels, cluster: Cluster, first: str, other: str, log: Path
    ) -> None:
        """Of two nodes one dies. Of the first its engine loses sight, and what is there lives on.

        It lives to see its successor: calls are slow until its log says so. Then the campaign ends.
        """
        fake.replan([Fault("slow", every=1, wait_s=2.0)])
        cluster.lose(first, whole=False)
        cluster.lose(other)
        self.until(lambda: "a newer process of" in text_in(log))
        fake.replan([])
        self.end()

    def end(self) -> None:
        """Look on until the campaign has ended well."""
        while self._process.poll() is None:
            self.look()
        code, out = finished(self._process)
        assert code == 0, out

    def kill(self) -> None:
        self._process.kill()


def homes(nodes: Path, name: str) -> list[Path]:
    """The folders of an AAR on nodes that share none, the one with its newest life first."""
    found = [path.parent for path in nodes.glob(f"**/aars/{name}/life")]
    return sorted(found, key=lambda home: -int((home / "life").read_text()))


def calls(run: RunDir, name: str) -> int:
    """How many model calls an AAR has begun."""
    path = run.aar(name) / "loop.json"
    return int(json.loads(path.read_text())["calls"]) if path.exists() else 0


def results(run: RunDir, name: str, text: str) -> int:
    """How many results of an AAR's tools hold a text, as its transcript has them."""
    place = run.aar(name) / "transcript.jsonl"
    entries = read_transcript(place) if place.exists() else ()
    return sum(entry.kind == "tool_result" and text in entry.text for entry in entries)


def lives(run: RunDir) -> dict[str, int]:
    """The number of processes that each AAR has had."""
    return {path.parent.name: int(path.read_text()) for path in run.path.glob("aars/*/life")}


def events(run: RunDir, kind: str) -> list[dict[str, Any]]:
    lines = run.events.read_text().splitlines() if run.events.exists() else []
    return [event for line in lines if (event := json.loads(line))["kind"] == kind]


def until(true: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def recorded(export: CampaignExport) -> int:
    """Model calls in the ledger."""
    return sum(spend.calls for spend in export.model_spend)


def log_of_kept(run: RunDir, pod: str) -> Path:
    """Where an engine writes on a node what the processes of a pod say, if it shares no folder."""
    return Path("/tmp") / f"aarlab-cluster-{pod}-{sha256_hex(str(run.pod(pod).absolute()))[:8]}.log"


def secrets_of(run: RunDir) -> list[str]:
    """Tokens of AARs and of the operator, the keys of supervisors and of pods."""
    folders = (run.tokens, run.platform / "pods", run.platform / "supervisors")
    files = [path for folder in folders if folder.exists() for path in folder.iterdir()]
    return [path.read_text().strip() for path in files]


def _pods(run: RunDir, name: str) -> list[psutil.Process]:
    """Processes of a pod of this campaign: its command line holds the campaign's key file."""
    mark = str(run.platform / "pods" / name)
    return [
        p
        for p in psutil.process_iter()
        if any(mark in word for word in _words(p)) and "setpriv" not in _words(p)[0]
    ]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill_kept(run: RunDir, nodes: Path, name: str) -> None:
    """Kill a kept pod of the local executor and remove its folder: as on a node that is gone."""
    [pod] = _pods(run, name)
    family = [*pod.children(recursive=True), pod]
    pod.kill()
    psutil.wait_procs(family, 20)
    assert not [each for each in family if each.is_running()], "it took its children along"
    [folder] = nodes.glob(f"{name}-*")
    shutil.rmtree(folder)


def key_file(folder: Path, fake: FakeModels, *more: str, devices: Path | None = None) -> Path:
    """Write the file from which nodes read the model's key, and more lines.

    With `devices` each job has devices of its own, as with GPUs that the engine gives to one job:
    a folder of locks below it, named after the job's first process.
    """
    path = folder / "keys"
    lines = [f"ANTHROPIC_API_KEY={fake.key}", *more]
    lines += [] if devices is None else [f'AARLAB_DEVICE_LOCKS="{devices}/$$"']
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o600)
    return path


def check_whole(
    run: RunDir, fake: FakeModels, kills: int, steady: bool = True, nodes: Path | None = None
) -> CampaignExport:
    """Nothing is lost or doubled: log, ledger, transcripts, submissions, snapshots, findings.

    Workspaces are below `nodes` where the nodes do not share the run's folder. `kills` is the
    number of language AARs that were on the lost node: each may have paid the call twice that was
    in flight. Only the `steady` script notes the commands that it ran.
    """
    export = load_export(run.export)
    verify_log(run.database)
    counts = fake.counts()
    assert counts.wrong_key == 0 and counts.leaks == []
    asked, booked = counts.n_paid, recorded(export)
    assert booked <= asked <= booked + kills, (booked, asked, kills)
    assert sum(n - 1 for n in counts.paid.values()) <= kills
    for aar in export.aars:
        home = run.aar(aar.name)
        newest = home if nodes is None else homes(nodes, aar.name)[0]
        _check_aar(home, aar.name, export, newest if steady else None)
    total = {kind: sum(int(a.spend.get(kind, 0)) for a in export.aars) for kind in TOKEN_KINDS}
    heard = {kind: counts.distinct_tokens.get(kind, 0) for kind in TOKEN_KINDS}
    assert all(total[kind] <= heard[kind] for kind in TOKEN_KINDS)
    # An AAR that was moved is told so, and may ask what it had asked in other words.
    assert nodes is not None or total == heard, "right to the token"
    return export


def _check_aar(home: Path, name: str, export: CampaignExport, newest: Path | None) -> None:
    state = load_state(home / "state.json")
    assert state.finished, name
    if state.trials:  # a control researcher
        mine = [s.id for s in export.submissions if s.aar == name]
        assert mine and [t.score.submission for t in state.done if t.score] == mine, name
        return
    for made in (
        [s.method for s in export.submissions if s.aar == name],
        [s.name for s in export.snapshots if s.aar == name],
        [f.title for f in export.findings if f.author == name],
    ):
        assert made and len(made) == len(set(made)), Counter(made).most_common(3)
    entries = list(read_transcript(home / "transcript.jsonl"))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    told = [entry for entry in entries if entry.kind == "tool_result"]
    assert len({entry.call for entry in told}) == len(told), "each call has one result"
    spent = next(aar.spend for aar in export.aars if aar.name == name)
    dollars = sum(entry.dollars or 0.0 for entry in entries)
    assert abs(dollars - spent["dollars"]) < 1e-9 * max(dollars, 1.0)
    if newest is not None:
        ran = (newest / "workspace" / "log.txt").read_text().split()
        assert len(ran) == len(set(ran)), "no command ran twice"
