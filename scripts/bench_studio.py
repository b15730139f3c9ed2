"""Measure the studio's page with 100,000 words, while they are written and when it is opened.

    python scripts/bench_studio.py [--output FILE.md] [--words N]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed. The
text is written by the real `agentwrite serve` against the mock server without delay, so that its
sections arrive faster than any model writes them. Needs Chromium; takes about two minutes.
`scripts/bench_agentwrite.py` includes these rows.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_table import Row, machine, print_table
from playwright.sync_api import Page, sync_playwright

from longwriter_core.mock_server import WRITER, MockServer

WORDS, LOADS = 100_000, 5
# Records the page's longest task, in milliseconds. The browser reports none below 50 ms.
_WATCH = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
}).observe({ type: "longtask", buffered: true });
"""
# Milliseconds from the start of the navigation until all sections are on the page and painted.
_SHOWN = """(count) => new Promise((done) => {
  const look = () => document.querySelectorAll(".section").length >= count
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now())))
    : setTimeout(look, 5);
  look();
})"""
# The longest gap between two frames while the text is scrolled through in 200 steps.
_SCROLL = """() => new Promise((done) => {
  let [last, longest, steps] = [performance.now(), 0, 0];
  const by = (document.documentElement.scrollHeight - innerHeight) / 200;
  const step = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    scrollTo(0, by * steps);
    (steps += 1) <= 200 ? requestAnimationFrame(step) : done(longest);
  };
  requestAnimationFrame(step);
})"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def measure_page(folder: Path, chromium: str, words: int = WORDS) -> Iterator[Row]:
    """All rows, as they are measured."""
    folder.mkdir(parents=True, exist_ok=True)
    with _serving(folder, words) as url, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page.set_default_timeout(120_000)
        page.add_init_script(_WATCH)
        page.goto(url)
        yield from _measure_writing(page, words)
        yield from _measure_opening(page)
        browser.close()


def _measure_writing(page: Page, words: int) -> Iterator[Row]:
    page.fill("#instruction", f"Write a {words:,}-word history of lighthouses.")
    page.click("#new .primary")
    page.wait_for_selector("#steps li")
    page.click("#start")
    page.wait_for_selector("#state:text-is('Finished')")
    longest = page.evaluate("window.longest")
    count = page.locator(".section").count()
    what = f"longest pause of the page while {count} sections, {words:,} words, arrive"
    yield what, "< 200 ms", f"{longest:.0f} ms", longest < 200


def _measure_opening(page: Page) -> Iterator[Row]:
    count, url = page.locator(".section").count(), page.url
    paints, shown, longest = [], [], []
    for _ in range(LOADS):
        page.goto("about:blank")
        page.goto(url)
        shown.append(page.evaluate(_SHOWN, count))
        paints.append(page.evaluate(_PAINT))
        longest.append(page.evaluate("window.longest"))
    paint, whole, task = map(statistics.median, (paints, shown, longest))
    yield "first paint of the studio's page", "< 500 ms", f"{paint:.0f} ms", paint < 500
    yield "until the whole text is on it", "< 2 s", f"{whole:.0f} ms", whole < 2000
    yield "longest pause meanwhile", "< 500 ms", f"{task:.0f} ms", task < 500
    frame = page.evaluate(_SCROLL)
    yield (
        "longest frame while scrolling from its first line to its last",
        "< 200 ms",
        (f"{frame:.0f} ms"),
        frame < 200,
    )


@contextlib.contextmanager
def _serving(folder: Path, words: int) -> Iterator[str]:
    """The address of a studio over a mock server, with a store of its own."""
    environment: dict[str, Any] = {**os.environ, "LONGWRITER_CACHE": str(folder / "cache")}
    environment.pop("AGENTWRITE_SERVE_KEY", None)
    with MockServer(keep_history=False) as model:
        command = [
            str(Path(sys.executable).with_name("agentwrite")), "serve", "--model", WRITER,
            "--base-url", model.base_url, "--port", "0", "--books", str(folder),
            "--max-words", str(words),
        ]  # fmt: skip
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            yield process.stderr.readline().partition("the studio is at ")[2].split()[0]
        finally:
            process.terminate()
            process.communicate()


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--words", type=int, default=WORDS, help="length of the text")
    parser.add_argument(
        "--chromium",
        default=shutil.which("chromium"),
        help="path of Chromium, by default found on PATH",
    )
    options = parser.parse_args()
    if not options.chromium:
        parser.error("found no chromium on PATH; name it with --chromium")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_page(Path(folder), options.chromium, options.words)
        return print_table(rows, machine(), options.output)


if __name__ == "__main__":
    sys.exit(main())
