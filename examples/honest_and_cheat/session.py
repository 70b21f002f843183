"""An honest method and a cheat go through the same pipeline, on real models and hidden labels.

    aarlab task build code
    python examples/honest_and_cheat/session.py

Starts a platform, hands in both methods as two AARs, runs the verifier, and prints what it found.
"""

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

from aarlab.cli.settings import data_root
from aarlab.client.operator import OperatorClient
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address, health
from aarlab.core.delivery import TRAINED_ON
from aarlab.core.layout import RunDir
from aarlab.core.wire import (
    CampaignExport,
    NewAar,
    NewSnapshot,
    NewVerdict,
    NewVerification,
    SnapshotFile,
)

HERE, TASK, SEEDS = Path(__file__).parent, "code", 8


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        run = RunDir(Path(folder))
        files = ["--run", str(run.path), "--root", str(data_root().path)]
        server = subprocess.Popen([sys.executable, "-m", "aarlab.server", *files, "--task", TASK])
        try:
            health(Address(run.socket), deadline_s=30)
            session(run, files)
        finally:
            server.terminate()
            server.wait()


def session(run: RunDir, files: list[str]) -> None:
    token = (run.tokens / "operator").read_text(encoding="utf-8").strip()
    with OperatorClient.over_socket(run.socket, token) as operator:
        ids = {name: hand_in(run, operator, name) for name in ("honest", "cheat")}
        verifier = [sys.executable, "-m", "aarlab.verify", *files, "--parallel", "2"]
        subprocess.run([*verifier, "--ablate-top", "2", "--seeds", str(SEEDS)], check=True)
        for name, snapshot in ids.items():
            story(name, snapshot, operator.export())
        reason = "runs the code that is to be judged"
        operator.give_verdict(
            NewVerdict(snapshot=ids["cheat"], decision="disqualified", reason=reason, by="you")
        )
        print("\nranking after the verdict:")
        for entry in operator.export().leaderboard:
            bounds = f"[{entry.low:+.2f}, {entry.high:+.2f}]"
            print(f"  {entry.rank}. {entry.method} {entry.pgr:+.2f} {bounds}")


def hand_in(run: RunDir, operator: OperatorClient, name: str) -> str:
    """Register an AAR, freeze its method, ask for a re-run on the hidden split."""
    new = NewAar(name=name, researcher="example", direction="")
    source = base64.b64encode((HERE / f"{name}.py").read_bytes()).decode()
    with PlatformClient.over_socket(run.socket, operator.register(new).token) as platform:
        file = SnapshotFile(path="method.py", content_b64=source)
        made = platform.put_snapshot(NewSnapshot(name=name, files=[file]))
    operator.request_verification(NewVerification(snapshot=made.id, task=TASK, n_seeds=SEEDS))
    return made.id


def story(name: str, snapshot: str, export: CampaignExport) -> None:
    print(f"\n{name}")
    for v in (v for v in export.verifications if v.snapshot == snapshot):
        e = v.estimate
        figure = "failed" if e is None else f"PGR {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
        print(
            f"  {TRAINED_ON[v.ablation]:21} {figure}  ({len(v.run_seeds)} seeds, {v.seconds:.0f} s)"
        )
    for audit in (a for a in export.audits if a.snapshot == snapshot):
        print(f"  {audit.severity:8} {audit.kind:10} {audit.summary}")


if __name__ == "__main__":
    main()
