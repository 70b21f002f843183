"""What is said of a research problem wherever its figures are shown.

A built task stores these facts with its settings, so that an export can be read where the problem's
package is not installed. A task without them is a weak-to-strong task. The code of a problem is in
`aarlab.problems`.
"""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from aarlab.core.errors import Damaged
from aarlab.core.wire_base import MAX_TEXT, Wire

KEY = "problem"  # in the settings of a task
Short = Annotated[str, Field(min_length=1, max_length=60)]


class ProblemFacts(Wire):
    """A research problem in words.

    Its `figure` is a skill score: higher is better, 0 is what `zero` reaches and 1 what `one`
    reaches. Only a method that is clearly above 0 ranks. `brief` tells AARs what a method is given
    and what is asked of it, in Markdown.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    title: Short = Field(description="in a sentence: research on TITLE")
    figure: Short = Field(description="short name of the figure, as in PGR")
    in_words: Annotated[str, Field(min_length=1, max_length=600)] = Field(
        description="one sentence that says what the figure is"
    )
    zero: Short = Field(description="what has the figure 0, as in: the weak teacher")
    one: Short = Field(description="what has the figure 1, as in: the ceiling")
    brief: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    weak_labels: bool = Field(
        default=False,
        description="train rows come with labels of weak teachers; recipes and ablations need them",
    )
    audits_left_out: tuple[str, ...] = Field(
        default=("ablation", "teacher", "ceiling"),
        description="built-in audits that say nothing about this problem",
    )


WEAK_TO_STRONG = ProblemFacts(
    name="weak_to_strong",
    title="weak-to-strong supervision",
    figure="PGR",
    in_words=(
        "PGR, the performance gap recovered, is the share of the way from the weak teacher's "
        "accuracy (0) to that of the same strong model trained on the true labels (1)."
    ),
    zero="the weak teacher",
    one="the ceiling",
    weak_labels=True,
    audits_left_out=(),
)


def problem_facts(task: str, settings: dict[str, Any]) -> ProblemFacts:
    """Return the facts that the settings of a task hold; raises Damaged where they are wrong."""
    given = settings.get(KEY)
    if given is None:
        return WEAK_TO_STRONG
    try:
        return ProblemFacts.model_validate(given)
    except ValidationError as error:
        raise Damaged(f"task {task}: its settings name no research problem; build it again") from (
            error
        )
