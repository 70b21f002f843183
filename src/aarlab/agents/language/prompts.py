"""Prompts and background notes of an AAR: short texts in `prompts/`, filled in here.

`prompt_hash` covers all of them. A campaign freezes the hash; an AAR that continues after a restart
refuses other texts. The notes are filled in for the AAR's sandbox, which has them read-only.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from aarlab.agents.specs import LanguageSpec
from aarlab.core.files import write_atomic
from aarlab.core.hashing import content_hash
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.wire import TaskInfo
from aarlab.sandbox.spec import SandboxLimits

PROMPT_VERSION = 3
UNDIRECTED = ("", "undirected", "none")


# What prompts say of the research problem, for any problem and for one with weak labels.
_ANY = {
    "question": "{title}.",
    "question_in_short": "{title}. {in_words}",
    "with_labels": "",
    "task_fields": "`inputs` and `groups`",
    "sources": "the student's knowledge",
    "fresh": "seeds",
    "reading": "`read_rows` (train, search), page by page",
}
_WITH_WEAK_LABELS = {
    "question": (
        "{title}: how can a strong model learn from a\nweaker teacher and become better than its "
        "teacher? This stands in for people who oversee models\nsmarter than themselves."
    ),
    "question_in_short": (
        "a weak teacher labelled rows with probabilities (weak labels). Find methods by which\n"
        "a strong student, trained on them and on no true label, becomes better than its teacher.\n"
        "PGR = (student - teacher) / (ceiling - teacher), in accuracy; the ceiling is the student "
        "trained on true labels."
    ),
    "with_labels": " with weak labels",
    "task_fields": "`inputs`, `weak_labels_N`, `groups` and `teacher_labels_SN`",
    "sources": "the teacher's labels or the student's knowledge",
    "fresh": "weak teachers and seeds",
    "reading": "`read_rows` (train, search) and `weak_labels`, page by page",
}


def words_of(problem: ProblemFacts) -> dict[str, str]:
    """Return the values of {brief}, {figure}, {question} and so on, which prompts use."""
    words = _WITH_WEAK_LABELS if problem.weak_labels else _ANY
    facts = {"title": problem.title, "in_words": problem.in_words}
    shipped = problem.weak_labels and not problem.brief
    return {name: filled(text, facts) for name, text in words.items()} | {
        "brief": text_of("weak_to_strong") if shipped else f"{problem.brief}\n{problem.in_words}\n",
        "figure": problem.figure,
    }


class SeenTask(NamedTuple):
    """A development task and its public folder as seen inside."""

    info: TaskInfo
    folder: str


def text_of(name: str) -> str:
    return _file("prompts", f"{name}.md")


def note_texts() -> dict[str, str]:
    """Return the background notes as shipped, by file name."""
    return _folder("notes")


def notes_about(problem: ProblemFacts) -> dict[str, str]:
    """Return the background notes on a research problem, by file name."""
    if problem.weak_labels:
        return note_texts()
    return {"README.md": f"# {problem.title}\n\n{problem.brief}\n{problem.in_words}\n"}


def directions() -> dict[str, str]:
    """Return the directions that ship, by name."""
    found: dict[str, str] = json.loads(_file("", "directions.json"))
    return found


def direction_text(direction: str) -> str:
    """Return a shipped direction by name; any other text is the campaign's own direction."""
    if direction in UNDIRECTED:
        return ""
    return directions().get(direction, direction)


def prompt_hash() -> str:
    """Return the SHA-256 over every prompt, note and direction that ships."""
    parts = {"version": PROMPT_VERSION, "prompts": _folder("prompts"), "notes": note_texts()}
    return content_hash({**parts, "directions": directions()})


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with only the named places replaced: a value is never read as a template."""
    pieces = text.split("{")
    done = [pieces[0]]
    for piece in pieces[1:]:
        name, closed, rest = piece.partition("}")
        done.append(values[name] + rest if closed and name in values else "{" + piece)
    return "".join(done)


def limits_text(limits: SandboxLimits, command_s: float | None = None) -> str:
    """Describe the enforced limits of a command in this sandbox.

    `command_s` is the default and the maximum time of one command, in seconds. Without it the text
    gives the time of a whole run.
    """
    time = f"a run may take {limits.wall_s:,.0f} seconds"
    if command_s is not None:
        time = (
            f"a command may take {command_s:,.0f} seconds, by default and at most; use "
            "`start_background` for longer ones"
        )
    return (
        f"Limits: {time}. All processes together may use {limits.memory_mb:,} MB of memory and "
        f"{limits.cpu_s:,.0f} seconds of processor time, and there may be {limits.processes:,} "
        f"processes and threads. A file may have {limits.file_mb:,} MB, the workspace "
        f"{limits.disk_mb:,} MB and {limits.entries:,} files and folders. /tmp and /dev/shm are in "
        f"memory, with {limits.tmp_mb:,} MB each. Whatever exceeds a limit is ended, and the "
        "error names the limit."
    )


TRYING = "python -m aarlab.testbed.running.trying"


def places_of(
    tasks: Sequence[SeenTask],
    workspace: Path | str,
    notes: Path | str,
    limits: str = "",
    trying: str = TRYING,
) -> dict[str, str]:
    """Return the values of {public} (of the first task), {workspace}, {limits} and so on.

    Prompts and notes use these placeholders. `trying` is the command that runs a method.
    """
    first, *others = tasks
    more = f" Other tasks are in {', '.join(o.folder for o in others)}; what the notes say about "
    return {
        "public": first.folder,
        "more_tasks": f"{more}{first.folder} applies to them too." if others else "",
        "workspace": str(workspace),
        "notes_folder": str(notes),
        "limits": limits,
        "python": "python",
        "trying": trying,
        "teacher_seeds": ", ".join(map(str, first.info.teacher_seeds)),
    }


def system_text(
    name: str,
    direction: str,
    spec: LanguageSpec,
    tasks: Sequence[SeenTask],
    places: Mapping[str, str],
) -> str:
    """Return the system prompt, which lists all tasks. `places` are those of `places_of`."""
    chosen = direction_text(direction)
    notes = ""
    if spec.notes:
        notes = (
            f"Background notes are in {places['notes_folder']}: start with "
            f"{places['notes_folder']}/README.md."
        )
    forum = ""
    if spec.forum:
        forum = (
            ". It has a forum shared by all AARs, whose posts are also in "
            f"{places['workspace']}/findings"
        )
    values = {
        **places,
        "name": name,
        "tasks": _tasks(tasks),
        "data": tasks[0].folder if len(tasks) == 1 else "the folder of each task",
        "notes": notes,
        "forum": forum,
        "workflow": _workflow(spec),
        "direction": f"\n\n## Your direction\n{chosen}" if chosen else "",
    }
    problem = tasks[0].info.problem
    return filled(text_of("system"), {**values, **words_of(problem)})


def _tasks(tasks: Sequence[SeenTask]) -> str:
    if len(tasks) == 1:
        return f"The task: {_task(tasks[0].info)}"
    listed = "\n".join(f"- `{t.info.name}` in {t.folder}: {_task(t.info)}" for t in tasks)
    return (
        f"There are {len(tasks)} tasks. Try your methods on all of them: a method that you submit "
        f"is verified on each task, unless you name one, and scores are kept apart.\n{listed}"
    )


def _task(info: TaskInfo) -> str:
    return (
        f"{info.title} ({info.kind}; {info.n_train} train rows, {info.n_search} search rows). "
        f"{info.description}"
    )


def _workflow(spec: LanguageSpec) -> str:
    if spec.workflow == "prescribed":
        return text_of("prescribed")
    if spec.workflow == "pool":
        ideas = "\n".join(f"- {idea}" for idea in spec.idea_pool)
        return filled(text_of("pool"), {"ideas": ideas})
    return ""


def _file(folder: str, name: str) -> str:
    root = resources.files("aarlab.agents.language")
    return (root / folder / name if folder else root / name).read_text(encoding="utf-8")


def _folder(name: str) -> dict[str, str]:
    root = resources.files("aarlab.agents.language") / name
    names = sorted(entry.name for entry in root.iterdir() if entry.name.endswith(".md"))
    return {entry: (root / entry).read_text(encoding="utf-8") for entry in names}


SEEN = "/notes"


def write_notes(
    folder: Path, places: dict[str, str], problem: ProblemFacts = WEAK_TO_STRONG
) -> None:
    """Write the notes with {public}, {workspace}, {python} ... replaced.

    The folder holds no other files. Those that ship are about weak-to-strong supervision; for any
    other problem its brief is the only note.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name, text in notes_about(problem).items():
        write_atomic(folder / name, filled(text, places))
