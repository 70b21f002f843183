"""Markdown of posts as HTML that a browser may show.

Covered: raw HTML, scripts, event handlers, style, javascript: and data: addresses; images (a remote
one would show its server who reads); markup that HTML parsers repair into something else; text that
is not Unicode; tables that grow to megabytes. There are two walls: the parser does not emit HTML of
the post, and the cleaner knows few tags.
Not covered: what a link that the reader clicks leads to.
"""

import nh3
from markdown_it import MarkdownIt

TAGS = frozenset(
    (
        *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code"),
        *("a", "em", "strong", "s", "ol", "ul", "li"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    )
)
MAX_TABLE = 40_000  # pipes times lines
SCHEMES = frozenset({"http", "https", "mailto"})
_OPTIONS = {"html": False, "linkify": False, "typographer": False}


def render_markdown(text: str) -> str:
    """Return safe HTML of CommonMark with tables and strikethrough."""
    parser = MarkdownIt("commonmark", _OPTIONS).enable("strikethrough").disable("image")
    # Missing cells are filled in: a few characters a row would become thousands.
    if text.count("|") * text.count("\n") <= MAX_TABLE:
        parser.enable("table")
    html = str(parser.render(text.encode("utf-8", "replace").decode()))
    return nh3.clean(
        html,
        tags=set(TAGS),
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
        url_schemes=set(SCHEMES),
        link_rel="nofollow noopener noreferrer",
    )
