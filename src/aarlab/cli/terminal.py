"""The terminal: every text is printed as it is, and none can drive it.

Method names, titles, reasons and error messages were written by AARs, data sets and providers. So
rich's markup is off here; what is to be coloured is a `Text` or has a `style`.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from aarlab.core.showing import safe_to_show


class Console(RichConsole):
    """A console without markup that spells out control characters (`core.showing`).

    The only one that commands use: ruff refuses the other outside this file.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string, also of the cells and titles of tables."""
        return super().render_str(safe_to_show(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Clean what did not come as a string."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(safe_to_show(segment.text), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a spinner; rich would read a string here as markup in any case."""
        shown = Text(safe_to_show(status)) if isinstance(status, str) else status
        return super().status(shown, **options)
