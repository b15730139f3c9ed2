"""The leaderboard's filters and the page that compares models, in a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from support.boards import entry_of, run_of
from support.browser import chromium, opened

from longwriter_eval.leaderboard.board_page import board_page, short_size, size_class
from longwriter_eval.leaderboard.compare_page import compare_page
from longwriter_eval.leaderboard.rankings import Ranking, rankings
from longwriter_eval.stats import thresholds

EVIL = "</script><script>document.title='owned'</script>"
__all__ = ["chromium"]  # pytest finds the fixture by its name here


def _grades(mean: float, seed: int) -> list[float]:
    hard = np.random.default_rng(0).normal(0, 8, 24)
    own = np.random.default_rng(seed).normal(0, 4, 24)
    return [float(grade) for grade in np.clip(mean + hard + own, 0, 100)]


def _model(parameters: int | None = None, licence: str | None = None, name: str = "x") -> Any:
    return {
        "id": {"value": name, "source": "run"},
        "parameters": parameters and {"value": parameters, "source": "run"},
        "licence": licence and {"value": licence, "source": "submitter"},
    }


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    """Four submissions of three models: high, low twice, and one with a hostile name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "BOOTSTRAP_RESAMPLES", 99)
        stated = {"cost_usd": 1.0, "minutes": None, "words_per_usd": 123_456.0}
        entries = [
            entry_of("high", run_of(_grades(85, 1)), model=_model(9_400_000_000, "mit", "high"),
                     stated={**stated, "words_per_minute": None}),
            entry_of("low", run_of(_grades(60, 2)), model=_model(70_000_000_000, None, "low")),
            entry_of("low", run_of(_grades(61, 3)), file="later.zip", date="2026-09-01T00:00:00Z",
                     model=_model(70_000_000_000, None, "low")),
            entry_of(EVIL, run_of(_grades(62, 4)), model=_model(None, "apache-2.0", EVIL)),
        ]  # fmt: skip
        (found,) = rankings(entries)
    return found


@pytest.fixture(scope="module")
def site(ranking: Ranking, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text(board_page([ranking], [[]], [], []), encoding="utf-8")
    (site / "compare.html").write_text(compare_page([ranking]), encoding="utf-8")
    return site


@pytest.fixture
def board(chromium: Browser, site: Path) -> Iterator[Page]:
    with opened(chromium, site / "index.html") as found:
        yield found.page
        assert (found.complaints, found.requests) == ([], [])


def _models(page: Page) -> list[str]:
    return list(page.locator("[data-ranking] table:visible tbody th > a:visible").all_inner_texts())


def test_models_are_filtered_by_size_and_licence_and_the_address_remembers_it(
    board: Page, chromium: Browser, site: Path
) -> None:
    board.select_option("#size", "large")
    assert _models(board) == ["low", "low"]
    board.select_option("#size", "")
    board.select_option("#licence", "mit")
    board.select_option("#language", "[2k,4k)")
    assert _models(board) == ["high"]
    place = "#" + board.url.partition("#")[2]
    with opened(chromium, site / "index.html", place=place) as again:
        assert _models(again.page) == ["high"]
        assert again.page.locator("#language").input_value() == "[2k,4k)"
        again.page.select_option("#licence", "none")
        assert _models(again.page) == ["low", "low"]


def test_an_address_with_unknown_values_shows_everything(chromium: Browser, site: Path) -> None:
    place = "#judge=gone&prompts=none&size=x&search="
    with opened(chromium, site / "index.html", place=place) as found:
        assert len(_models(found.page)) == 4
        assert found.complaints == []


def test_stated_words_per_dollar_have_a_column(board: Page) -> None:
    assert "123,456" in board.locator(".ranking table:visible").inner_text()


def _two(chromium: Browser, site: Path, ranking: Ranking, a: int, b: int) -> list[list[str]]:
    ids = [entry["sha256"][:16] for entry in ranking.entries]
    with opened(chromium, site / "compare.html", place=f"#a={ids[a]}&b={ids[b]}") as found:
        assert found.complaints == []
        rows = found.page.locator("#groups tbody tr")
        return [rows.nth(n).locator("th, td").all_inner_texts() for n in range(rows.count())]


def test_two_models_are_compared_by_the_tests_of_the_ranks(
    chromium: Browser, site: Path, ranking: Ranking
) -> None:
    for a, b in ((0, 1), (3, 1), (2, 3)):
        rows = _two(chromium, site, ranking, a, b)
        assert len(rows) == len(ranking.scopes)
        for scope, (*_, p, claim) in zip(ranking.scopes, rows, strict=True):
            above = scope.is_above
            expected = "A is higher" if above[a, b] else "B is higher" if above[b, a] else "–"
            assert claim == expected
            corrected = scope.p_corrected[a, b]
            assert p == "< 0.0001" or float(p) == pytest.approx(corrected, abs=1.01e-4)


def test_the_head_to_head_says_who_is_higher(chromium: Browser, site: Path) -> None:
    with opened(chromium, site / "compare.html") as found:
        page = found.page
        assert page.locator("#verdict").inner_text().startswith("high scores higher over the same")
        address = page.locator("#pairs tbody td a").first.get_attribute("href") or ""
        assert "report.html#longbench_write/" in address
        page.select_option("#b", page.locator("#a").input_value())
        assert page.locator("#verdict").inner_text() == "Choose two models."
        assert found.complaints == []


def test_one_prompt_is_shown_across_all_models(chromium: Browser, site: Path) -> None:
    with opened(chromium, site / "compare.html", place="#prompt=longbench_write/007") as found:
        cells = found.page.locator("#responses tbody tr").all_inner_texts()
        assert len(cells) == 4
        assert all(text.split("\t")[-1] == "107" for text in cells)  # words


def test_the_history_of_a_model_lists_its_submissions_by_date(
    chromium: Browser, site: Path
) -> None:
    with opened(chromium, site / "compare.html", place="#model=low") as found:
        dates = found.page.locator("#submissions tbody th a").all_inner_texts()
        assert dates == ["2026-03-01", "2026-09-01"]


def test_a_hostile_name_is_text(chromium: Browser, site: Path) -> None:
    with opened(chromium, site / "compare.html") as found:
        assert found.page.title() == "Compare models · longwriter"
        assert EVIL in found.page.locator("#responses").inner_text()


def test_a_page_without_submissions_opens(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "compare.html").write_text(compare_page([]), encoding="utf-8")
    with opened(chromium, tmp_path / "compare.html") as found:
        assert "No submission" in found.text("main")
        assert found.complaints == []


def test_sizes_are_classed_and_shortened() -> None:
    sizes = (None, 350_000_000, 9_400_000_000, 70_600_000_000, 1_500_000_000_000)
    assert [size_class(size) for size in sizes] == ["none", "small", "medium", "large", "huge"]
    assert [short_size(size) for size in sizes[1:] if size] == ["350M", "9.4B", "70.6B", "1.5T"]
