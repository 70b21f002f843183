"""The three generated tasks by name: `generate(task, settings)`."""

from dataclasses import asdict

from aarlab.core.errors import BadInput
from aarlab.core.ids import checked_name
from aarlab.core.types import TaskKind
from aarlab.testbed.data import TaskData
from aarlab.testbed.generators.assembly import Assembled
from aarlab.testbed.generators.chat_definitions import ChatSettings, generate_chat
from aarlab.testbed.generators.code_functions import CodeSettings, generate_code
from aarlab.testbed.generators.glossary import Glossary
from aarlab.testbed.generators.math_problems import MathSettings, generate_math
from aarlab.testbed.splits import check_disjoint

GeneratorSettings = ChatSettings | MathSettings | CodeSettings

TITLES: dict[type[GeneratorSettings], tuple[str, TaskKind, str, str]] = {
    ChatSettings: (
        "chat",
        "preference",
        "Which definition of a word is right?",
        "Two definitions of an English word by two writers; one is right.",
    ),
    MathSettings: (
        "math",
        "verification",
        "Is the worked solution of a word problem right?",
        "Word problems of 12 kinds with several worked solutions each by two writers.",
    ),
    CodeSettings: (
        "code",
        "verification",
        "Does the function do what was asked?",
        "Small Python functions on lists by two writers; right means right on 40 inputs.",
    ),
}


def generate(name: str, settings: GeneratorSettings, glossary: Glossary | None = None) -> TaskData:
    """Make a task called `name`; the kind of settings chooses the generator.

    The same settings give the same rows on every machine. Chat needs a glossary
    (`fetch_glossary`). Raises BadInput when the settings ask for more problems than there are.
    """
    checked_name(name, "task")
    generator, kind, title, description = TITLES[type(settings)]
    made = _assembled(name, settings, glossary)
    check_disjoint(made.splits)
    return TaskData(
        name=name,
        kind=kind,
        title=title,
        description=description,
        settings={"source": "generator", "generator": generator, **asdict(settings)},
        splits=made.splits,
        twins=made.twins,
    )


def _assembled(name: str, settings: GeneratorSettings, glossary: Glossary | None) -> Assembled:
    if isinstance(settings, MathSettings):
        return generate_math(settings, name)
    if isinstance(settings, CodeSettings):
        return generate_code(settings, name)
    if glossary is None:
        raise BadInput("chat is made from a glossary: pass the result of fetch_glossary(root)")
    return generate_chat(settings, glossary, name)
