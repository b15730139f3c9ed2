"""The judge's exam: its texts, its damages, and the results of bad and good judges."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from support.commands import run
from support.endpoint import DIMENSIONS, KEY, Endpoint
from support.judging import JUDGE_OPTIONS, judge_at, judged

from longwriter_core.llm import Store
from longwriter_core.mock_server import MockReply, MockRequest, MockServer
from longwriter_core.text.diagnostics import repetition
from longwriter_core.text.endings import is_cut_off
from longwriter_core.text.language import is_written_in, main_language
from longwriter_core.text.length import count_words
from longwriter_eval.cli.main import main
from longwriter_eval.judge_exam import (
    DAMAGES,
    PADDED,
    SEVERITIES,
    ExamItem,
    ExamResult,
    auc,
    exam_items,
    exam_texts,
    grade,
)

TEXTS = exam_texts()
EQUAL_LENGTH = [name for name in DAMAGES if name not in ("cut", "language")]

each_text = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)


def result_of(answer: Callable[[MockRequest], MockReply | str], folder: Path) -> ExamResult:
    """The exam of a mock judge, over the judge's own code path."""
    items = exam_items()
    with Endpoint(on_request=answer, keep_history=False) as server:
        judge = judge_at(server, Store(folder))
        return grade(items, judged(judge, [each.item() for each in items]))


def response_of(request: MockRequest) -> str:
    """The response in the prompt of a judge's request."""
    found = re.search(r"<(?:Response|Text)>\n?(.*)\n?</(?:Response|Text)>", request.prompt, re.S)
    assert found
    return found[1].strip()


def reply(quality: float) -> str:
    """A judge's reply whose six grades add up to a sum for `quality`, from 0 to 1."""
    points = round(24 * min(1.0, max(0.0, quality)))
    grades = [1 + points // 6 + (number < points % 6) for number in range(6)]
    return json.dumps({"Analysis": "Read.", **dict(zip(DIMENSIONS, grades, strict=True))})


def of(result: ExamResult, damage: str) -> Any:
    return next(each for each in result.damages if each.damage == damage)


# The texts


def test_there_are_six_texts_of_six_kinds_in_each_language() -> None:
    kinds = {"essay", "short story", "guide", "report", "speech", "travel piece"}
    assert Counter(text.language for text in TEXTS) == {"en": 6, "zh": 6}
    for language in ("en", "zh"):
        assert {text.kind for text in TEXTS if text.language == language} == kinds


@each_text
def test_a_text_has_2000_words_in_its_language_and_no_fault(text: Any) -> None:
    assert count_words(text.text) >= 2000
    assert is_written_in(text.text, text.language)
    assert repetition(text.text) == 0
    assert not is_cut_off(text.text)


@each_text
def test_the_facts_and_contradictions_refer_to_statements_in_the_text(text: Any) -> None:
    assert (len(text.facts), len(text.contradictions)) == (6, 3)
    for said, false in text.facts:
        assert text.text.count(said) == 1
        assert false not in text.text
    for said, sentence in text.contradictions:
        assert said in text.text
        assert sentence not in text.text


# The damages


@each_text
@pytest.mark.parametrize("name", DAMAGES)
def test_each_severity_changes_the_text_more(text: Any, name: str) -> None:
    def kept(damaged: str) -> int:
        """Characters in paragraphs that have kept their place."""
        lines = damaged.split("\n\n")
        pairs = zip(lines, text.paragraphs, strict=False)
        return sum(len(new) for new, old in pairs if new == old)

    versions = [DAMAGES[name](text, severity) for severity in SEVERITIES]
    assert len({text.text, *versions}) == 4
    shares = [kept(version) for version in versions]
    assert shares == sorted(shares, reverse=True)


@each_text
@pytest.mark.parametrize("name", EQUAL_LENGTH)
def test_damages_other_than_the_cut_keep_the_length(text: Any, name: str) -> None:
    for severity in SEVERITIES:
        words = count_words(DAMAGES[name](text, severity))
        assert words == pytest.approx(count_words(text.text), rel=0.15)


@each_text
def test_a_third_is_cut_off_in_the_middle_of_a_sentence(text: Any) -> None:
    cut = DAMAGES["cut"](text, 2)
    assert text.text.startswith(cut)
    assert len(cut) / len(text.text) == pytest.approx(2 / 3, abs=0.02)
    assert cut[-1].isalnum()
    if text.language == "en":
        assert text.text[len(cut)] in " ,;:."


@each_text
def test_shuffling_keeps_every_paragraph(text: Any) -> None:
    shuffled = DAMAGES["shuffled"](text, 3).split("\n\n")
    assert sorted(shuffled) == sorted(text.paragraphs)
    assert all(a != b for a, b in zip(shuffled[1:], text.paragraphs[1:], strict=True))


def test_the_judge_is_not_told_about_the_damage() -> None:
    names = re.compile("|".join([*DAMAGES, PADDED, "undamaged", "severity", "exam"]))
    for each in exam_items():
        item = each.item()
        added = item.response.replace(each.text.text, "")
        assert item.instruction == each.text.instruction
        if each.severity == 0:
            assert not added
        title = each.text.paragraphs[0]
        assert item.response.startswith(title)
        assert not names.search(item.instruction.replace("damaged", ""))


def test_the_exam_is_the_same_for_every_judge() -> None:
    again = {each.id: each.response for each in exam_items()}
    assert again == {each.id: each.response for each in exam_items()}
    assert len(again) == 12 * (2 + 7 * 3)
    assert all(each.text.language == "zh" for each in exam_items("zh"))


# Judges


def at_random(request: MockRequest) -> str:
    return reply(Random(request.digest).random())


def by_length(request: MockRequest) -> str:
    """A judge that only counts words."""
    return reply(count_words(response_of(request)) / 4500)


def by_reading(request: MockRequest) -> str:
    """A judge that checks for repetition, language, overlap with the request and an ending."""
    response = response_of(request)
    asked = re.search(r"<Request>(.*?)</Request>", request.prompt, re.S)
    language = "zh" if asked and "请" in asked[1] else "en"
    lines = [line for line in response.splitlines() if line.strip()]
    foreign = sum(main_language(line) != language for line in lines) / len(lines)
    first, last = (set(_pieces(part, language)) for part in (response[:4000], response[-4000:]))
    quality = 0.9 - (1 - len(set(lines)) / len(lines)) - foreign
    quality -= 0.3 * (lines[-1][-1] not in ".。!?”\"'」")
    quality -= max(0.0, 0.5 - len(first & last) / min(len(first), len(last)))
    return reply(quality)


def _pieces(text: str, language: str) -> list[str]:
    if language == "en":
        return re.findall(r"[a-z]{4,}", text.lower())
    return [text[i : i + 2] for i in range(len(text) - 1)]


def test_a_judge_that_answers_at_random_has_an_auc_near_a_half(tmp_path: Path) -> None:
    result = result_of(at_random, tmp_path)
    assert result.auc == pytest.approx(0.5, abs=0.08)
    assert all(damage.auc.low < 0.5 < damage.auc.high for damage in result.damages)
    assert all(damage.monotony == pytest.approx(0.5, abs=0.15) for damage in result.damages)
    assert abs(result.length_correlation) < 0.2


def test_a_judge_that_measures_only_length_is_detected(tmp_path: Path) -> None:
    result = result_of(by_length, tmp_path)
    assert of(result, "cut").auc.mean > 0.9
    for name in ("shuffled", "topic", "facts", "contradictions"):
        assert of(result, name).auc.mean == pytest.approx(0.5, abs=0.15)
    assert result.padding_gain.low > 5
    assert result.length_correlation > 0.5


def test_a_judge_that_reads_detects_damages_and_does_not_prefer_padding(tmp_path: Path) -> None:
    result = result_of(by_reading, tmp_path)
    for name in ("cut", "loop", "language"):
        assert of(result, name).auc.low > 0.8, name
        assert of(result, name).monotony > 0.6
    assert result.padding_gain.high < 0
    assert result.length_correlation < 0.5


# Figures


def graded(score: Callable[[ExamItem, int], float]) -> ExamResult:
    """The result for a judge whose verdicts are given by a function of item and repeat."""
    from longwriter_eval.judge.verdict import Judgement, Verdict

    def judgement(item: ExamItem) -> Judgement:
        grades = [round(score(item, repeat)) for repeat in range(2)]
        names = (
            "relevance", "accuracy", "coherence", "clarity", "breadth_depth", "reading_experience"
        )  # fmt: skip
        verdicts = [Verdict(n, dict.fromkeys(names, g), None) for n, g in enumerate(grades)]
        return Judgement.of(verdicts, "p", item.response)

    items = exam_items()
    return grade(items, {item.id: judgement(item) for item in items})


def test_a_judge_that_orders_every_severity_correctly_has_perfect_results() -> None:
    result = graded(lambda item, _repeat: 5 - item.severity)
    for damage in result.damages:
        assert (damage.detected, damage.auc.mean, damage.monotony) == (1, 1, 1)
    assert result.padding_gain.mean == -25


def test_ties_are_not_detected_and_count_a_half() -> None:
    result = graded(lambda _item, _repeat: 3)
    for damage in result.damages:
        assert (damage.detected, damage.auc.mean, damage.monotony) == (0, 0.5, 0.5)
    assert auc([1, 2], [1, 2]) == 0.5


def test_the_retest_deviation_is_that_of_one_verdict() -> None:
    # Two verdicts one point apart are 25 points of S_q apart: 25 / sqrt(2) each.
    result = graded(lambda _item, repeat: 3 + repeat)
    assert result.retest_sd == pytest.approx(25 / np.sqrt(2))


def test_items_without_a_verdict_are_left_out() -> None:
    items = exam_items()
    result = grade(items, {})
    assert (result.judged, result.asked) == (0, len(items))
    assert all(damage.texts == 0 for damage in result.damages)


# The command


@pytest.mark.slow
def test_the_command_prints_results_and_a_rerun_makes_no_calls(tmp_path: Path) -> None:
    with MockServer(keep_history=False) as server:
        arguments = (
            "judge-exam", *JUDGE_OPTIONS, "--judge-base-url", server.base_url, "--judge-prompt",
            "longwriter", "--language", "zh", "--output",
            str(tmp_path / "exam.json"),
        )  # fmt: skip
        changes = {"LONGWRITER_CACHE": str(tmp_path / "c"), "LONGWRITER_JUDGE_API_KEY": KEY}
        first = run("longwriter", *arguments, **changes)
        asked = sum(server.stats().calls.values())
        second = run("longwriter", *arguments, **changes)
        assert sum(server.stats().calls.values()) == asked
    assert first.code == second.code == 0, first.out
    assert re.search(r"facts +\d+%", first.out)
    assert "138 of 138 texts judged" in first.out
    assert re.search(r"Mean AUC +0\.\d\d .*; Chinese 0\.\d\d\)", first.out)
    assert KEY not in (tmp_path / "exam.json").read_text()


def test_a_judge_that_is_blind_in_one_language_is_exposed() -> None:
    result = graded(lambda item, _: 4 if item.text.language == "zh" else 4 - item.severity)
    assert result.auc_by_language["zh"] == 0.5
    assert result.auc_by_language["en"] == 1.0


def test_texts_that_do_not_fit_the_judges_context_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockServer() as server:
        text = f'[profiles.tiny]\nmodel = "m"\nendpoint = "{server.base_url}"\n'
        (tmp_path / "profiles.toml").write_text(text + "context_window = 3000\n")
        monkeypatch.setenv("LONGWRITER_PROFILES", str(tmp_path / "profiles.toml"))
        assert main(["judge-exam", "tiny", "--judge-prompt", "longwriter"]) == 2
        assert not server.history
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "does not fit the context of tiny" in line


def test_an_unknown_judge_is_a_one_line_error() -> None:
    ended = run("longwriter", "judge-exam", "gpt-99-imaginary")
    assert ended.code == 2
    assert "gpt-99-imaginary" in ended.out
    assert "Traceback" not in ended.out
