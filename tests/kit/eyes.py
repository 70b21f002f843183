"""A person at a real browser: logs in, and sees scripts and faults."""

import socket
from typing import Any

from platform_kit import Running


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Eyes:
    """What a page should never do: fail in a script, break the policy, open a dialog."""

    def __init__(self, page: Any) -> None:
        self.seen: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.seen.append(str(error)))
        page.on("dialog", lambda dialog: self.seen.append("a dialog"))

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.seen.append(f"{message.text} {message.location['url']}")


def log_in(browser: Any, running: Running, name: str = "Ada", **options: Any) -> Any:
    """A page of a new person, logged in."""
    page = browser.new_context(**options).new_page()
    page.eyes = Eyes(page)
    page.goto(f"{running.url}/login")
    page.fill("#token", running.operator_token)
    page.fill("#name", name)
    page.click("text=Log in >> nth=-1")
    page.wait_for_selector("nav[aria-label=Pages]")
    page.wait_for_load_state()  # its scripts too: a server stopped before them leaves a dead page
    return page
