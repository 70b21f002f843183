"""What the notes tell an AAR to type works, in its own sandbox."""

import re
from pathlib import PurePosixPath

import language_kit as kit

from aarlab.agents.language.prompts import note_texts
from aarlab.agents.language.spec import LanguageSpec
from aarlab.sandbox.running import run
from aarlab.sandbox.workspace import copy_in, copy_out

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_command_of_the_notes_runs(desk: kit.Bench) -> None:
    config = desk.config(LanguageSpec(model="scripted/elicitor"), "notes")
    ran = 0
    with kit.aar(config) as aar:
        sandbox = aar.kit.sandbox
        assert sandbox.isolated
        listed = run(sandbox, ["/bin/ls", "/notes"]).stdout.decode().split()
        assert listed == sorted(note_texts())
        for name in listed:
            text = run(sandbox, ["/bin/cat", f"/notes/{name}"]).stdout.decode()
            for language, code in BLOCK.findall(text):
                if language == "python":
                    path = code.splitlines()[0].removeprefix("# file: ")
                    assert PurePosixPath(path).name == "method.py"
                    copy_in(sandbox, {path: code.encode()})
                    continue
                done = run(sandbox, ["/bin/bash", "-e", "-c", code])
                assert done.ok, f"{name}:\n{code}\n{done.stderr.decode()}"
                assert done.stdout.strip(), f"{name} prints nothing:\n{code}"
                ran += 1
        for out in ("out/mine", "out/posterior"):
            assert copy_out(sandbox, f"{out}/predictions.json", 2**20)
    assert ran == 6


def test_notes_are_read_only_and_name_no_unfilled_place(desk: kit.Bench) -> None:
    config = desk.config(LanguageSpec(model="scripted/elicitor"), "notes2")
    with kit.aar(config) as aar:
        done = run(aar.kit.sandbox, ["/bin/sh", "-c", "echo x > /notes/README.md"])
        assert not done.ok and b"Read-only" in done.stderr
        text = run(aar.kit.sandbox, ["/bin/sh", "-c", "cat /notes/*"]).stdout.decode()
    for place in ("{public}", "{workspace}", "{teacher_seeds}", "{notes_folder}"):
        assert place not in text


def test_without_notes_there_are_none(desk: kit.Bench) -> None:
    config = desk.config(LanguageSpec(model="scripted/elicitor", notes=False), "without")
    with kit.aar(config) as aar:
        assert not run(aar.kit.sandbox, ["/bin/ls", "/notes"]).ok
        assert "/notes" not in aar.system
