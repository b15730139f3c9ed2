"""Rows of tasks and groups are exact over documents and exclude documents without a verdict."""

import math
import pickle
import statistics
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval import evaluator_utils
from lm_eval.api import metrics as lm_eval_metrics
from lm_eval.api.task import ConfigurableTask
from support.commands import run

from longwriter_core.errors import InputError
from longwriter_eval.lm_eval_task import lm_eval_internals
from longwriter_eval.lm_eval_task.aggregation import Max, Mean, StandardError, metric_rows
from longwriter_eval.lm_eval_task.aggregation import pool as pool_rows
from longwriter_eval.lm_eval_task.lm_eval_internals import (
    check_internals,
    patch_lm_eval,
    pinned_internals,
)
from longwriter_eval.stats.thresholds import MIN_COVERAGE

pytestmark = pytest.mark.lm_eval

NAN = math.nan
scores = st.lists(st.floats(0, 100), min_size=1, max_size=20)


def pool(*tasks: Mean | Max) -> float:
    """lm-eval's aggregate for a group of these tasks."""
    patch_lm_eval()
    sizes = [len(task.documents) for task in tasks]
    # lm-eval <= 0.4.12 looks the function up here, later ones in lm_eval.api.metrics
    pooled = getattr(
        evaluator_utils, "aggregate_subtask_metrics", lm_eval_metrics.aggregate_subtask_metrics
    )
    return float(pooled(list(tasks), sizes, True))


@given(st.lists(scores, min_size=1, max_size=5))
def test_a_group_is_the_mean_over_its_documents(tasks: list[list[float]]) -> None:
    together = [value for task in tasks for value in task]
    assert pool(*(Mean(task) for task in tasks)) == pytest.approx(statistics.fmean(together))


@given(st.lists(scores, min_size=1, max_size=5))
def test_the_groups_longest_output_is_the_longest_of_any_task(tasks: list[list[float]]) -> None:
    assert pool(*(Max(task) for task in tasks)) == max(value for task in tasks for value in task)


def test_means_of_tasks_and_groups_exclude_unjudged_documents() -> None:
    first, second = Mean([10.0] * 39 + [NAN]), Mean([90.0] * 20)
    assert float(first) == 10
    # by hand: (39 * 10 + 20 * 90) / 59; weighting rows by size would give (40 * 10 + 20 * 90) / 60
    assert pool(first, second) == pytest.approx(2190 / 59)


def test_a_bucket_below_the_required_coverage_is_nan_even_if_its_group_is_covered() -> None:
    bucket, other = Mean([50.0] * 18 + [NAN, NAN]), Mean([70.0] * 80)
    assert math.isnan(bucket)
    assert pool(bucket, other) == pytest.approx((18 * 50 + 80 * 70) / 98)


@pytest.mark.parametrize(
    ("judged", "is_nan"),
    [
        pytest.param(94, True, id="94%"),
        pytest.param(95, False, id="95%"),
        pytest.param(0, True, id="none"),
    ],
)
def test_a_mean_needs_95_percent_of_its_documents(judged: int, is_nan: bool) -> None:
    assert MIN_COVERAGE == 0.95
    assert math.isnan(Mean([50.0] * judged + [NAN] * (100 - judged))) is is_nan


def test_a_row_behaves_like_a_number() -> None:
    row = Mean([1.0, 2.0])
    assert row * 2 == 3
    assert row + 1 == 2.5
    assert f"{deepcopy(row):.1f}" == f"{pickle.loads(pickle.dumps(row)):.1f}" == "1.5"


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20), st.integers(0, 5))
def test_the_standard_error_is_lm_evals_over_judged_documents(
    values: list[float], missing: int
) -> None:
    expected = lm_eval_metrics.mean_stderr(values)
    found = StandardError(values + [NAN] * missing)
    if len(values) >= MIN_COVERAGE * (len(values) + missing):
        assert float(found) == pytest.approx(expected, abs=1e-9)
    else:
        assert math.isnan(found)


def test_a_groups_standard_error_is_over_its_documents() -> None:
    patch_lm_eval()
    tasks = [[10.0, 20.0, 30.0], [70.0, 90.0]]
    # the lookups of 0.4.11 and 0.4.13
    pooled = getattr(evaluator_utils, "pooled_sample_stderr", lm_eval_metrics.pooled_sample_stderr)
    found = pooled([StandardError(task) for task in tasks], [3, 2])
    assert float(found) == pytest.approx(lm_eval_metrics.mean_stderr(tasks[0] + tasks[1]))
    assert pooled([0.5, 0.5], [10, 10]) > 0  # other tasks keep lm-eval's own computation


def test_lm_eval_uses_our_standard_error_and_keeps_its_own() -> None:
    patch_lm_eval()
    patch_lm_eval()  # a second task changes nothing
    find = evaluator_utils.stderr_for_metric
    assert find(metric=Mean, bootstrap_iters=100) is StandardError
    assert find(metric=Mean, bootstrap_iters=0) is None
    assert find(metric=lm_eval_metrics.mean, bootstrap_iters=1) is lm_eval_metrics.mean_stderr
    assert find(metric=Max, bootstrap_iters=100) is None
    assert lm_eval_metrics.aggregate_subtask_metrics([1.0, 4.0], [2, 1]) == 2


def test_our_rows_have_lm_evals_keys_and_values() -> None:
    tasks = [
        metric_rows({"length_score": values, "max_output_words": values})
        for values in ([10.0, 20.0, 30.0], [70.0, 90.0])
    ]
    assert tasks[1] == {
        "length_score,none": 80.0,
        "length_score_stderr,none": pytest.approx(lm_eval_metrics.mean_stderr([70.0, 90.0])),
        "max_output_words,none": 90.0,
        "max_output_words_stderr,none": "N/A",
    }
    everything = [10.0, 20.0, 30.0, 70.0, 90.0]
    assert pool_rows(tasks, "length_score") == {
        "length_score,none": statistics.fmean(everything),
        "length_score_stderr,none": pytest.approx(lm_eval_metrics.mean_stderr(everything)),
    }
    assert pool_rows(tasks, "max_output_words") == {
        "max_output_words,none": 90.0,
        "max_output_words_stderr,none": "N/A",
    }


def test_a_single_document_has_no_standard_error() -> None:
    rows = [metric_rows({"length_score": [10.0]}), metric_rows({"length_score": [20.0, 40.0]})]
    assert rows[0]["length_score_stderr,none"] == "N/A"
    assert pool_rows(rows, "length_score")["length_score_stderr,none"] == "N/A"


def test_the_installed_lm_eval_has_every_internal_that_we_use() -> None:
    assert [name for name, is_there in pinned_internals().items() if not is_there] == []


def test_an_lm_eval_whose_function_takes_other_parameters_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build_all_requests(_self: object, shard: int) -> None:
        raise AssertionError(shard)

    monkeypatch.setattr(ConfigurableTask, "build_all_requests", build_all_requests)
    with pytest.raises(
        InputError, match=r"lacks ConfigurableTask\.build_all_requests: pip install"
    ):
        check_internals()


def test_an_unsupported_lm_eval_ends_the_command_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import lm_eval.loggers as l\ndel l.EvaluationTracker.save_results_samples\n"
    )
    ended = run(
        "quick_lm_eval", "run", "--tasks", "longbench_write_length", "--model", "dummy",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert ended.code == 2
    assert "Traceback" not in ended.out
    assert "is not supported, it lacks EvaluationTracker.save_results_samples" in ended.out


def test_an_lm_eval_without_an_internal_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lm_eval_internals, "_READ", {"evaluate": ("lm", "no_such_variable")})
    with pytest.raises(InputError, match="lacks evaluate: no_such_variable: pip install"):
        patch_lm_eval()
