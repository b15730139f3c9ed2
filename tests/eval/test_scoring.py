"""Scores per prompt come from responses and replies, never from the numbers in a log."""

import json
import math
from pathlib import Path

import pytest
from support.logs import Answer, Log, answers, words

from longwriter_core.errors import InputError
from longwriter_core.text.length import length_score
from longwriter_eval.runs import load_run, load_runs
from longwriter_eval.scoring import METRICS, score_samples, value


def only(log: Log, folder: Path, *others: Log) -> list[dict[str, float]]:
    """Every metric of every prompt."""
    scores = score_samples(log.load(folder, *others).samples)
    return [{metric: value(score, metric) for metric in METRICS} for score in scores]


def test_words_and_length_score_come_from_the_response_whatever_the_log_says(
    tmp_path: Path,
) -> None:
    log = Log({"longwrite_demo/000": Answer(words(50), (5,))})
    log.write(tmp_path)
    (path,) = tmp_path.glob("samples_*")
    row = json.loads(path.read_text(encoding="utf-8"))
    row |= {"length_score": 100.0, "output_words": 100.0, "quality_score": 0.0}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (score,) = score_samples(load_run(tmp_path).samples)
    assert (score.words, score.length_score) == (50, length_score(100, 50))
    assert (score.quality_score, score.overall_score) == (100, (score.length_score + 100) / 2)


def test_scores_come_from_the_judges_reply_and_not_from_the_record(tmp_path: Path) -> None:
    log = Log({"longwrite_demo/000": Answer(words(50), (2,))})
    log.write(tmp_path)
    (path,) = tmp_path.glob("samples_*")
    row = json.loads(path.read_text(encoding="utf-8"))
    (verdict,) = row["doc"]["judgement"]["verdicts"]
    verdict["scores"] = dict.fromkeys(verdict["scores"], 5)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (score,) = score_samples(load_run(tmp_path).samples)
    assert score.quality == dict.fromkeys(score.quality or (), 25.0)


def test_a_verdict_on_another_text_does_not_count(tmp_path: Path) -> None:
    log = Log({"longwrite_demo/000": Answer(words(50), (5,))})
    log.write(tmp_path)
    (path,) = tmp_path.glob("samples_*")
    path.write_text(path.read_text(encoding="utf-8").replace("aa ba", "aa bb"), encoding="utf-8")
    (score,) = score_samples(load_run(tmp_path).samples)
    assert (score.status, score.quality_score) == ("response_changed", None)


@pytest.mark.parametrize(
    ("grades", "status", "quality"),
    [
        pytest.param((1, 3), "judged", 25.0, id="mean-of-repeats"),
        pytest.param("refused", "refused", None, id="missing"),
        pytest.param(None, "unjudged", None, id="no-judge"),
    ],
)
def test_quality_is_scores_or_a_reason(
    tmp_path: Path, grades: tuple[int, ...] | str | None, status: str, quality: float | None
) -> None:
    log = Log({"longwrite_demo/000": Answer(words(50), grades)})
    (score,) = score_samples(log.load(tmp_path).samples)
    assert (score.status, score.quality_score) == (status, quality)
    assert math.isnan(value(score, "quality_clarity")) == (quality is None)
    assert math.isnan(value(score, "overall_score")) == (quality is None)


def test_special_tokens_do_not_count_as_words(tmp_path: Path) -> None:
    (found,) = only(Log({"longwrite_demo/000": Answer(words(9) + "<|user|>", None)}), tmp_path)
    assert (found["output_words"], found["cut_off"]) == (9, 0)


def test_a_prompt_of_several_tasks_counts_once_and_the_judged_task_wins(tmp_path: Path) -> None:
    judged = Log({"longbench_write/007": Answer(words(10), (1,))}, task="longbench_write_0000_0500")
    again = Log({"longbench_write/007": Answer(words(20), (5,))}, task="longbench_write_en")
    length = Log({"longbench_write/007": Answer(words(30), None)}, task="longbench_write_0")
    (found,) = only(again, tmp_path, length, judged)
    assert found["output_words"] == 10


def test_the_ruler_is_sorted_by_required_length(tmp_path: Path) -> None:
    asked = (1000, 20000, 30000)
    log = Log({f"longwrite_ruler/{n}": Answer(words(9), None, required=n) for n in asked})
    found = score_samples(log.load(tmp_path).samples)
    assert [score.bucket for score in found] == ["1k", "20k", "30k"]


@pytest.mark.parametrize("required", [0, "many", None], ids=repr)
def test_a_sample_that_cannot_be_scored_is_named(tmp_path: Path, required: int) -> None:
    log = Log({"longwrite_demo/004": Answer("Text.", None, required=required)})
    with pytest.raises(InputError, match="longwrite_demo/004 in longwrite_demo cannot be scored"):
        only(log, tmp_path)


def test_results_of_several_judges_are_read_newest_first_and_a_broken_one_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for judge in ("first", "second", "third"):
        Log(answers(1, lambda _: Answer("Text.")), judge=judge).write(tmp_path)
    oldest = min(tmp_path.glob("samples_*"))
    oldest.unlink()
    found = [run.record("longwrite_demo")["judge"]["model"] for run in load_runs(tmp_path)]
    assert found == ["third", "second"]
    assert oldest.name in caplog.text


def test_a_results_file_names_a_run_that_is_not_the_newest(tmp_path: Path) -> None:
    for judge in ("first", "second"):
        Log(answers(1, lambda _: Answer("Text.")), judge=judge).write(tmp_path)
    oldest = min(tmp_path.glob("results_*"))
    assert load_run(oldest).record("longwrite_demo")["judge"]["model"] == "first"
    assert load_run(tmp_path).record("longwrite_demo")["judge"]["model"] == "second"
