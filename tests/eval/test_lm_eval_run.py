"""`lm_eval run` as a user runs it: the table, the logs, the judge's check, kills and Ctrl-C."""

import contextlib
import json
import math
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import (
    KEY,
    Ended,
    command,
    environment,
    judged,
    lm_eval_arguments,
    load_run,
    run,
)
from support.judging import failing

from longwriter_core import benchmarks, files
from longwriter_core.jsonl import read_jsonl, write_jsonl
from longwriter_core.mock_server.server import JUDGE, WRITER, Faults, MockServer
from longwriter_core.text.length import count_words, length_score
from longwriter_eval.runs import Run
from longwriter_eval.scoring import score_samples
from longwriter_eval.stats.score_table import score_table

pytestmark = [pytest.mark.lm_eval, pytest.mark.usefixtures("upstream")]

JUDGED_METRICS = ("quality_score", "overall_score", "judge_coverage", "quality_relevance")
BUCKETS = {"[0,500)": 26, "[500,2k)": 36, "[2k,4k)": 31, "[4k,20k]": 27}


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(api_key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def finished(
    server: MockServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ended, Run, dict[str, int]]:
    """A complete run of longbench_write: its output, its files and its calls."""
    folder = tmp_path_factory.mktemp("run")
    ended = run(
        "quick_lm_eval",
        *lm_eval_arguments(server, server, folder / "out", "longbench_write"),
        OPENAI_API_KEY=KEY,
        LONGWRITER_CACHE=str(folder / "cache"),
    )
    assert ended.code == 0, ended.out
    return ended, load_run(folder / "out"), server.stats().calls


def test_the_table_has_the_group_and_then_the_buckets_from_short_to_long(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    lines = finished[0].out.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    names = [row.removeprefix("- ") for row in rows if row and not row.startswith(("Tasks", "--"))]
    assert names[:5] == ["longbench_write", *BUCKETS]


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def assert_is_valid_json(folder: Path) -> None:
    """Assert that a parser that refuses NaN can read every file below `folder`."""
    written = [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]
    assert len(written) > 1
    for path in written:
        text = path.read_text(encoding="utf-8")
        for one in [text] if path.suffix == ".json" else text.splitlines():
            json.loads(one, parse_constant=refuse)


def test_the_run_ends_with_the_papers_table_by_bucket(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    ended, found, _ = finished
    lines = ended.out.rstrip().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("longbench_write "))
    assert lines[start].split() == ["longbench_write", "n", "S̄", "S_l", "S_q", "judged"]
    assert start > max(i for i, line in enumerate(lines) if line.startswith("|"))
    table = [line.split() for line in lines[start + 1 : start + 6]]
    results = found.results["results"]
    tasks = ["longbench_write", *found.results["group_subtasks"]["longbench_write"]]
    for cells, name, task in zip(table, ["all", *BUCKETS], tasks, strict=True):
        row = [results[task][f"{metric}_score,none"] for metric in ("overall", "length", "quality")]
        shown = [cells[0], cells[1], *cells[2:-1:3], cells[-1]]
        assert shown == [name, str(BUCKETS.get(name, 120)), *(f"{x:.1f}" for x in row), "100%"]
    # the intervals are those of the report
    scores = score_samples(found.samples)
    (all_prompts,) = [row for row in score_table(scores) if row.kind == "all"]
    for place, metric in zip((3, 6, 9), ("overall", "length", "quality"), strict=True):
        interval = all_prompts.metrics[f"{metric}_score"]
        limits = f"[{interval.low:.0f},", f"{interval.high:.0f}]"
        assert (table[0][place], table[0][place + 1]) == limits
    # 1 - 0.05 ** (1 / 26)
    assert lines[start + 6].startswith("With 26 prompts, a failure that strikes up to 11% of")
    assert ended.out.count("\nlongbench_write  ") == 1


def test_every_group_row_is_the_mean_over_all_its_documents(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    _, found, _ = finished
    results = found.results["results"]["longbench_write"]
    assert len(found.samples) == 120
    for metric in (*JUDGED_METRICS, "length_score", "output_words", "cut_off", "repetition"):
        values = [sample.row[metric] for sample in found.samples]
        expected = statistics.fmean(values)
        assert results[f"{metric},none"] == pytest.approx(expected), metric
        error = statistics.stdev(values) / math.sqrt(len(values))
        assert results[f"{metric}_stderr,none"] == pytest.approx(error), metric


def test_a_bucket_row_has_lm_evals_own_mean_and_standard_error(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    from lm_eval.api.metrics import mean, mean_stderr

    _, found, _ = finished
    for task, config in found.results["configs"].items():
        rows = [sample.row for sample in found.samples if sample.task == task]
        assert len(rows) == BUCKETS[config["task_alias"]]
        for metric in (*JUDGED_METRICS, "length_score"):
            values = [row[metric] for row in rows]
            results = found.results["results"][task]
            assert results[f"{metric},none"] == pytest.approx(mean(values))
            assert results[f"{metric}_stderr,none"] == pytest.approx(mean_stderr(values))


def test_each_sample_log_has_scores_status_and_the_evidence_of_the_judge(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    for sample in finished[1].samples:
        words = count_words(sample.response)
        assert sample.row["output_words"] == words
        assert sample.row["length_score"] == length_score(sample.required, words)
        judgement = sample.judgement
        assert judgement
        (verdict,) = judgement["verdicts"]
        assert judgement["status"] == "judged"
        assert judgement["prompt_sha256"] == benchmarks.ASSETS["judge.txt"].sha256
        assert judgement["response_sha256"] == files.sha256(sample.response)
        assert (
            json.loads(verdict["raw"].partition("\n\n")[2])["Clarity"]
            == (verdict["scores"]["clarity"])
        )
        assert (verdict["model"], verdict["asks"]) == (JUDGE, 1)
        assert verdict["prompt_tokens"] > 0
        assert verdict["completion_tokens"] > 0


def test_the_results_file_names_judge_data_and_prompt(
    finished: tuple[Ended, Run, dict[str, int]], server: MockServer
) -> None:
    for config in finished[1].results["configs"].values():
        recorded = config["metadata"]["longwriter"]
        assert recorded["data_sha256"] == benchmarks.ASSETS["longbench_write.jsonl"].sha256
        assert recorded["judge_prompt_sha256"] == benchmarks.ASSETS["judge.txt"].sha256
        assert recorded["judge"] == {
            "profile": None,
            "model": JUDGE,
            "base_url": server.base_url,
            "temperature": None,
            "max_tokens": 4096,
            "extra": {},
            "repeats": 1,
            "prompt": "official",
            "departures": {"model": JUDGE, "temperature": None, "max_tokens": 4096},
        }


def test_one_check_and_one_call_per_response_reach_the_judge(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    assert finished[2] == {WRITER: 120, JUDGE: 121}


def test_no_file_of_a_run_contains_the_key(
    finished: tuple[Ended, Run, dict[str, int]],
) -> None:
    ended, found, _ = finished
    left = [path for path in found.folder.parents[1].rglob("*") if path.is_file()]
    assert len(left) > 120  # results, samples, the kept responses, and every finished call
    assert not [path for path in left if KEY.encode() in path.read_bytes()]
    assert KEY not in ended.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "metadata", "says"),
    [
        pytest.param(
            {"LONGWRITER_JUDGE_API_KEY": "sk-wrong"}, {}, "cannot be used", id="wrong-key"
        ),
        pytest.param({}, {"jugde_model": "x"}, "jugde_model is unknown", id="misspelt"),
    ],
)
def test_a_judge_that_cannot_be_used_stops_the_run_before_the_first_token(
    server: MockServer,
    tmp_path: Path,
    settings: dict[str, str],
    metadata: dict[str, Any],
    says: str,
) -> None:
    before = server.stats().calls.get(WRITER, 0)
    arguments = lm_eval_arguments(server, server, tmp_path / "out", "longwrite_demo")
    given = json.loads(arguments.pop()) | metadata
    ended = run(
        "quick_lm_eval", *arguments, json.dumps(given), **{"OPENAI_API_KEY": KEY, **settings}
    )
    assert ended.code == 2, ended.out
    assert "Traceback" not in ended.out
    (line,) = [line for line in ended.out.splitlines() if line.startswith("longwriter: error:")]
    assert says in line
    assert server.stats().calls.get(WRITER, 0) == before


@pytest.mark.slow
def test_predict_only_does_not_judge_and_score_judges_later(
    server: MockServer, tmp_path: Path
) -> None:
    before = server.stats().calls.get(JUDGE, 0)
    with MockServer() as writer:
        arguments = lm_eval_arguments(writer, server, tmp_path, "longwrite_demo", "--predict_only")
        ended = run("quick_lm_eval", *arguments)  # without any key
    assert ended.code == 0, ended.out
    assert "Traceback" not in ended.out
    assert server.stats().calls.get(JUDGE, 0) == before
    scored = run("longwriter", "score", str(tmp_path), OPENAI_API_KEY=KEY)
    assert scored.code == 0, scored.out
    found = load_run(tmp_path)
    assert all(sample.row["judge_coverage"] == 1 for sample in found.samples)
    assert found.results["results"]["longwrite_demo"]["judge_coverage,none"] == 1
    assert server.stats().calls[JUDGE] == before + 1 + 12


@pytest.mark.slow
def test_the_cached_responses_contain_no_secrets_from_urls(
    server: MockServer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with MockServer() as writer:
        arguments = lm_eval_arguments(writer, server, tmp_path / "out", "longwrite_demo")
        place = next(n for n, text in enumerate(arguments) if "base_url=" in text)
        arguments[place] = re.sub(
            r"(base_url=[^,]*)", r"\1?sig=never-in-the-cache", arguments[place]
        )
        ended = run("quick_lm_eval", *arguments, OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(cache))
    assert ended.code == 0, ended.out
    copies = list((cache / "responses").rglob("results_*.json"))
    assert copies
    kept = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    assert b"base_url=http" in kept or b'"base_url": "http' in kept
    assert b"never-in-the-cache" not in kept


@contextlib.contextmanager
def judging(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", MockServer]]:
    """`lm_eval` on longbench_write, with 10 slow calls in flight and about 40 finished."""
    cache = folder / "cache"
    with MockServer() as writer, MockServer(delay=0.5) as judge:
        arguments = lm_eval_arguments(writer, judge, folder / "out", "longbench_write")
        given = json.loads(arguments.pop()) | {"judge_concurrency": 10}
        process = subprocess.Popen(
            command("quick_lm_eval", *arguments, json.dumps(given)),
            env=environment(OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(cache)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 120
        while len(list(cache.glob("calls/*/*.json"))) < 40:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process, judge


@pytest.mark.slow
def test_a_run_killed_while_judging_reuses_finished_verdicts(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with judging(tmp_path) as (process, judge):
        process.kill()
        process.communicate()
        stored = len(list(cache.glob("calls/*/*.json"))) - 1  # less the check
        (kept,) = (cache / "responses").iterdir()
        before = judge.stats().calls[JUDGE]
        ended = run(
            "longwriter", "score", str(kept), OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(cache)
        )
        assert ended.code == 0, ended.out
        asked = judge.stats().calls[JUDGE] - before - 1  # less the check
    assert asked == 120 - stored
    found = load_run(kept)
    assert len(found.samples) == 120
    assert found.results["results"]["longbench_write"]["judge_coverage,none"] == 1
    # only calls in flight at the kill may be repeated
    assert before + asked <= 1 + 120 + 10


@pytest.mark.slow
def test_ctrl_c_while_judging_keeps_the_results_and_score_fills_the_gaps(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with judging(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 0, printed
        stopped = load_run(tmp_path / "out")
        results = stopped.results["results"]["longbench_write"]
        assert 0 < results["judge_coverage,none"] < 0.95
        assert results["quality_score,none"] is None
        assert results["overall_score,none"] is None
        assert results["length_score,none"] > 0
        assert_is_valid_json(tmp_path / "out")
        assert f"longwriter score {stopped.folder}" in printed
        unjudged = [s for s in stopped.samples if not s.row["judge_coverage"]]
        assert {(s.judgement or {})["status"] for s in unjudged} == {"not_asked"}
        ended = run(
            "longwriter", "score", str(stopped.folder), LONGWRITER_CACHE=str(cache),
            OPENAI_API_KEY=KEY,
        )  # fmt: skip
        assert ended.code == 0, ended.out
    assert load_run(tmp_path / "out").results["results"]["longbench_write"][
        "judge_coverage,none"
    ] == pytest.approx(1)


@pytest.mark.slow
def test_a_failing_judge_costs_calls_but_changes_no_score(
    finished: tuple[Ended, Run, dict[str, int]], tmp_path: Path
) -> None:
    faults = Faults(0.2, ("429", "500", "reset", "empty", "refusal", "broken_json"))
    with MockServer(faults=faults) as judge:
        ended = run(
            "longwriter", "score", str(_unjudged(finished[1], tmp_path)),
            "--judge-base-url", judge.base_url,
            OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
        assert ended.code == 0, ended.out
        assert set(judge.stats().faults) == set(faults.kinds)
    assert judged(load_run(tmp_path)) == judged(finished[1])


@pytest.mark.slow
def test_a_judge_that_always_refuses_leaves_nan_and_the_command_to_retry(
    finished: tuple[Ended, Run, dict[str, int]], tmp_path: Path
) -> None:
    folder = _unjudged(finished[1], tmp_path)
    with MockServer(on_request=failing("refusal")) as judge:
        ended = run(
            "longwriter", "score", str(folder), "--judge-base-url", judge.base_url,
            OPENAI_API_KEY=KEY, LONGWRITER_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
    assert ended.code == 1, ended.out
    assert f"longwriter score {folder}" in ended.out
    assert_is_valid_json(tmp_path)
    found = load_run(tmp_path)
    results = found.results["results"]["longbench_write"]
    assert results["judge_coverage,none"] == 0
    assert results["quality_score,none"] is None
    assert results["length_score,none"] > 0
    assert {(sample.judgement or {})["status"] for sample in found.samples} == {"refused"}


def test_score_with_nothing_missing_writes_what_lm_eval_wrote(
    finished: tuple[Ended, Run, dict[str, int]], tmp_path: Path
) -> None:
    ended, found, _ = finished
    folder = _copy(found, tmp_path)
    scored = run("longwriter", "score", str(folder), LONGWRITER_CACHE=str(tmp_path / "cache"))
    assert scored.code == 0, scored.out
    again = load_run(folder)
    assert again.path.name != found.path.name
    assert again.results == found.results
    assert [sample.row for sample in again.samples] == [sample.row for sample in found.samples]
    table = [line for line in scored.out.splitlines() if line.startswith("|")]
    assert table == [line for line in ended.out.splitlines() if line.startswith("|")]


def _copy(found: Run, folder: Path) -> Path:
    """The files of a run in another folder."""
    for path in found.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _unjudged(found: Run, folder: Path) -> Path:
    """A copy of a run in another folder, without its verdicts."""
    for path in _copy(found, folder).glob("samples_*"):
        rows = [row for _, row in read_jsonl(path)]
        for row in rows:
            del row["doc"]["judgement"]
        write_jsonl(path, rows)
    return folder
