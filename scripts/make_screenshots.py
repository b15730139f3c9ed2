"""Make the screenshots in the documentation: the leaderboard and a report.

    LONGWRITER_ASSETS=DIR python scripts/make_screenshots.py [--submissions 12]

Writes docs/images/{leaderboard,report}.png from made-up submissions, whose scores
mean nothing. Needs Chromium and upstream's prompts; takes a minute or two.
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench_submission import make_run
from playwright.sync_api import sync_playwright

from longwriter_eval.leaderboard.site import build
from longwriter_eval.submission.archive import pack
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1100, 720  # CSS pixels
SIZES = (9_400_000_000, 8_000_000_000, 70_600_000_000, 32_000_000_000)
LICENCES = ("apache-2.0", "llama3.1", "mit")


def make_site(folder: Path, number: int) -> Path:
    """A site of `number` made-up submissions: models that stop early, and models that do not."""
    submissions = folder / "submissions"
    submissions.mkdir()
    for seed in range(number):
        share = 0.35 + 0.6 * ((seed * 5) % number) / number

        def length(required: int, share: float = share) -> int:
            return max(60, round(required * min(0.95, share + 400 / required)))

        run = make_run(f"made-up/Scribe-{seed + 1}", length, seed)
        run.results["date"] = 1_740_000_000 + seed * 86_400
        stated = StatedMetadata(
            parameters=SIZES[seed % len(SIZES)], licence=LICENCES[seed % len(LICENCES)]
        )
        (submissions / f"{seed:02}.zip").write_bytes(pack(build_submission(run, stated)))
    with contextlib.redirect_stderr(io.StringIO()):
        return build(submissions, folder / "site").page.parent


def main() -> int:
    """Write the images; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--submissions", type=int, default=12)
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder for the images")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of Chromium")
    options = parser.parse_args()
    if not options.chromium:
        parser.error("found no chromium on PATH; name it with --chromium")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = make_site(Path(folder), options.submissions)
        report = next((site / "submissions").glob("*/report.html"))
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=options.chromium, args=arguments)
        for name, path in {"leaderboard": site / "index.html", "report": report}.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(path.as_uri())
            page.screenshot(path=options.output / f"{name}.png")
            print(f"wrote {options.output / name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
