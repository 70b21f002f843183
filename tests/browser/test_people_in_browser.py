"""What people do in the browser: the queue by keyboard, two operators, hostile texts."""

import pytest
from dashboard_kit import hostile_campaign, snapshot
from eyes import free_port, log_in
from platform_kit import Running, TinyTask, platform

from aarlab.core.layout import RunDir

pytestmark = pytest.mark.gate


def test_the_queue_is_worked_off_by_keyboard(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.goto(f"{served.url}/audits")

    def focused() -> str:
        return page.evaluate("document.activeElement.getAttribute('aria-label') || ''")

    page.keyboard.press("j")
    assert "group_consensus" in focused()
    page.keyboard.press("j")
    assert "calibrated_corrected" in focused()
    page.keyboard.press("k")
    page.keyboard.press("k")  # stays at the first
    assert "group_consensus" in focused()
    page.keyboard.press("d")
    page.keyboard.type("jk the answers of a problem vote")  # no shortcut while typing
    page.keyboard.press("Control+Enter")
    page.wait_for_load_state()
    assert "group_consensus" not in page.locator("#queue").inner_text()
    assert "calibrated_corrected" in focused()  # the next case has the place
    page.keyboard.press("a")
    page.keyboard.press("Escape")
    assert "calibrated_corrected" in focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/methods/*")
    assert page.locator("h1").inner_text() == "swift-3"
    with served.operator() as operator:
        last = operator.verdicts()[-1]
    assert (last.decision, last.by) == ("disqualified", "Ada")
    assert last.reason == "jk the answers of a problem vote"


def test_a_case_about_an_aar_is_decided_by_keyboard(chromium, served: Running) -> None:
    page = log_in(chromium, served)
    page.goto(f"{served.url}/audits")
    cases = page.locator("[data-case]")
    place = next(
        at for at in range(cases.count())
        if "submissions of swift" in cases.nth(at).inner_text()
    )  # fmt: skip
    for key in ["j"] * (place + 1) + ["d"]:  # d is for methods: nothing opens
        page.keyboard.press(key)
    assert page.locator("details.decide[open]").count() == 0
    page.keyboard.press("c")
    page.keyboard.type("flips single rows")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/audits?state=open*")
    assert "submissions of swift" not in page.locator("#queue").inner_text()
    with served.operator() as operator:
        (given,) = operator.case_verdicts()
    assert (given.decision, given.disqualifies, given.by) == ("confirmed", "task", "Ada")


def test_two_operators_at_once(chromium, served: Running) -> None:
    ada, bob = log_in(chromium, served, "Ada"), log_in(chromium, served, "Bob")
    method = snapshot(served, "group_consensus")
    for page, reason in ((ada, "votes"), (bob, "looks fine")):
        page.goto(f"{served.url}/methods/{method}")
        page.fill("#reason", reason)
    ada.click("text=disqualify")
    ada.wait_for_selector("p.verdict.disqualified")
    bob.click("button:text-is('accept')")
    bob.wait_for_selector("[role=alert]")
    assert "Ada gave a verdict (disqualified)" in bob.locator("main").inner_text()
    bob.goto(f"{served.url}/methods/{method}")
    assert "by Ada" in bob.locator("p.verdict").first.inner_text()
    bob.goto(f"{served.url}/aars/wren")
    bob.click("text=pause")
    ada.goto(f"{served.url}/")
    assert ada.locator("#steer-wren").inner_text() == "resume"


@pytest.fixture
def hostile(seeded: tuple[TinyTask, RunDir], tmp_path):
    task, _ = seeded
    port = free_port()
    with platform(task, RunDir(tmp_path / "run"), "--task", "math", "--port", str(port)) as running:
        running.url = f"http://127.0.0.1:{port}"
        yield running


def test_no_script_of_a_post_or_a_file_name_runs(chromium, hostile: Running) -> None:
    paths = hostile_campaign(hostile)
    page = log_in(chromium, hostile, "<script>window.owned = 1</script>")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in paths:
        page.goto(f"{hostile.url}{path}")
        page.wait_for_load_state("networkidle")
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        assert page.evaluate("window.owned") is None, path
        assert (
            "window.owned" in page.locator("body").inner_text()
            or "/tasks" in path
            or "/shares" in path
        )
    page.goto(f"{hostile.url}/")
    page.wait_for_selector(".legend button")
    assert page.evaluate("window.owned") is None
    assert page.eyes.seen == [] and all(url.startswith(hostile.url) for url in asked)
