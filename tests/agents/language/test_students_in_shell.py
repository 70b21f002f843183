"""An AAR's own commands train on a student server, with the command that its notes give."""

import json
import re
import shlex
from pathlib import Path

import language_kit as kit
from student_kit import served
from toy_campaign import toy_spec

from aarlab.agents.config import AarConfig
from aarlab.agents.language.loop import sandbox_of
from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.students import Access
from aarlab.core.layout import DataRoot, RunDir
from aarlab.sandbox.running import run
from aarlab.sandbox.workspace import copy_in, copy_out
from aarlab.testbed.methods.named_method import named_files

SPEC = LanguageSpec(model="mockllm/model")


def command_in_notes(config: AarConfig) -> list[str]:
    """The first command of the notes that tries a method; the notes are written when an AAR is."""
    with kit.aar(config, kit.mock_spec(kit.script())):
        text = (config.home / "notes" / "testbed.md").read_text(encoding="utf-8")
    found = re.search(r"^cd \S+ && (python -m .* mine out/mine .*--seeds 1)$", text, re.MULTILINE)
    assert found is not None
    return shlex.split(found[1])


def tried(config: AarConfig, method: str) -> dict:
    """What the command leaves, run in the AAR's sandbox."""
    words, spec = command_in_notes(config), sandbox_of(config, SPEC)
    files = named_files(method).items()
    copy_in(spec, {f"mine/{path}": text.encode() for path, text in files})
    done = run(spec, words)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(copy_out(spec, "out/mine/predictions.json", 2**20)) | {"words": words}


def test_the_command_of_the_notes_gives_the_same_predictions(
    desk: kit.Bench, toy_root: DataRoot, tmp_path: Path
) -> None:
    plain = tried(desk.config(SPEC, "plain"), "vanilla")
    config = desk.config(SPEC, "served")
    with served(tmp_path):
        access = Access(
            RunDir(tmp_path / "run"), toy_root, toy_spec(), (tmp_path / "s",), ("rowan",)
        )
        access.admit(tmp_path / "s", tmp_path / "locks")
        config = config.model_copy(update={"students": access.of("rowan")})
        on_server = tried(config, "vanilla")
    assert "aarlab.students.trying" in on_server["words"]
    assert on_server["runs"] == plain["runs"]
    assert "aarlab.students.trying" not in plain["words"]
