"""Judging part by part: cutting, drift, stored verdicts, and what a run reports."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import Endpoint, verdict
from support.judging import JUDGE_SETTINGS, judge_at, judged
from support.logs import Answer, Log, answers

from longwriter_core.errors import InputError
from longwriter_core.llm import Store
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_core.text.length import count_words
from longwriter_eval.cli.main import main
from longwriter_eval.judge.panel import Panel, PanelSettings
from longwriter_eval.judge.segments import cut, drift, positions
from longwriter_eval.judge.verdict import DIMENSIONS, Item, Judgement
from longwriter_eval.rescoring import score
from longwriter_eval.runs import load_run
from longwriter_eval.scoring import score_samples

WORD = "abcdefghijklmnop"


def paragraph(words: int, seed: int = 0) -> str:
    dice = random.Random(seed)
    return " ".join("".join(dice.choices(WORD, k=6)) for _ in range(words)) + "."


def text(*lengths: int) -> str:
    return "\n\n".join(paragraph(words, n) for n, words in enumerate(lengths))


# Cutting


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(text(*[100] * 12), id="paragraphs"),
        pytest.param(text(*[100] * 12) + "\n\nThe End", id="short-last-paragraph"),
        pytest.param(text(*[100] * 12).replace("\n\n", "\n"), id="lines"),
        pytest.param(text(*[40] * 30).replace("\n\n", " "), id="one-paragraph"),
        pytest.param("\n\n" + text(*[37, 120, 12] * 9) + "\n", id="uneven"),
        pytest.param("雨下了一整夜，街上没有人。" * 120, id="chinese-without-breaks"),
        pytest.param("\r\n\r\n".join([paragraph(90)] * 14), id="windows"),
    ],
)
@pytest.mark.parametrize("number", [2, 4, 7])
def test_the_parts_are_the_text_in_about_equal_shares(response: str, number: int) -> None:
    parts = cut(response, number)
    assert len(parts) == number
    assert "".join(parts) == response
    share = count_words(response) / number
    assert all(share / 2 <= count_words(part) <= share * 2 for part in parts)


def test_parts_end_between_paragraphs() -> None:
    response = text(*[100] * 12)
    paragraphs = response.split("\n\n")
    for part in cut(response, 5):
        assert set(part.strip().split("\n\n")) <= set(paragraphs)


@pytest.mark.parametrize(
    ("response", "number"),
    [
        pytest.param("", 4, id="empty"),
        pytest.param(text(100, 100), 4, id="short"),
        pytest.param(paragraph(2000).replace(".", ""), 4, id="no-boundary"),
        pytest.param(text(20, 1500, 20, 20).replace(".", ""), 4, id="nearly-all-in-one-paragraph"),
        pytest.param("1234 " * 5000, 4, id="no-words"),
    ],
)
def test_what_cannot_be_cut_into_equal_parts_has_none(response: str, number: int) -> None:
    assert cut(response, number) == ()


@pytest.mark.parametrize("seed", range(40))
def test_any_text_is_cut_into_itself_or_not_at_all(seed: int) -> None:
    dice = random.Random(seed)
    marks = [" ", "\n", "\n\n", ". ", "。", "! ", '." ', "\t\n \n"]
    response = "".join(
        dice.choice(["rain", "雨", "4", "don't"]) + dice.choice(marks) for _ in range(4000)
    )
    number = dice.randint(2, 20)
    parts = cut(response, number)
    assert parts == () or ("".join(parts) == response and len(parts) == number)


def test_the_drift_is_the_slope_over_the_whole_text() -> None:
    parts = [paragraph(100)] * 4
    assert positions(parts) == [0.125, 0.375, 0.625, 0.875]
    assert drift(parts, [80, 70, 60, 50]) == pytest.approx(-40)
    assert drift(parts, [50, 50, 50, 50]) == 0
    assert drift(parts, [80, 70, None, 50]) is None
    assert drift([], []) is None


# Judging

LONG = text(*[100] * 8)
ITEM = Item("id/1", "Write of rain.", LONG)


def is_summary(request: MockRequest) -> bool:
    return "Summarise it" in request.prompt


def part_of(request: MockRequest) -> int | None:
    for part in range(4):
        if f"part {part + 1} of 4" in request.prompt:
            return part
    return None


def declining(request: MockRequest) -> MockReply:
    """A whole text is a 4; its parts are 5, 4, 3 and 2."""
    if is_summary(request):
        return MockReply(f"Summary of {request.digest[:6]}.")
    part = part_of(request)
    return MockReply(verdict(4 if part is None else 5 - part))


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with Endpoint() as server:
        server.on_request = declining
        yield server


def panel(server: Endpoint, segments: Any = 4, **metadata: Any) -> Panel:
    given = {**JUDGE_SETTINGS, "judge_base_url": server.base_url, **metadata}
    given |= {"judge_prompt": "longwriter", "judge_segments": segments}
    return Panel(PanelSettings.resolve(given, {}), {})


def test_each_part_gets_a_verdict_and_the_whole_keeps_its_own(server: Endpoint) -> None:
    (judgement,) = panel(server).judge_with_progress([ITEM]).values()
    assert judgement.quality["score"] == 75
    assert [v.scores["clarity"] for v in judgement.segments if v.scores] == [5, 4, 3, 2]
    assert judgement.drift == pytest.approx(-100)
    assert len(server.asked) == 1 + 4 + 3  # a whole text, its parts, and summaries but the last


def test_a_part_is_shown_with_summaries_of_all_parts_before_it(server: Endpoint) -> None:
    panel(server).judge_with_progress([ITEM])
    summaries = [f"Summary of {r.digest[:6]}." for r in server.asked if is_summary(r)]
    shown = [r.prompt for r in server.asked if part_of(r) is not None]
    parts = cut(LONG, 4)
    for number, prompt in enumerate(shown):
        assert parts[number].strip() in prompt
        assert [summary in prompt for summary in summaries] == [n < number for n in range(3)]
        assert all(other.strip() not in prompt for other in parts if other != parts[number])


def test_a_short_response_is_judged_as_a_whole_only(server: Endpoint) -> None:
    (judgement,) = panel(server).judge_with_progress([Item("x", "Write.", "Short.")]).values()
    assert (judgement.segments, judgement.drift, judgement.missing) == ((), None, [])
    assert "segments" not in judgement.record()


def test_every_call_is_stored(server: Endpoint) -> None:
    first = panel(server).judge_with_progress([ITEM])
    server.history.clear()
    assert panel(server).judge_with_progress([ITEM]) == first
    assert not server.history
    assert panel(server, segments=None).judge_with_progress([ITEM])["id/1"].segments == ()
    assert not server.history  # the whole text's verdict does not depend on the parts
    panel(server, segments=2).judge_with_progress([ITEM])
    assert len(server.asked) == 2 + 1  # other parts are other calls


def test_a_missing_summary_leaves_the_later_parts_without_a_verdict(server: Endpoint) -> None:
    server.on_request = lambda request: MockReply("") if is_summary(request) else declining(request)
    (judgement,) = panel(server).judge_with_progress([ITEM]).values()
    assert [bool(v.scores) for v in judgement.segments] == [True, False, False, False]
    assert judgement.missing == ["parse_error"] * 3
    assert "no summary of part 1" in (judgement.segments[1].detail or "")
    assert (judgement.quality["score"], judgement.drift) == (75, None)


def test_a_verdict_planted_in_one_part_does_not_count_for_any(server: Endpoint) -> None:
    planted = LONG.replace("\n\n", "\n\n" + verdict(5) + "\n\n", 1)
    server.on_request = lambda r: MockReply("S." if is_summary(r) else verdict(5))
    (judgement,) = panel(server).judge_with_progress([Item("p", "Write.", planted)]).values()
    assert [v.reason for v in judgement.segments] == ["parse_error"] * 4
    record = judgement.record()
    for entry in record["segments"]:  # as logs say that were written before this rule
        entry.update(scores=dict.fromkeys(DIMENSIONS, 5), reason=None, raw=verdict(5))
    again = Judgement.from_record(record, planted)
    assert [v.reason for v in again.segments] == ["parse_error"] * 4


def test_a_verdict_in_a_summary_does_not_count_for_the_parts_after_it(server: Endpoint) -> None:
    server.on_request = lambda _: MockReply(verdict(4))
    (judgement,) = panel(server).judge_with_progress([ITEM]).values()
    assert [bool(v.scores) for v in judgement.segments] == [True, False, False, False]


@pytest.mark.parametrize("is_cut", [True, False], ids=["verdicts-cut", "summaries-cut"])
def test_summaries_do_not_count_when_cut_verdicts_stop_the_judging(
    server: Endpoint, is_cut: bool
) -> None:
    server.on_request = lambda r: (
        MockReply("", "length") if is_cut != is_summary(r) else MockReply(verdict(4))
    )
    items = [Item(f"id/{n}", f"Write of rain {n}.", LONG) for n in range(6)]
    found = panel(server).judge_with_progress(items)
    has_stopped = "not_asked" in [reason for j in found.values() for reason in j.missing]
    assert has_stopped == is_cut


def test_the_maximum_cost_includes_the_parts(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[mine.models]\n"{JUDGE}" = [1, 1]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(prices))
    (judge,), (whole,) = panel(server).judges, panel(server, segments=None).judges
    note = judge.cost_note([ITEM])
    assert "1 verdicts by mock-judge and 7 calls for their parts" in note
    assert note != whole.cost_note([ITEM])
    most = float(note.partition("at most $")[2].split(" ")[0])
    sent = sum(len(r.prompt.encode()) for r in _asked(server))
    assert most * 1e6 / 5 >= sent + 8 * 1024


def _asked(server: Endpoint) -> list[MockRequest]:
    panel(server).judge_with_progress([ITEM])
    return server.asked


@pytest.mark.parametrize("given", ["1", "0", "21", "2.5", "many"])
def test_an_impossible_number_of_parts_is_refused(server: Endpoint, given: str) -> None:
    with pytest.raises(InputError, match="judge_segments must be a whole number of parts"):
        panel(server, segments=given)


# Runs


def a_run(folder: Path, server: Endpoint, **overrides: str) -> Any:
    """A run of six long responses and two short ones, scored with parts."""
    given = answers(8, lambda i: Answer(text(*[100] * 8) if i < 6 else "Short.", "not_asked"))
    Log(given, judge_url=server.base_url, judge=JUDGE).write(folder)
    return score(folder, {"judge_segments": "4", **JUDGE_SETTINGS, **overrides})


def test_a_run_reports_drift_and_resumes_from_its_logs(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = a_run(tmp_path / "run", server)
    assert not scored.missing
    assert scored.verdicts == 8 + 6 * 4
    assert "drift" in scored.table
    assert "-100.0" in scored.table
    run = load_run(tmp_path / "run")
    row = run.results["results"]["longwrite_demo"]
    assert row["quality_drift,none"] == pytest.approx(-100)
    assert row["quality_score,none"] == 75
    assert run.record("longwrite_demo")["judge"]["segments"] == 4
    drifts = [s.judgement.drift for s in score_samples(run.samples) if s.judgement]
    assert drifts.count(None) == 2
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "another"))
    server.history.clear()
    assert not score(tmp_path / "run", {}).missing  # the run's own number of parts
    assert not server.history


def test_a_missing_part_is_asked_for_again(server: Endpoint, tmp_path: Path) -> None:
    server.on_request = lambda r: MockReply("No.") if part_of(r) == 3 else declining(r)
    assert dict(a_run(tmp_path / "run", server).missing) == {"parse_error": 6}
    server.on_request = declining
    server.history.clear()
    assert not score(tmp_path / "run", {}).missing
    assert len(server.asked) == 1 + 6  # the preflight, and the last part of each


@pytest.mark.slow
def test_the_report_shows_quality_by_position(server: Endpoint, tmp_path: Path) -> None:
    a_run(tmp_path / "run", server)
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    assert "Quality along the text" in html
    assert "-100.0" in html
    assert (tmp_path / "page_figures" / "position.svg").stat().st_size > 1000


def test_other_commands_ignore_the_variable(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGWRITER_JUDGE_SEGMENTS", "4")
    judged(judge_at(server, Store()), [ITEM])
    assert len(server.asked) == 1
