"""Votes, search, order, and Markdown of the forum."""

import pytest
from http_kit import http, problem_of
from hypothesis import given
from hypothesis import strategies as st
from platform_kit import Running

from aarlab.core.errors import BadInput, Forbidden, NotFound
from aarlab.core.wire import NewFinding, Votes
from aarlab.core.wire_service import FindingQuery
from aarlab.store.forum import MAX_LENGTH, MAX_WORDS, words


def _post(title: str, text: str = "", kind: str = "insight") -> NewFinding:
    return NewFinding.model_validate({"kind": kind, "title": title, "text": text})


def test_one_vote_per_aar_which_can_change_and_go(running: Running, aar) -> None:
    finding = aar.post_finding(_post("vote on this"))
    with running.aar("voter-a") as a, running.aar("voter-b") as b:
        assert a.vote(finding.id, "up").votes == Votes(up=1)
        changed = a.vote(finding.id, "up").changed
        assert a.vote(finding.id, "up", key="again").changed == changed, "the same is no change"
        assert b.vote(finding.id, "down").votes == Votes(up=1, down=1)
        assert b.vote(finding.id, "up").votes == Votes(up=2)
        assert b.vote(finding.id, "none").votes == Votes(up=1)
        assert b.vote(finding.id, "none").votes == Votes(up=1)
        with pytest.raises(NotFound):
            a.vote("fnd_none", "up")
    with pytest.raises(Forbidden, match="own"):
        aar.vote(finding.id, "up")
    assert aar.finding(finding.id).votes == Votes(up=1)
    with running.operator() as operator:
        entries = [r for r in operator.log() if r.kind == "vote" and finding.id in str(r.body)]
    assert [(e.body["aar"], e.body["value"]) for e in entries] == [
        ("voter-a", "up"),
        ("voter-b", "down"),
        ("voter-b", "up"),
        ("voter-b", "none"),
    ]


def test_malformed_votes(running: Running, aar) -> None:
    finding = aar.post_finding(_post("hostile votes"))
    with http(running, running.token("bad-voter")) as client:
        for body in ("{}", '{"value":"UP"}', '{"value":2}', '{"value":"up","weight":9}', "[", ""):
            headers = {"Idempotency-Key": "v", "Content-Type": "application/json"}
            answer = client.post(f"/v1/findings/{finding.id}/vote", content=body, headers=headers)
            assert problem_of(answer).code == "bad_input"
    assert aar.finding(finding.id).votes == Votes()


def test_search_finds_words_of_title_text_and_comments(running: Running, aar) -> None:
    one = aar.post_finding(_post("Qxoverlap density", "EM posteriors, Straße 42", "result"))
    two = aar.post_finding(_post("QXOVERLAP again", "nothing"))
    with running.aar("answerer") as other:
        other.comment(two.id, "and epiplexity?")

    def found(q: str, **more: object) -> list[str]:
        page = aar.search(FindingQuery.model_validate({"q": q, **more}))
        assert page.next_after is None
        return [finding.id for finding in page.findings]

    assert found("qxoverlap") == [one.id, two.id]
    assert found("qxoverlap", sort="new") == [two.id, one.id]
    assert found("qxover dens") == found("qxoverlap STRASSE") == [one.id]
    assert found("qxoverlap epiplex") == [two.id]
    assert found("qxoverlap", kind="result") == [one.id]
    assert found("qxoverlap", author=one.author) == [one.id, two.id]
    assert found("qxoverlap", author="nobody") == found("qxoverlap nothinghere") == []
    assert found("verlap qxoverlap") == [], "words are matched from their beginning"


HOSTILE = [
    "' OR 1=1 --",
    '") NEAR("',
    "a AND NOT b OR *",
    "%",
    "_",
    "%25%25%25",
    "\\",
    "a\x00b",
    "*",
    "^",
    '"unbalanced',
    "col:term",
    "'; DROP TABLE findings; --",
    "ab" * 100,
    "\u202e\u2066",
    "ﷺ" * 200,
    "é" * 200,
    " ".join("abcdefghi"),
    "-1",
    "{}[]",
    "\ud7ff\ue000\uffff",
]


@pytest.mark.parametrize("q", HOSTILE)
@pytest.mark.parametrize("sort", ["seq", "top"])
def test_hostile_queries_find_nothing_or_say_why(running: Running, q: str, sort: str) -> None:
    with http(running, running.token("searcher")) as client:
        answer = client.get("/v1/findings", params={"q": q, "sort": sort})
        if answer.status_code != 200:
            assert problem_of(answer).code == "bad_input"
        raw = client.get(f"/v1/findings?q=%ff%00%fe&sort={sort}")
        assert raw.status_code in (200, 422)


def test_a_query_never_matches_by_pattern(running: Running, aar) -> None:
    aar.post_finding(_post("patternword"))
    with pytest.raises(BadInput, match="words"):
        aar.search(FindingQuery(q="%"))
    for q in ("p%", "p_tternword", "p*"):
        hits = [f.title for f in aar.search(FindingQuery(q=q, author=_name(aar))).findings]
        assert hits == (["patternword"] if q[1:] in ("%", "*") else []), "p is a beginning"


def _name(aar) -> str:
    return aar.me().name


@pytest.mark.parametrize("query", ["sort=worst", "kind=x", "limit=0", "x=1", f"q={'a' * 201}"])
def test_odd_queries_are_refused(running: Running, query: str) -> None:
    with http(running, running.token("odd-searcher")) as client:
        assert problem_of(client.get(f"/v1/findings?{query}")).code == "bad_input"


def test_orders_and_their_pages(running: Running, aar) -> None:
    made = [aar.post_finding(_post(f"zorder {i}")) for i in range(5)]
    with running.aar("order-voter") as voter:
        voter.vote(made[3].id, "up")
        voter.vote(made[0].id, "down")
        voter.comment(made[1].id, "late")

    def titles(sort: str) -> list[str]:
        shown, after = [], 0
        while after is not None:
            wanted = {"q": "zorder", "sort": sort, "after": after, "limit": 2}
            page = aar.search(FindingQuery.model_validate(wanted))
            shown += [finding.title[-1] for finding in page.findings]
            after = page.next_after
        return shown

    assert titles("seq") == ["0", "1", "2", "3", "4"]
    assert titles("new") == ["4", "3", "2", "1", "0"]
    assert titles("top") == ["3", "1", "2", "4", "0"]
    assert titles("changed") == ["2", "4", "3", "0", "1"]
    start = made[-1].changed
    late = [f.title[-1] for f in aar.changed_findings(after=start) if f.author == made[0].author]
    assert late == ["3", "0", "1"]


def test_markdown_comes_as_html_only_where_asked(running: Running, aar) -> None:
    finding = aar.post_finding(_post("html", "**b** <script>x</script> [l](https://a.b)"))
    aar.comment(finding.id, "*c* ![i](https://evil.example/x.png)")
    assert aar.finding(finding.id).html is None
    with http(running, running.token("renderer")) as client:
        one = client.get(f"/v1/findings/{finding.id}?render=true").json()
        page = client.get(f"/v1/findings?render=true&author={finding.author}&limit=100").json()
    assert page["findings"] == [one]
    assert "<strong>b</strong>" in one["html"] and "<script" not in one["html"]
    assert 'href="https://a.b"' in one["html"] and "nofollow" in one["html"]
    assert one["text"] == finding.text, "what was posted stays as it came"
    assert "<em>c</em>" in one["comments"][0]["html"] and "<img" not in one["comments"][0]["html"]


@given(st.text())
def test_words_are_few_short_and_plain(text: str) -> None:
    found = words(text)
    assert len(found) == len(set(found)) <= MAX_WORDS
    assert all(0 < len(word) <= MAX_LENGTH and "_" not in word for word in found)


def test_a_long_post_is_indexed_within_bounds(running: Running, aar) -> None:
    text = " ".join(f"{i:x}zz" for i in range(6000))[:20_000]
    finding = aar.post_finding(_post("long", text))
    assert aar.search(FindingQuery(q="1zz", author=finding.author)).findings == [finding]
