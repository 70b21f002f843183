"""The report's table on a narrow screen, with a cell that holds a long word."""

from importlib.resources import files

STYLE = files("aarlab.report").joinpath("templates/style.css").read_text(encoding="utf-8")


def test_a_long_word_in_a_cell_does_not_widen_the_page(chromium) -> None:
    word = "row.answers:" + "x" * 80
    cell = f'<td data-label="PGR, permuted labels"><span class="cell">{word}</span></td>'
    table = f"<table><tbody><tr><th>magpie-1</th>{cell}</tr></tbody></table>"
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.set_content(f"<style>{STYLE}</style><main><div class=scroll>{table}</div></main>")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
