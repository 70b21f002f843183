"""What the notes tell an AAR to type works, in its own sandbox."""

import re
from pathlib import PurePosixPath

import language_kit as kit

from aarlab.agents.language.prompts import note_texts
from aarlab.agents.specs import LanguageSpec
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


def test_the_limits_that_are_told_are_those_that_hold(desk: kit.Bench) -> None:
    """Each number of the prompt and the notes is the sandbox's; time and memory are tried out."""
    spec = LanguageSpec(model="mockllm/model", tool_timeout_s=9)
    config = desk.config(spec, "told").model_copy(update={"trial_memory_mb": 1_700})
    eats = "x = bytearray({mb} * 2**20); print('held', {mb})"
    moves = (
        kit.calls(("bash", {"command": "sleep 60"})),
        kit.calls(("python", {"code": eats.format(mb=1_000)})),
        kit.calls(("python", {"code": eats.format(mb=2_000)})),
    )
    with kit.aar(config, kit.mock_spec(kit.script(*moves), tool_timeout_s=9)) as made:
        limits, system = made.kit.sandbox.limits, made.system
        told = {
            "a command may take 9 seconds, by default and at most": limits.wall_s == 9,
            "1,700 MB of memory": limits.memory_mb == 1_700,
            "36 seconds of processor time": limits.cpu_s == 36,
            f"{limits.processes:,} processes": True,
            f"A file may have {limits.file_mb:,} MB": True,
            f"the workspace {limits.disk_mb:,} MB": True,
            f"{limits.entries:,} files and folders": True,
            f"/tmp and /dev/shm are in memory, with {limits.tmp_mb:,} MB each": True,
        }
        for text, holds in told.items():
            assert text in system and holds, text
            assert text in (config.home / "notes" / "compute.md").read_text(), text
        made.run()
    slept, fits, too_much = kit.results(config)[:3]
    assert "timed out after 9 s" in slept
    assert "held 1000" in fits
    assert "held" not in too_much and ("MemoryError" in too_much or "memory" in too_much)
