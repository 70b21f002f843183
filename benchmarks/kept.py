"""Bytes that an AAR without a shared folder sends to keep its state, by turn.

    python benchmarks/kept.py

A real server, loop and sandbox; the model is scripted: each turn has 3 KB of text and a
command with a result of 4 KB. `whole` sends the conversation as one blob, and the transcript's last
part as well, as before 2026-11-30.
"""

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))

import language_kit as kit
from toy_campaign import build_toy

from aarlab.agents import keeping
from aarlab.agents.language.prompts import text_of
from aarlab.agents.specs import LanguageSpec
from aarlab.client.platform import PlatformClient
from aarlab.core.layout import DataRoot, RunDir
from aarlab.sandbox.workspace import prepare_workspace

TEXT, RESULT = 3000, 4000


def replying(turns: int) -> kit.Mock:
    n = 0

    def reply(messages: list) -> kit.ModelOutput:
        nonlocal n
        if text_of("summary").split("\n")[0] in messages[-1].text:
            return kit.answer("I tried " + secrets.token_hex(TEXT // 2))
        n += 1
        if n > turns:
            return kit.calls(("finish", {"reason": "done"}))
        said = f"# {secrets.token_hex(TEXT // 2)}\n"
        said += f"head -c {RESULT // 2} /dev/urandom | od -An -tx1 -v | tr -d ' '"
        return kit.calls(("bash", {"command": said}))

    return kit.Mock(reply)


def sent(desk: kit.Bench, turns: int, context: int, whole: bool) -> dict[str, float]:
    """Live for so many turns; return what was sent, in all."""
    name = f"t{turns}-{context}-{whole}".lower()
    config = desk.config(LanguageSpec(model="mockllm/model"), name)
    home = desk.running.run.path.parent / "nodes" / name
    prepare_workspace(home / "workspace", config.uid)
    config = config.model_copy(update={"kept": True, "home": home})
    counts = {"blobs": 0, "manifests": 0, "n_manifests": 0, "n_blobs": 0}
    put_blob, put_manifest = PlatformClient.put_blob, PlatformClient.put_manifest
    cut, piece = keeping.stretches, keeping.PIECE_BYTES

    def blob(self: PlatformClient, sha: str, data: bytes) -> None:
        counts["blobs"] += len(data)
        counts["n_blobs"] += 1
        put_blob(self, sha, data)

    def manifest(self: PlatformClient, made: keeping.Manifest) -> None:
        counts["manifests"] += len(made.model_dump_json())
        counts["n_manifests"] += 1
        put_manifest(self, made)

    PlatformClient.put_blob, PlatformClient.put_manifest = blob, manifest
    if whole:
        keeping.stretches, keeping.PIECE_BYTES = (lambda data: [data]), keeping.PART_BYTES
    try:
        spec = kit.mock_spec(replying(turns), context_tokens=context, max_turns=turns + 5)
        state = kit.live(config, spec)
    finally:
        PlatformClient.put_blob, PlatformClient.put_manifest = put_blob, put_manifest
        keeping.stretches, keeping.PIECE_BYTES = cut, piece
    assert state.finished and state.turn >= turns, state.why
    size = (home / "loop.json").stat().st_size
    return {"turns": turns, "context_tokens": context, "whole": whole, "loop_bytes": size, **counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, nargs="*", default=[50, 200, 1000])
    parser.add_argument("--context", type=int, nargs="*", default=[150_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_toy(Path(folder) / "toy")
        root = DataRoot(Path(folder) / "toy")
        with kit.bench(root, RunDir(Path(folder) / "run"), "--task", "gauss") as desk:
            for context in given.context:
                for turns in given.turns:
                    for whole in (True, False):
                        found = sent(desk, turns, context, whole)
                        found["kb_a_turn"] = round(
                            (found["blobs"] + found["manifests"]) / turns / 1000, 1
                        )
                        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
