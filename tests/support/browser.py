"""Pages in headless Chromium, with their console messages, requests and errors recorded."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PHONE, DESK = 390, 1280  # CSS pixels


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip("no chromium found; install it, or name it by CHROMIUM=PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, with its console messages, errors and further requests."""

    page: Page
    complaints: list[str] = field(default_factory=list)  # console, errors
    requests: list[str] = field(default_factory=list)  # besides the file itself

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.text_content() or ""

    def evaluate(self, script: str, *arguments: Any) -> Any:
        return self.page.evaluate(script, *arguments)


@contextlib.contextmanager
def opened(
    chromium: Browser, path: Path, width: int = DESK, theme: Any = "light", place: str = ""
) -> Iterator[Opened]:
    """The file at `path`, opened from disk in the browser."""
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    page = context.new_page()
    page.set_default_timeout(10_000)
    found = Opened(page)
    url = path.resolve().as_uri()
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.partition("#")[0] == url else found.requests.append(asked.url)
        ),
    )
    page.goto(url + place)
    try:
        yield found
    finally:
        context.close()


def wait_until(page: Page, expression: str, arg: object = None, seconds: float = 15) -> None:
    """Wait until a JavaScript expression, or a function of `arg`, is true on the page.

    Playwright's own wait_for_function evaluates text inside the page, which our content security
    policy forbids as soon as it has to wait.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"still false: {expression}"
        time.sleep(0.02)


def axe_source() -> str:
    """The script of axe-core, which is not part of this repository: `npm install axe-core`."""
    names = (os.environ.get("AXE_CORE"), "node_modules/axe-core/axe.min.js")
    for path in (Path(name) for name in names if name):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    pytest.skip("no axe-core: run `npm install axe-core`, or name its axe.min.js by AXE_CORE=PATH")


def accessibility_violations(
    chromium: Browser, path: Path, axe: str, width: int, theme: Any, place: str = ""
) -> list[str]:
    """What axe-core finds on a page: rule, elements, and why."""
    context = chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True
    )
    try:
        page = context.new_page()
        page.goto(path.resolve().as_uri() + place)
        if place:
            page.wait_for_selector("#reader h3")
        return violations(page, axe)
    finally:
        context.close()


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds on an open page, in a context that bypasses the page's own policy."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
