"""A browser for the tests of the page, and what it saw while it was there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from hf_rnn_s2s.visible_tokens import visible

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE: dict[str, Any] = {"viewport": {"width": 1200, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LONGEST_WAIT = 300_000  # milliseconds; what has not come then will never come
# A microphone that beeps, and nobody to ask whether it may be used
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium of the system, or the one of Playwright; a skipped test where there is neither."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: install it, or run `playwright install chromium`")
        sandbox = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []  # which refuses to be root
        browser = playwright.chromium.launch(executable_path=found, args=[*sandbox, *MICROPHONE])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One visit of a page.

    Attributes:
        page: as Playwright has it.
        complaints: errors on the console, and exceptions in the page.
        hosts: of everything that was asked for.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str | None] = set()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url.removeprefix("blob:")).hostname))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    @property
    def result(self) -> Locator:
        """Where the first model writes."""
        return self.page.locator(".result textarea").first

    def translate(self, text: str) -> str:
        """Type a text, press the button, and read the first translation when it is there."""
        before = self.result.input_value()
        self.page.get_by_role("textbox", name="Text").fill(text)
        self.page.get_by_role("button", name="Translate").click()
        return self.next_result(before)

    def next_result(self, before: str) -> str:
        """Another result than the one before, when it is there, or what the page says instead."""
        self.page.wait_for_function(
            "([box, before]) => box.value !== before || document.querySelector('.toast-body')",
            arg=[self.result.element_handle(), before],
        )
        messages = self.messages()
        return messages[0] if messages else self.result.input_value()

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Let the page go on until something is done. It fails with what the page says, if that says something."""
        while not done():
            said = [*self.messages(), *self.complaints]
            assert not said, said
            self.page.wait_for_timeout(50)  # milliseconds, in which the page's events are heard of

    def wait_for_map(self, source_tokens: Sequence[str]) -> None:
        """Let the page go on until the first heat map is that of these tokens, which comes after the translation."""
        heads = self.page.locator(".heat-map").first.locator("thead th")
        pieces = [visible(token) for token in source_tokens]
        self.wait_until(lambda: heads.evaluate_all("all => all.map(one => one.dataset.piece)") == pieces)

    def messages(self) -> list[str]:
        """The messages that pop up."""
        return self.page.locator(".toast-body").all_inner_texts()

    def cell(self, row: int, column: int, map_number: int = 0) -> Locator:
        """A cell of a heat map."""
        return self.page.locator(".heat-map").nth(map_number).locator("tbody tr").nth(row).locator("td").nth(column)

    def pointed(self) -> dict[str, str]:
        """What the first heat map says of the cell that is pointed at; nothing if none is."""
        bubble = self.page.locator(".heat-map .facts").first
        if not bubble.is_visible():
            return {}
        return {name: bubble.locator(f"[data-fact={name}]").inner_text() for name in ("source", "target", "weight")}

    def widths(self) -> list[int]:
        """Of the document, and of the window."""
        widths: list[int] = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        return widths


@contextmanager
def visited(browser: Browser, address: str, screen: dict[str, Any]) -> Iterator[Visit]:
    """A visit that ends with nothing on the console, and nothing asked of another machine."""
    context = browser.new_context(**screen, permissions=["microphone"])
    context.set_default_timeout(LONGEST_WAIT)
    visit = Visit(context.new_page())
    visit.page.goto(address)
    visit.page.locator("button.primary").wait_for()
    yield visit
    context.close()
    assert visit.complaints == [], visit.complaints
    assert visit.hosts == {urlsplit(address).hostname}, visit.hosts
