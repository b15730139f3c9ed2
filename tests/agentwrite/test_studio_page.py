"""The studio's page in Chromium: usable by hand and by keyboard, accessible, safe, and lossless."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from support.browser import DESK, PHONE, axe_source, chromium, wait_until
from support.commands import command, environment
from support.model import INSTRUCTION, PLAN, WRITER, Model, by_plan, is_plan, section, step_of

from longwriter_core.mock_server import MockServer
from longwriter_core.mock_server.prose import prose

__all__ = ["chromium"]
pytestmark = pytest.mark.slow

TABLET = 820
SCRIPT = "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
HOSTILE = f"{SCRIPT} [a](javascript:window.pwned=1) <a href='javascript:window.pwned=1'>b</a> **c**"


@dataclass
class Served:
    """A running `agentwrite serve`."""

    folder: Path
    model: MockServer
    options: tuple[str, ...] = ()
    changes: dict[str, str] = field(default_factory=dict)  # of the environment
    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, the second time at the port of the first."""
        self.process = subprocess.Popen(
            command(
                "agentwrite", "serve", "--model", WRITER, "--base-url", self.model.base_url,
                "--port", str(self.port), "--books", str(self.folder), *self.options,
            ),
            env=environment(**self.changes), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr
        line = self.process.stderr.readline()
        self.port = int(line.partition("the studio is at http://127.0.0.1:")[2].partition("/")[0])

    def kill(self) -> None:
        """End it without any warning."""
        if self.process:
            self.process.kill()
            self.process.communicate()


@contextmanager
def served(model: MockServer, folder: Path, *options: str, **changes: str) -> Iterator[Served]:
    """A studio over `model`, whose books are in `folder`."""
    with model:
        server = Served(folder, model, options, changes)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def visiting(
    chromium: Browser, url: str, width: int = DESK, theme: Any = "light"
) -> Iterator[tuple[Page, list[str]]]:
    """The page, and what it complains of."""
    context = chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme=theme, accept_downloads=True
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(url)
    page.wait_for_selector("#new:not([hidden]), #book:not([hidden]), dialog[open]")
    try:
        yield page, complaints
    finally:
        context.close()


def state(page: Page, text: str) -> None:
    """Wait until the text is in a state."""
    page.wait_for_selector(f"#state:text-is('{text}')")


def plan(page: Page, instruction: str = INSTRUCTION, title: str = "The harbour") -> None:
    """Type an instruction, and wait for its plan."""
    page.fill("#instruction", instruction)
    page.fill("input[name=title]", title)
    page.click("#new .primary")
    page.wait_for_selector("#steps li")


def texts(page: Page) -> list[str]:
    """The paragraphs of each section."""
    return page.locator("#sections .prose").all_inner_texts()


def rewriting(prompt: str) -> str:
    return "The pilot tells it." if "The author's note:" in prompt else by_plan(prompt)


def test_a_text_is_planned_edited_written_killed_resumed_rewritten_and_saved(
    chromium: Browser, tmp_path: Path
) -> None:
    model = Model(answer=rewriting)
    with served(model, tmp_path) as server, visiting(chromium, server.url) as (page, _):
        plan(page)
        page.get_by_label("Main point of step 2").fill("Smugglers")
        page.get_by_label("Remove: step 4").click()
        page.get_by_label("Words of step 1").fill("250")
        assert page.text_content("#start") == "Write 1,050 words"
        wait_until(page, "() => document.querySelector('#total').textContent.includes('3 steps')")
        model.delay = 2.5  # seconds, so that a slow machine stops and kills in time
        page.click("#start")
        page.wait_for_selector("#section-1")
        page.click("#stop")
        state(page, "Stopped")
        calls = len(model.prompts)
        page.reload()
        state(page, "Stopped")
        assert texts(page)[0] == section(1)
        page.click("#start")
        page.wait_for_selector("#section-2")
        server.kill()
        page.wait_for_selector("#alert:has-text('Connecting again')")
        model.delay = 0
        server.start()
        state(page, "Stopped")
        page.click("#start")
        state(page, "Finished")
        assert texts(page) == [section(1), section(2), section(3)]
        assert len(model.prompts) <= calls + 3  # two sections, and the call that was killed
        assert all("Smugglers" in prompt for prompt in model.prompts[1:])
        before = len(model.prompts)
        page.get_by_label("Rewrite section 2").click()
        page.keyboard.type("Let the pilot tell it.")
        page.click("#section-2 .rewrite .primary")
        page.wait_for_selector("#section-2 .prose:has-text('The pilot tells it.')")
        state(page, "Finished")
        assert len(model.prompts) == before + 1
        page.click("#download summary")
        with page.expect_download() as started:
            page.click("#download button:text-is('Markdown')")
        assert started.value.suggested_filename == "the-harbour.md"
        assert started.value.path().read_bytes() == (tmp_path / "the-harbour.md").read_bytes()
        page.reload()
        state(page, "Finished")
        assert texts(page) == [section(1), "The pilot tells it.", section(3)]


def test_everything_can_be_done_by_keyboard(chromium: Browser, tmp_path: Path) -> None:
    with (
        served(Model(answer=rewriting), tmp_path) as server,
        visiting(chromium, server.url) as (page, complaints),
    ):

        def press(*keys: str) -> None:
            for key in keys:
                page.keyboard.press(key)

        def tab_to(selector: str) -> None:
            for _ in range(80):
                page.keyboard.press("Tab")
                if page.evaluate("s => document.activeElement.matches(s)", selector):
                    return
            raise AssertionError(f"Tab never reaches {selector}")

        tab_to("#instruction")
        page.keyboard.type(INSTRUCTION)
        press("Control+Enter")
        page.wait_for_selector("#steps li")
        tab_to("#steps li:nth-child(2) .up")
        press("Enter")
        points = [field.input_value() for field in page.locator("#steps textarea").all()]
        assert points == ["Tides", "Mud", "Money", "People"]
        page.focus("body")
        page.evaluate("document.activeElement.blur()")
        tab_to("#start")
        press("Enter")
        state(page, "Finished")
        tab_to("#section-1 .change")
        press("Enter")
        page.keyboard.type("Sail.")
        press("Escape")
        assert page.evaluate("document.activeElement.matches('#section-1 .change')")
        assert complaints == []


def test_hostile_texts_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    def hostile(prompt: str) -> str:
        if is_plan(prompt):
            return PLAN.format(400).replace("Mud", f"Mud {SCRIPT}")
        number = step_of(prompt)
        return f"# Part {number} {SCRIPT}\n\n{prose(200, number)}\n\n{number} {HOSTILE}"

    with (
        served(Model(answer=hostile), tmp_path) as server,
        visiting(chromium, server.url) as (page, complaints),
    ):
        plan(page, f"{SCRIPT} Write 1600 words.", title=SCRIPT)
        page.click("#start")
        state(page, "Finished")
        page.reload()
        state(page, "Finished")
        assert "<script>window.pwned=1</script>" in texts(page)[0]
        assert page.evaluate(
            """() => [window.pwned ?? null,
                document.querySelectorAll("img, main script, main a:not([href^='#'])").length]"""
        ) == [None, 0]
        assert page.locator("#section-1 .prose strong").count() > 0
        assert complaints == []


def test_an_unknown_text_gives_a_clear_message(chromium: Browser, tmp_path: Path) -> None:
    with (
        served(Model(answer=by_plan), tmp_path) as server,
        visiting(chromium, server.url) as (page, _),
    ):
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{server.url}#never-written")
        page.wait_for_selector("#alert:has-text('there is no book')")
        page.goto(f"{server.url}#100%")
        page.wait_for_selector("#new:not([hidden])")
        assert errors == []


def test_the_key_is_asked_for_and_forgotten_with_the_tab(chromium: Browser, tmp_path: Path) -> None:
    key = "a-key-of-this-server"
    with (
        served(Model(answer=by_plan), tmp_path, AGENTWRITE_SERVE_KEY=key) as server,
        visiting(chromium, server.url) as (page, _),
    ):
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask-title:text-is('The server does not know this key')")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        plan(page)
        page.click("#start")
        state(page, "Finished")
        kept = "() => [sessionStorage.length, localStorage.length, document.cookie]"
        assert page.evaluate(kept) == [1, 0, ""]
        assert urls
        assert not [url for url in urls if key in url]


@pytest.mark.parametrize(
    ("width", "theme"), [(1440, "light"), (TABLET, "dark"), (PHONE, "light"), (PHONE, "dark")]
)
def test_the_page_fits_the_screen_and_axe_finds_nothing(
    width: int, theme: Any, chromium: Browser, tmp_path: Path
) -> None:
    axe = axe_source()

    def violations() -> list[str]:
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        return [
            f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    model = MockServer()
    with served(model, tmp_path, AGENTWRITE_SERVE_KEY="a-key-of-this-server") as server:
        context = chromium.new_context(
            viewport={"width": width, "height": 844}, color_scheme=theme, bypass_csp=True
        )
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("dialog[open]")
        found = violations()
        page.fill("#key", "a-key-of-this-server")
        page.keyboard.press("Enter")
        page.wait_for_selector("#new:not([hidden])")
        found += violations()
        plan(page, "Write a 2,000-word history of lighthouses.", "Lighthouses")
        page.get_by_label("Begin a chapter: step 2").click()
        page.keyboard.type("The lamp")
        found += violations()
        page.click("#start")
        state(page, "Finished")
        page.click("#section-2 .change")
        page.click("#download summary")
        if width < 1000:
            page.click("#menu")
            page.click("#contents summary")
        found += violations()
        context.close()
    assert found == []
