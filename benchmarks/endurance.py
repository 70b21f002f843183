"""Nine scripted language-model AARs on two cores for an hour: memory, overhead, exact accounts.

    python benchmarks/endurance.py --seconds 3600 --pause 180 --out benchmarks/endurance.md

Real platform process, real AAR processes, real sandboxes, on the toy task of the tests. The models
are scripts: they write methods, run, mend and submit them, post and read, and their conversations
are compacted. `--pause` is waited for in each round of an AAR (about 13 model calls), as answers of
a real model would be; the methods' own runs are not supervisor time. What is measured of an AAR is
its supervisor process alone; the sandboxes' work is left out.
"""

import argparse
import json
import os
import platform as machine
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import psutil
from language_kit import Bench, bench
from toy_campaign import build_toy

from aarlab.agents.config import AarConfig
from aarlab.agents.prices import Price
from aarlab.agents.specs import LanguageSpec
from aarlab.core.layout import RunDir
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import CampaignExport
from aarlab.core.wire_ledger import NewControl

SCRIPTS = (
    "elicitor",
    "reweighter",
    "combiner",
    "distiller",
    "simplifier",
    "dynamicist",
    "pollster",
    "majority",
    "flipper",
)
MB = 2**20
SAMPLE_S = 10.0
GRACE_S = 120.0


@dataclass
class Watched:
    """One AAR process; samples are (seconds since the start, resident MB, CPU seconds so far)."""

    config: AarConfig
    process: subprocess.Popen[bytes]
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    def sample(self, at_s: float) -> None:
        try:
            seen = psutil.Process(self.process.pid)
            cpu = seen.cpu_times()
            self.samples.append((at_s, seen.memory_info().rss / MB, cpu.user + cpu.system))
        except psutil.Error:
            return

    def memory(self, from_s: float, to_s: float) -> float:
        seen = [rss for at, rss, _ in self.samples if from_s <= at < to_s]
        return statistics.median(seen) if seen else float("nan")

    @property
    def peak(self) -> float:
        return max(rss for _, rss, _ in self.samples)

    def cpu_between(self, from_s: float, to_s: float) -> float:
        seen = [cpu for at, _, cpu in self.samples if from_s <= at < to_s]
        return seen[-1] - seen[0] if len(seen) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--pause", type=float, default=180.0, help="seconds of an AAR's round")
    parser.add_argument("--context", type=int, default=12_000, help="tokens until compaction")
    parser.add_argument("--out", type=Path, default=HERE / "endurance.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        root = build_toy(Path(folder) / "data")
        with bench(root, RunDir(Path(folder) / "run"), "--task", "gauss") as made:
            watched = [started(made, name, given) for name in SCRIPTS]
            took_s = attend(watched, given.seconds)
            export = ended(made, watched)
            page = report(watched, export, took_s, given)
    given.out.write_text(page, encoding="utf-8")
    print(page)


def started(made: Bench, script: str, given: argparse.Namespace) -> Watched:
    model = f"scripted/{script}"
    options = {"rounds": 1_000_000, "pause_s": given.pause}
    spec = LanguageSpec(model=model, model_args=options, context_tokens=given.context)
    config = made.config(spec, name=script)
    price = Price(model=model, dated="made up", input=3.0, output=15.0)
    config = config.model_copy(update={"prices": {model: price}})
    (config.home / "aar.json").write_text(config.model_dump_json(), encoding="utf-8")
    return Watched(config, spawned(config))


def spawned(config: AarConfig) -> subprocess.Popen[bytes]:
    with (config.home / "aar.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aarlab.agents", str(config.home / "aar.json")],
            stdout=log,
            stderr=log,
        )


def attend(watched: list[Watched], seconds: float) -> float:
    begun = time.monotonic()
    while (at_s := time.monotonic() - begun) < seconds:
        for one in watched:
            assert one.process.poll() is None, f"{one.config.name} ended: see its aar.log"
            one.sample(at_s)
        time.sleep(SAMPLE_S)
    return time.monotonic() - begun


def ended(made: Bench, watched: list[Watched]) -> CampaignExport:
    """Stop all AARs as an operator does, then take the books."""
    with made.running.operator() as operator:
        for one in watched:
            name, stop = one.config.name, NewControl(action="stop", by="bench")
            operator.control(name, stop, key=f"stop-{name}")
        for one in watched:
            assert one.process.wait(GRACE_S) == 0, f"{one.config.name}: see its aar.log"
        return operator.export()


def accounts(watched: list[Watched], export: CampaignExport) -> list[str]:
    """Differences between what each AAR was told its calls took and the platform's books."""
    wrong = []
    for one in watched:
        [booked] = [aar.spend for aar in export.aars if aar.name == one.config.name]
        entries = list(read_transcript(one.config.home / "transcript.jsonl"))
        for kind in TOKEN_KINDS:
            told = sum(entry.tokens.get(kind, 0) for entry in entries)
            if told != booked.get(kind, 0):
                wrong.append(f"{one.config.name}: {told} {kind} told, {booked.get(kind)} booked")
        dollars = sum(entry.dollars or 0.0 for entry in entries)
        if abs(dollars - booked.get("dollars", 0.0)) > 1e-9 * max(dollars, 1):
            wrong.append(f"{one.config.name}: {dollars} dollars told, {booked['dollars']} booked")
    return wrong


def report(
    watched: list[Watched], export: CampaignExport, took_s: float, given: argparse.Namespace
) -> str:
    """The page: a table of AARs and what the aims say."""
    warm = min(300.0, took_s / 6)
    calls = {one.config.name: model_calls(one) for one in watched}
    cpu_s = sum(one.cpu_between(warm, took_s) for one in watched)
    share = cpu_s / (took_s - warm)
    wrong = accounts(watched, export)
    peak = max(one.peak for one in watched)
    growth = max(grown(one, warm, took_s) for one in watched)
    n = len(watched)
    lines = [
        "# Nine AARs for an hour",
        "",
        " ".join((__doc__ or "").split("\n\n", 1)[1].split("\n\n", 1)[1].split()),
        "",
        f"`--seconds {given.seconds:g} --pause {given.pause:g} --context {given.context}`, run for "
        f"{took_s / 60:.0f} minutes on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores "
        f"({machine.processor() or machine.machine()}), Python {machine.python_version()}. Other "
        "work ran on the same two cores meanwhile, so that wall times are noisy; CPU seconds and "
        "memory are those of the processes alone.",
        "",
        "| aim | measured |",
        "|---|---|",
        f"| at most 200 MB per AAR | {peak:.0f} MB at the most (resident, shared pages included) |",
        f"| memory flat | {growth:+.1f} MB at the most from the first to the last quarter |",
        f"| supervisors below 3 % of wall time | {share:.1%} all nine together, "
        f"{share / n:.2%} each ({cpu_s:.0f} CPU s in {took_s - warm:.0f} s; start excluded) |",
        f"| tokens and dollars exact | {'; '.join(wrong) or 'every AAR, every kind'} |",
        "",
        "| AAR | model calls | compactions | submissions | MB first / last quarter | peak MB | "
        "CPU ms a call |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in watched:
        name, quarter = one.config.name, (took_s - warm) / 4
        made, compacted = calls[name]
        cpu_ms = 1000 * one.samples[-1][2] / max(made, 1)
        scored = sum(s.aar == name for s in export.submissions)
        first, last = one.memory(warm, warm + quarter), one.memory(took_s - quarter, took_s)
        lines.append(
            f"| {name} | {made} | {compacted} | {scored} | {first:.1f} / {last:.1f} | "
            f"{one.peak:.1f} | {cpu_ms:.0f} |"
        )
    lines += ["", "CPU a call includes the start of the process (about 3 s of imports)."]
    return "\n".join(lines) + "\n"


def grown(one: Watched, warm: float, took_s: float) -> float:
    quarter = (took_s - warm) / 4
    return one.memory(took_s - quarter, took_s) - one.memory(warm, warm + quarter)


def model_calls(one: Watched) -> tuple[int, int]:
    """Model calls, and stretches of conversation that a compaction began."""
    state = json.loads((one.config.home / "loop.json").read_text(encoding="utf-8"))
    return state["calls"], state["part"]


if __name__ == "__main__":
    main()
