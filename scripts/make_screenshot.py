"""Make the picture of the studio in docs/write.md.

    python scripts/make_screenshot.py [--output FILE.png]

Runs the real `agentwrite serve` against a mock server that answers with the plan and the passages
below, and takes the picture while the third section is being written. Needs Chromium.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from longwriter_core.mock_server import MockReply, MockRequest, MockServer

OUTPUT = Path(__file__).parents[1] / "docs" / "images" / "studio.png"
SIZE = ViewportSize(width=1240, height=640)
MODEL = "my-model"
INSTRUCTION = "Write a 1,000-word history of lighthouses, for readers who love the sea."
POINTS = (
    "Fires on headlands: how sailors found the shore before there were towers",
    "The Pharos of Alexandria, its mirror, and its fall",
    "Coal, oil and keepers: the private lights of the seventeenth century",
    "Fresnel's lens: how glass made a small flame visible at twenty miles",
    "A keeper's night, hour by hour",
    "Wrecks that changed the law",
    "Electric light, fog signals and radio beacons",
    "The last keepers, and what automation left behind",
)
SECTIONS = {
    1: "Before there were towers there were fires. A village that had lost a boat would climb its "
    "headland at dusk, pile up driftwood and furze, and burn it until the boats were home. Nobody "
    "kept the accounts of such lights, and nobody owned them. They were a duty, like baking, and "
    "they went out as soon as the last sail was counted.\n\nWhat a sailor saw from the water was "
    "less certain. A fire on the left could be a beacon, a charcoal burner, or a man who hoped for "
    "a wreck. So the fires were given places and habits: always two, one above the other; always "
    "beside the white chapel; never on a night when the harbour was closed.",
    2: "The tower at Alexandria was begun for a king who wanted to be seen, and finished for "
    "sailors who wanted to see. Three storeys of pale stone rose from a rock at the mouth of the "
    "harbour: a square, an octagon, a drum. At its top burned a fire that ate a shipload of wood "
    "in a week.",
}


def answer(request: MockRequest) -> MockReply | None:
    """The plan, the first two sections, and then nothing for as long as the picture takes."""
    if not request.is_chat:
        return None
    if request.schema or "1 - Main Point: [" in request.prompt:
        steps = [{"main_point": point, "word_count": 125} for point in POINTS]
        lines = [
            f"Paragraph {n} - Main Point: {step['main_point']} - Word Count: 125 words"
            for n, step in enumerate(steps, 1)
        ]
        return MockReply(json.dumps({"steps": steps}) if request.schema else "\n".join(lines))
    number = int(re.findall(r"Paragraph (\d+) - Main Point", request.prompt)[-1])
    return MockReply(SECTIONS[number]) if number in SECTIONS else MockReply(fault="hang")


def take(url: str, chromium: str, output: Path) -> None:
    """Write a text in the browser, and take its picture."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(url)
        page.fill("#instruction", INSTRUCTION)
        page.fill("input[name=title]", "A history of lighthouses")
        page.click("#new .primary")
        page.wait_for_selector("#steps li")
        page.click("#start")
        page.wait_for_selector("#section-2")
        page.screenshot(path=output)
        browser.close()


def main() -> int:
    """Take the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the picture")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of Chromium")
    options = parser.parse_args()
    if not options.chromium:
        parser.error("found no chromium on PATH; name it with --chromium")
    with tempfile.TemporaryDirectory() as folder:
        prices = Path(folder, "prices.toml")
        prices.write_text(f'[mine.models]\n"{MODEL}" = [2.5, 10.0]\n', encoding="utf-8")
        environment = {
            **os.environ, "LONGWRITER_CACHE": folder, "LONGWRITER_PRICES": str(prices)
        }  # fmt: skip
        environment.pop("AGENTWRITE_SERVE_KEY", None)
        with MockServer(models={MODEL: None}, on_request=answer, delay=1.0) as model:
            process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("agentwrite")), "serve", "--model", MODEL,
                    "--base-url", model.base_url, "--port", "0", "--books", folder,
                ],
                env=environment, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                assert process.stderr
                url = process.stderr.readline().partition("the studio is at ")[2].split()[0]
                take(url, options.chromium, options.output)
            finally:
                process.terminate()
                process.communicate()
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
