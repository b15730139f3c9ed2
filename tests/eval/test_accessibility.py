"""axe-core finds no violation on any page."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.browser import (
    DESK,
    PHONE,
    accessibility_violations,
    axe_source,
    chromium,
    opened,
)
from support.logs import Answer, Log, answers, words
from support.submissions import submitted

from longwriter_eval.leaderboard.site import build
from longwriter_eval.report import write_report

pytestmark = pytest.mark.slow

__all__ = ["chromium"]

SCREENS = pytest.mark.parametrize(
    ("width", "theme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"]
)
ALL_SCREENS = pytest.mark.parametrize(
    ("width", "theme"),
    [(width, theme) for width in (1440, 820, PHONE) for theme in ("light", "dark")],
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


@pytest.mark.slow
@ALL_SCREENS
@pytest.mark.parametrize("name", ["index.html", "compare.html"])
def test_every_page_of_the_site_on_every_screen(
    name: str, width: int, theme: str, axe: str, chromium: Browser, board: Path
) -> None:
    path = board.with_name(name)
    assert accessibility_violations(chromium, path, axe, width, theme) == []
    with opened(chromium, path, width, theme) as found:
        assert found.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@ALL_SCREENS
def test_the_page_of_two_runs_on_every_screen(
    width: int, theme: str, axe: str, chromium: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "compare.html"
    write_report([_run(f"T{n}", 2 + n).load(tmp_path / f"{n}") for n in range(2)], path)
    assert accessibility_violations(chromium, path, axe, width, theme) == []
