"""axe-core finds no violation on any page."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import DESK, PHONE, accessibility_violations, axe_source, chromium
from support.logs import Answer, Log, answers, words
from support.submissions import submitted

from longwriter_eval.leaderboard.site import build
from longwriter_eval.report import write_report

__all__ = ["chromium"]

SCREENS = pytest.mark.parametrize(
    ("width", "theme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"]
)


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


def _run(text: str, grade: int) -> Log:
    def answer(number: int) -> Answer:
        return Answer(
            f"# {text}\n\n{words(600 + number)} {words(40)}",
            "refused" if number == 1 else (grade, min(5, grade + number % 2)),
            required=(300, 1000, 3000)[number % 3],
            language=("en", "zh")[number % 2],
        )

    return Log(answers(9, answer))


@pytest.mark.parametrize("runs", [1, 3], ids=["one-run", "three-runs"])
@pytest.mark.parametrize("place", ["", "#longwrite_demo/002"], ids=["start", "reading"])
@SCREENS
def test_reports(
    runs: int, place: str, width: int, theme: str, axe: str, chromium: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    folders = [tmp_path / f"run-{number}" for number in range(runs)]
    loaded = [_run(f"T{n}", 2 + n).load(f) for n, f in enumerate(folders)]
    write_report(loaded, path)
    assert accessibility_violations(chromium, path, axe, width, theme, place) == []


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for name, grade in (("good", 4), ("bad", 2)):
        submitted(folder / "submissions", name, grade=lambda n, grade=grade: grade - n % 2)
    (folder / "submissions" / "broken.zip").write_bytes(b"no zip")
    return build(folder / "submissions", folder / "site").page


@SCREENS
def test_the_leaderboard(width: int, theme: str, axe: str, chromium: Browser, board: Path) -> None:
    assert accessibility_violations(chromium, board, axe, width, theme) == []
