"""Texts for an agent that has only MCP or the API.

The problem, the contract and the rules are taken from the prompt and notes of the built-in AARs, so
that all AARs of a campaign work under the same rules.
"""

import platform
from importlib import metadata, resources

from aarlab.agents.language.prompts import (
    TRYING,
    direction_text,
    filled,
    note_texts,
    notes_about,
    text_of,
    words_of,
)
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.wire_service import Library, MethodContract, Note, TextFile

# What methods usually import; those that are not installed are left out.
LIBRARIES = ("aarlab", "numpy", "scipy", "scikit-learn", "torch", "transformers", "safetensors")
EXAMPLE_HEAD = "# file: mine/method.py\n"
METHOD_RULES = [
    "method.py defines fit(task, student, seed); it returns an object with predict_proba(inputs)",
    "predict_proba gives an array (N,) of probabilities in [0, 1], one for each row",
    "the same seed gives the same predictions",
    "a prediction depends on its own row only, not on the other rows asked for or their order",
    "it neither changes the task it is given nor reads or writes anything outside its folder",
    "there is no network, and only the listed libraries",
]
NOTES_ARE_FOR = (
    "> Written for AARs in the platform's own sandbox. `{public}` is the task's folder there: you "
    "get its rows with `read_rows` and its weak labels with `weak_labels`. Commands of these notes "
    "run there, not where you are; `check_method` and `try_method` do for you what they do.\n\n"
)


def instructions(problem: ProblemFacts = WEAK_TO_STRONG) -> str:
    """Return the text that a client receives when it connects.

    It is short, since some clients cut it at 2,048 bytes.
    """
    return filled(_own("instructions"), words_of(problem))


def rules_text(name: str, direction: str, problem: ProblemFacts = WEAK_TO_STRONG) -> str:
    """Return the rules for the AAR `name`, including its direction."""
    chosen = direction_text(direction)
    system, words = text_of("system"), words_of(problem)
    values = {
        **words,
        "name": name,
        "problem": filled(
            _section(system, "The problem"), {**words, "tasks": "`task_info` lists the tasks."}
        ),
        "method": filled(
            _section(system, "A method"), {**words, "notes": "`notes` has background notes."}
        ),
        "rules": filled(_section(system, "Rules"), {**words, "workflow": ""}).rstrip(),
        "direction": f"\n\n## Your direction\n{chosen}" if chosen else "",
    }
    return filled(_own("rules"), values)


def method_contract(problem: ProblemFacts = WEAK_TO_STRONG) -> MethodContract:
    """Return the contract from the notes, with their example as a method folder.

    That of a problem without weak labels is its brief, without an example. Raises Damaged where
    the notes have no example.
    """
    if not problem.weak_labels:
        return _contract(problem.brief, [])
    text = _section(note_texts()["testbed.md"], "A method")
    _, opened, rest = text.partition(f"```python\n{EXAMPLE_HEAD}")
    example, closed, _ = rest.partition("```")
    if not (opened and closed):
        raise Damaged("notes/testbed.md has no example method: install aarlab again")
    return _contract(text, [TextFile(path="method.py", text=example)])


def _contract(text: str, example: list[TextFile]) -> MethodContract:
    return MethodContract(
        text=text,
        example=example,
        python=platform.python_version(),
        libraries=[*_libraries()],
        rules=METHOD_RULES,
    )


def note_names(problem: ProblemFacts = WEAK_TO_STRONG) -> list[str]:
    """List the notes, beginning with README.md, which says what the others are about."""
    return sorted(notes_about(problem), key=lambda name: (name != "README.md", name))


def note(name: str, problem: ProblemFacts = WEAK_TO_STRONG) -> Note:
    """Return one background note, adapted for a reader outside the sandbox.

    Raises NotFound, listing the notes that exist.
    """
    texts = notes_about(problem)
    if name not in texts:
        raise NotFound(f"no note {name[:60]!r}; there are {', '.join(note_names(problem))}")
    if not problem.weak_labels:
        return Note(name=name, text=texts[name])
    places = {
        "public": "$PUBLIC",
        "more_tasks": "",
        "workspace": "$WORKSPACE",
        "notes_folder": "$NOTES",
        "python": "python",
        "trying": TRYING,
        "teacher_seeds": "`task_info` lists",
    }
    return Note(name=name, text=filled(NOTES_ARE_FOR + texts[name], places))


def _libraries() -> list[Library]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(Library(name=name, version=metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _section(text: str, title: str) -> str:
    """Return the second-level section `title`, including its heading.

    Raises Damaged where the text has no such section.
    """
    _, heading, rest = text.partition(f"## {title}\n")
    if not heading:
        raise Damaged(f"the prompt has no section {title!r}: install aarlab again")
    return f"{heading}{rest.partition(chr(10) + '## ')[0]}".rstrip() + "\n"


def _own(name: str) -> str:
    root = resources.files("aarlab.agents.external") / "prompts"
    return (root / f"{name}.md").read_text(encoding="utf-8")
