"""Labels that never collide, names that never break a figure, SVG that follows the page."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from aarlab.core.ideas import Complexity, Idea
from aarlab.core.wire import CampaignExport
from aarlab.report import arm_figures, bars, drawing, figures, idea_figures, task_figures
from aarlab.report.view import campaign_view


@given(st.lists(st.floats(-2, 2), max_size=12), st.floats(0.001, 0.3))
def test_spread_keeps_order_distance_and_range(wanted: list[float], gap: float) -> None:
    placed = drawing.spread(wanted, gap, -2.0, 2.0)
    assert len(placed) == len(wanted)
    assert all(-2.0 - 1e-9 <= at <= 2.0 + 1e-9 for at in placed)
    ordered = [placed[i] for i in sorted(range(len(wanted)), key=lambda i: wanted[i])]
    fits = (len(wanted) - 1) * gap < 4.0
    least = gap if fits else 4.0 / max(len(wanted) - 1, 1)
    assert all(b - a >= least - 1e-9 for a, b in itertools.pairwise(ordered))


def test_spread_leaves_labels_that_have_room_where_they_are() -> None:
    assert drawing.spread([0.9, 0.1], 0.2, 0.0, 1.0) == pytest.approx([0.9, 0.1])
    assert drawing.spread([0.5, 0.5], 0.2, 0.0, 1.0) == pytest.approx([0.4, 0.6])


@given(st.text(max_size=200), st.integers(6, 40))
@example("a\n$\\frac{$ 数学 🚀 \u202e\x00", 12)
def test_plain_is_one_drawable_line_of_bounded_length(text: str, limit: int) -> None:
    shown = drawing.plain(text, limit)
    assert len(shown) <= limit
    assert not re.search(r"[\n\r\t\x00\u202e]", shown)
    assert all(ord(character) in drawing._drawable_codes() for character in shown)


def test_inline_svg_has_no_fixed_colour_no_address_and_unique_ids(export: CampaignExport) -> None:
    view = campaign_view(export)
    first = drawing.inlined(drawing.bare_svg(figures.curve_figure(view)), "one")
    second = drawing.inlined(drawing.bare_svg(figures.curve_figure(view)), "two")
    assert "var(--ink)" in first and "var(--series-1)" in first
    assert not set(re.findall(r"#[0-9a-f]{6}\b", first)) & set(drawing.CSS_NAMES)
    assert "http" not in first
    ids = [set(re.findall(r'\sid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', first))
    assert used <= ids[0]


def test_the_same_campaign_draws_the_same_bytes(export: CampaignExport) -> None:
    view = campaign_view(export)
    assert drawing.bare_svg(figures.curve_figure(view)) == drawing.bare_svg(
        figures.curve_figure(view)
    )


def test_time_axis_follows_the_length_of_the_campaign(export: CampaignExport) -> None:
    assert figures.time_unit(campaign_view(export)) == ("minutes", 60.0)
    longer = [s.model_copy(update={"research_h": s.research_h * 1000}) for s in export.submissions]
    days = export.model_copy(update={"submissions": longer})
    assert figures.time_unit(campaign_view(days)) == ("hours", 1.0)


def test_a_dollar_sign_in_a_name_is_not_mathematics(export: CampaignExport) -> None:
    name = "$\\frac{$"
    renamed = export.model_copy(
        update={
            "tasks": [export.tasks[0].model_copy(update={"title": name})],
            "submissions": [s.model_copy(update={"method": name}) for s in export.submissions],
            "verifications": [v.model_copy(update={"method": name}) for v in export.verifications],
        }
    )
    view = campaign_view(renamed)
    assert drawing.bare_svg(figures.curve_figure(view, titled=True))
    optimism = bars.optimism_figure(view)
    assert optimism is not None and drawing.bare_svg(optimism)


@pytest.mark.parametrize("wide", [True, False])
def test_the_key_of_the_leaderboard_names_every_sign_within_the_figure(
    export: CampaignExport, wide: bool
) -> None:
    figure = bars.standings_figure(campaign_view(export), wide)
    assert figure is not None
    words = [text.get_text() for text in figure.texts]
    assert words[0].startswith("method of an AAR") and words[1:3] == ["tuned by hand", "guard"]
    assert figure.texts[2].get_window_extent().x1 < figure.bbox.x1


def key_words(figure: Figure) -> list[str]:
    """The key's words; each stands within the figure and covers no other."""
    boxes = [text.get_window_extent() for text in figure.texts]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 > 0 and box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    return [text.get_text() for text in figure.texts]


def with_sizes(export: CampaignExport) -> CampaignExport:
    ideas = [
        Idea(snapshot=s.id, family="loss", classifier="keywords-1", scores={"loss": 1.0},
             evidence=[], complexity=Complexity(lines=5 + n, nodes=40 + n))
        for n, s in enumerate(export.snapshots)
    ]  # fmt: skip
    return export.model_copy(update={"ideas": ideas})


def of_many(export: CampaignExport, count: int, arms: int) -> CampaignExport:
    """The same campaign with many AARs, dealt to arms in turn."""
    known = {aar.name: aar for aar in export.aars}
    names = [f"researcher-{n}" for n in range(count)]
    aars = [
        known["rowan"].model_copy(update={"name": name, "arm": f"kind-{n % arms}"})
        for n, name in enumerate(names)
    ]
    own = [s for s in export.snapshots if s.aar in ("rowan", "edda", "evan")]
    snapshots = [
        s.model_copy(update={"aar": names[n % count], "id": f"{7000 + n:040x}"})
        for n, s in enumerate([*own, *own])
    ]
    many = export.model_copy(update={"aars": aars, "snapshots": snapshots, "submissions": []})
    return with_sizes(many)


@pytest.mark.parametrize("wide", [True, False])
def test_the_key_of_complexity_names_every_aar(export: CampaignExport, wide: bool) -> None:
    figure = idea_figures.complexity_figure(campaign_view(with_sizes(export)), wide)
    assert figure is not None
    assert sorted(key_words(figure)) == ["edda", "evan", "median over time", "rowan"]


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(
    "count, arms, named",
    [
        (12, 1, [f"researcher-{n}" for n in range(12)]),
        (13, 1, ["all AARs"]),
        (27, 9, [f"arm kind-{n}" for n in range(9)]),
    ],
)
def test_nothing_is_left_out_of_a_large_key(
    export: CampaignExport, wide: bool, count: int, arms: int, named: list[str]
) -> None:
    figure = idea_figures.complexity_figure(campaign_view(of_many(export, count, arms)), wide)
    assert figure is not None
    assert key_words(figure) == [*named, "median over time"]


def test_a_key_of_two_rows_makes_the_figure_higher_and_moves_nothing() -> None:
    figure = drawing.new_figure(4.3, 3.0)
    axes = drawing.placed(figure, (0.5, 4.1), (0.5, 0.6))
    entries = [drawing.KeyEntry(f"a long word for sign {n}", "o") for n in range(3)]
    drawing.draw_key(figure, 0.1, 0.16, entries)
    assert len(key_words(figure)) == 3
    assert figure.get_figheight() == pytest.approx(3.0 + drawing.KEY_ROW_IN)
    box = axes.get_position()
    height = figure.get_figheight()
    assert box.y0 * height == pytest.approx(0.5) and box.y1 * height == pytest.approx(2.4)


def test_each_sign_of_a_key_stands_left_of_its_word() -> None:
    figure = drawing.new_figure(4.3, 3.0)
    entries = [
        drawing.KeyEntry("both", "o", line="-"),
        drawing.KeyEntry("line", line="-"),
        *(drawing.KeyEntry(f"a long word for sign {n}", "o") for n in range(3)),
    ]
    drawing.draw_key(figure, 0.1, 0.16, entries)
    words = [figure.texts[0], *figure.texts]
    assert len(figure.artists) == len(words), "the first entry has a line and a marker on it"
    for sign, word in zip(figure.artists, words, strict=True):
        signed, written = sign.get_window_extent(), word.get_window_extent()
        assert 0 < written.x0 - signed.x1 < 0.2 * figure.dpi
        assert signed.y0 - 1 < (written.y0 + written.y1) / 2 < signed.y1 + 1


def test_an_svg_file_is_the_bare_figure_on_white(export: CampaignExport) -> None:
    bare = drawing.bare_svg(figures.curve_figure(campaign_view(export)))
    paper = '\n <rect width="100%" height="100%" fill="#ffffff"/>'
    filed = drawing.on_paper(bare)
    assert filed.replace(paper, "") == bare and filed.count(paper) == 1
    assert 0 < filed.index("<svg ") < filed.index(paper) < filed.index("<path")


@pytest.mark.parametrize("wide", [True, False])
def test_the_keys_of_the_other_figures_fit(export: CampaignExport, wide: bool) -> None:
    view = campaign_view(export)
    words = {}
    for name, draw in (
        ("optimism", bars.optimism_figure),
        ("ablation", bars.ablation_figure),
        ("spend", arm_figures.spend_figure),
        ("accuracy", task_figures.accuracy_figure),
    ):
        figure = draw(view, wide)
        assert figure is not None
        words[name] = key_words(figure)
    assert words["spend"][-2:] == ["from cache", "into cache"]
    assert words["accuracy"] == ["weak teacher", "ceiling", *(e.text for e in task_figures.KEY)]
    assert words["ablation"] == ["the teacher's labels", "permuted labels"]
    assert words["optimism"][1:3] == ["search", "search less vanilla's drop"]
    assert words["optimism"][3:] == ["best guard, selection"]
