"""A terminal that prints every text literally, so that no text can control it.

Method names, titles, reasons and error messages come from AARs, data sets and providers. Rich's
markup is therefore off here; colour comes from a `Text` or a `style`.
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

    Commands use only this console: ruff refuses rich's own outside this file.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a Text from a string, including cells and titles of tables."""
        return super().render_str(safe_to_show(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Spell out control characters in text that did not come as a string."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(safe_to_show(segment.text), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a spinner. A string becomes a Text, since rich would read it as markup here."""
        shown = Text(safe_to_show(status)) if isinstance(status, str) else status
        return super().status(shown, **options)
