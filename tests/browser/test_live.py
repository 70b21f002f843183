"""The campaign page while things happen: news without a reload, a server that goes and comes."""

import signal

import pytest
from eyes import log_in
from platform_kit import Running, start, stop, wait_for

from aarlab.core.wire import NewFinding

pytestmark = pytest.mark.gate

SILENT_MS = 30_000  # a look every 5 s, given up after 10 s
LOOK = "htmx.trigger('.live', 'aarlab:look')"


def test_news_show_without_a_reload(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.evaluate("window.same = true")
    page.wait_for_selector(".legend button")
    lines = page.locator(".legend button").count()
    with served.aar("newcomer") as aar:
        page.wait_for_selector("text=newcomer", timeout=15_000)
        aar.submit(served.submission(0.89, method="late"))
        wait_for(lambda: page.locator(".legend button").count() > lines)
        aar.post_finding(NewFinding(kind="insight", title="t", text="x"))
    assert page.evaluate("window.same") is True
    assert "newcomer" in page.locator(".legend").inner_text()
    assert page.eyes.seen == []


def test_a_line_is_hidden_and_shown_again(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    button = page.locator(".legend button", has_text="wren")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Enter")  # the button keeps the focus
    assert button.get_attribute("aria-pressed") == "true"
    plot = page.locator(".plot")
    wait_for(lambda: "the frontier is at +0.7" in plot.get_attribute("aria-label"))


def test_a_server_that_starts_again_under_an_open_page(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.evaluate("window.same = true")
    stop(served.process)
    page.wait_for_selector("#offline:not([hidden])", timeout=SILENT_MS)
    assert "does not answer" in page.locator("#offline").inner_text()
    port = served.url.rpartition(":")[2]
    again = start(served.task, served.run, "--task", "math", "--task", "chat", "--port", port)
    try:
        page.wait_for_selector("#offline", state="hidden", timeout=15_000)
        with again.aar("afterwards"):
            page.wait_for_selector("text=afterwards", timeout=15_000)
        assert page.evaluate("window.same") is True  # the same page, the same session
    finally:
        stop(again.process)


def test_a_server_that_takes_the_question_and_never_answers(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.wait_for_selector(".legend button")
    served.process.send_signal(signal.SIGSTOP)
    try:
        page.wait_for_selector("#offline:not([hidden])", timeout=SILENT_MS)
    finally:
        served.process.send_signal(signal.SIGCONT)
    page.wait_for_selector("#offline", state="hidden", timeout=SILENT_MS)


@pytest.mark.slow
def test_a_page_that_stays_open_does_not_grow(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.wait_for_selector(".legend button")
    client = page.context.new_cdp_session(page)

    def size() -> tuple[int, float]:
        page.evaluate("gc()")
        counted = client.send("Memory.getDOMCounters")
        heap = client.send("Runtime.getHeapUsage")["usedSize"]
        return counted["nodes"], heap / 2**20

    def live(rounds: int) -> None:
        for number in range(rounds):
            served.token(f"aar-{rounds}-{number}") if number % 5 == 0 else None
            with page.expect_response(lambda r: "/live/campaign" in r.url):
                page.evaluate(LOOK)
            page.evaluate("dispatchEvent(new Event('resize'))")
            page.wait_for_timeout(170)  # the curve is drawn anew

    live(10)
    nodes, heap_mb = size()
    live(60)
    more_nodes, more_mb = size()
    rows = 12 * 60  # AARs that came in between: their rows are no leak
    assert more_nodes < nodes + rows and more_mb < heap_mb + 3
