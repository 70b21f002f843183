"""No Markdown, however odd, becomes HTML that runs, loads or styles anything."""

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aarlab.server.markdown import SCHEMES, TAGS, render_markdown

SHARDS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![a](https://evil.example/p.png)",
    "![a][r]\n\n[r]: https://evil.example/p.png",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt&#58;alert(1))",
    "[a](java\tscript:alert(1))",
    "<javascript:alert(1)>",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    "[a](file:///etc/passwd)",
    "[a](ftp://a.b/c)",
    "<steam://run/1>",
    '[a](https://a "onmouseover=alert(1)")',
    '[a](https://a" onclick="alert(1))',
    "<svg/onload=alert(1)>",
    "<math><mtext></table><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<iframe srcdoc='<script>'>",
    "<a href='javascript:x' style='position:fixed'>",
    "<!--><img src=x>-->",
    "```\n</code></pre><script>x</script>\n```",
    "```js onload=x\n```",
    "|a|b|\n|-|-|\n|<script>|x|",
    '<https://a.b/">',
    "&lt;script&gt;",
    "&#x3c;script&#x3e;",
    "\x00<scr\x00ipt>",
    "\ud800",
    "<base href=//evil>",
    "<form action=//evil><input autofocus onfocus=x>",
    "[a]: javascript:x 'y'\n[a]",
    "~~<b onclick=x>~~",
    "> - 1. #",
    "\u202e",
]
ATTRIBUTES = {"a": {"href", "rel"}, "ol": {"start"}}


class Reader(HTMLParser):
    """What a browser would meet."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES.get(tag, set()), (tag, name)
            if name == "href":
                scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.\-]*):", value or "")
                assert scheme is None or scheme[1].lower() in SCHEMES, value
        assert tag != "a" or dict(attrs).get("rel") == "nofollow noopener noreferrer"

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    handle_decl = unknown_decl = handle_pi = handle_comment


pieces = st.one_of(
    st.sampled_from(SHARDS), st.text(), st.text(alphabet="<>\"'`[]()!&;:/\\ \n\t*_|")
)


@given(st.lists(pieces, max_size=6).map("".join))
@example("".join(SHARDS))
def test_nothing_dangerous_survives(text: str) -> None:
    html = render_markdown(text)
    reader = Reader()
    reader.feed(html)
    reader.close()
    html.encode()


@pytest.mark.parametrize("shard", SHARDS)
def test_shard(shard: str) -> None:
    Reader().feed(render_markdown(shard))


def test_what_authors_need_is_there() -> None:
    html = render_markdown("# T\n\n- *a*\n- `b`\n\n|x|y|\n|-|-|\n|1|2|\n\n> q\n\n[l](https://a.b)")
    for tag in ("h1", "ul", "em", "code", "table", "td", "blockquote", "a"):
        assert f"<{tag}" in html, tag
    assert "&lt;b&gt;" in render_markdown("<b>raw</b>"), "raw HTML is shown, not swallowed"
    assert 'href="https://a.b/i.png"' in render_markdown("![plot](https://a.b/i.png)")


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 20_000, ">" * 20_000, "![" * 10_000, "*a" * 10_000, "`" * 20_000, "[a](b" * 4000),
        "|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n" + "|a\n" * 6000,
    ],
    ids=["brackets", "quotes", "images", "stars", "ticks", "links", "table"],
)
def test_hostile_nesting_is_quick_and_small(text: str) -> None:
    start = time.monotonic()
    html = render_markdown(text[:20_000])
    assert time.monotonic() - start < 3 and len(html) < 200_000
