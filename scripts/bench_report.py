"""Measure a report: how long it takes to write, how large it is, and how fast it opens.

    python scripts/bench_report.py [--output FILE.md]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed. The
run is made up: 120 responses of 10,000 words each, drawn by Zipf's law from 20,000 words, which
compress about as well as prose does. Needs Chromium; takes a minute or two.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from bench_table import Row, machine, print_table
from playwright.sync_api import Page, sync_playwright

from longwriter_core.mock_server.prose import random_words
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement, Verdict, read_verdict
from longwriter_eval.runs import save_run

RESPONSES, WORDS, LOADS, OPENED = 120, 10_000, 5, 30
SENTENCE = 17  # words
TYPES = ("News Report", "Popular Science", "Functional Writing", "Literature")

# Milliseconds from clicking a link in the list until its response has been painted.
_OPEN = """(place) => new Promise((done) => {
  const start = performance.now();
  const id = JSON.parse(document.getElementById("listed").textContent).prompts[place].id;
  const look = () => document.querySelector("#reader h3")?.textContent === id
    ? requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)))
    : setTimeout(look);
  location.hash = `p${place}`;
  look();
})"""
# The longest gap between two frames while the open response is scrolled, one screen at a time.
_SCROLL = """() => new Promise((done) => {
  const bottom = document.getElementById("reader").getBoundingClientRect().bottom + scrollY;
  let [last, longest] = [performance.now(), 0];
  const step = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    scrollBy(0, innerHeight / 2);
    scrollY + 2 * innerHeight < bottom ? requestAnimationFrame(step) : done(longest);
  };
  requestAnimationFrame(step);
})"""
_FILTER = """() => {
  const start = performance.now();
  const control = document.querySelector("select[name=order]");
  control.value = "overall";
  control.dispatchEvent(new Event("change", { bubbles: true }));
  document.body.offsetHeight;
  return performance.now() - start;
}"""


def text_of(words: int, source: Iterator[str]) -> str:
    """`words` made-up words in sentences and paragraphs."""
    drawn = list(itertools.islice(source, words))
    sentences = [
        " ".join(drawn[start : start + SENTENCE]).capitalize() + "."
        for start in range(0, words, SENTENCE)
    ]
    return "\n\n".join(" ".join(sentences[n : n + 6]) for n in range(0, len(sentences), 6))


def make_run(folder: Path) -> float:
    """Write a run in lm-eval's format; return the size of its responses in MB."""
    dice, words = random.Random(1), random_words(1)
    rows, size = [], 0
    for number in range(RESPONSES):
        text = text_of(WORDS, words)
        scores = {name: dice.randint(2, 5) for name in DIMENSIONS.values()}
        raw = json.dumps({"Analysis": text_of(150, words), **scores})
        verdict = Verdict(0, read_verdict(raw), None, raw=raw, model="gpt-4o-2024-05-13", asks=1)
        size += len(text.encode())
        rows.append(
            {
                "doc_id": number,
                "doc": {
                    "id": f"longbench_write/{number:03}",
                    "prompt": f"Write {WORDS} words. {text_of(40, words)}",
                    "type": TYPES[number % len(TYPES)],
                    "length": dice.choice((400, 1000, 3000, 6000, 10_000, 20_000)),
                    "language": ("en", "zh")[number % 2],
                    "judgement": Judgement.of([verdict], "p" * 64, text).record(),
                },
                "resps": [[text]],
            }
        )
    judge = {"model": "gpt-4o-2024-05-13", "temperature": 0.5, "max_tokens": 1024, "repeats": 1}
    record = {
        "version": "0",
        "data_sha256": "d" * 64,
        "judge": {**judge, "base_url": None, "prompt": "official"},
        "judge_prompt_sha256": "p" * 64,
    }
    config = {"metadata": {"version": 1.0, "longwriter": record}, "generation_kwargs": {}}
    results = {"model_name": "bench", "config": {}, "configs": {"longbench_write": config}}
    save_run(folder, results, {"longbench_write": rows})
    return size / 1e6


def measure_writing(folder: Path, path: Path) -> Iterator[Row]:
    """The time of the command, including its figures, and the size of its page."""
    size = make_run(folder)
    text = text_of(WORDS, random_words(2)).encode()
    command = [str(Path(sys.executable).with_name("longwriter")), "report", str(folder)]
    start = time.perf_counter()
    subprocess.run([*command, "-o", str(path)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    what = f"`longwriter report`: {RESPONSES} responses of {WORDS:,} words"
    yield what, "< 5 s", f"{seconds:.1f} s, figures and start included", seconds < 5
    packed = len(zlib.compress(text, 9)) / len(text)
    page_size = path.stat().st_size / 1e6
    measured = f"{page_size:.1f} MB, for {size:.1f} MB of responses"
    yield f"its page (these words compress to {packed:.0%})", "< 5 MB", measured, page_size < 5


def measure_opening(page: Page, path: Path) -> Iterator[Row]:
    """How fast Chromium opens the page from disk."""
    paints, ready = [], []
    for _ in range(LOADS):
        page.goto("about:blank")
        page.goto(path.resolve().as_uri())
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        ready.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    paint = statistics.median(paints)
    yield "first paint in Chromium, from disk", "< 200 ms", f"{paint:.0f} ms", paint < 200
    yield "loaded, with the list of prompts", "", f"{statistics.median(ready):.0f} ms", None
    places = random.Random(3).sample(range(RESPONSES), OPENED)
    opened = [page.evaluate(_OPEN, place) for place in places]
    middle, worst = statistics.median(opened), max(opened)
    what = f"open a sample, until painted: median and slowest of {OPENED}"
    yield what, "median < 100 ms", f"{middle:.0f} ms; {worst:.0f} ms", middle < 100
    yield "longest frame while scrolling through it", "", f"{page.evaluate(_SCROLL):.0f} ms", None
    yield (
        "sort the list differently",
        "< 100 ms",
        f"{(t := page.evaluate(_FILTER)):.0f} ms",
        t < 100,
    )


def measure(folder: Path, chromium: str) -> Iterator[Row]:
    """All rows, as they are measured."""
    path = folder / "report.html"
    yield from measure_writing(folder / "run", path)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield from measure_opening(browser.new_page(), path)
        browser.close()


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument(
        "--chromium",
        default=shutil.which("chromium"),
        help="path of Chromium, by default found on PATH",
    )
    options = parser.parse_args()
    if not options.chromium:
        parser.error("found no chromium on PATH; name it with --chromium")
    with tempfile.TemporaryDirectory() as folder:
        return print_table(measure(Path(folder), options.chromium), machine(), options.output)


if __name__ == "__main__":
    sys.exit(main())
