"""Runs of several processes: their responses are one run, and equal responses are judged once."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.commands import KEY, environment, lm_eval_arguments, run
from support.endpoint import Endpoint, completion, verdict
from support.judging import ITEMS, JUDGE_ENVIRONMENT, JUDGE_SETTINGS, judge_at, judged
from support.logs import Answer, Log, answers

from longwriter_core.llm.ask import MAX_TRIES
from longwriter_core.mock_server.server import JUDGE, MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.judge.panel import Panel, PanelSettings
from longwriter_eval.judge.verdict import Item
from longwriter_eval.runs import Run, load_run, load_runs, save_run

RANKS = 3
RUN = "20261121-120000-000001"
PROMPTS = answers(12, lambda i: Answer(f"Text number {i}.", None, required=100 * (i + 1)))


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MockServer]:
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "cache"))
    with MockServer() as server:
        monkeypatch.setenv("LONGWRITER_JUDGE_BASE_URL", server.base_url)
        for name, value in JUDGE_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        yield server


def keep(folder: Path, ranks: Iterable[int] = range(RANKS)) -> Path:
    """Write what the ranks of a killed run keep;"""
    folder = folder / RUN
    for rank in ranks:
        own = {id: PROMPTS[id] for id in list(PROMPTS)[rank::RANKS]}
        log = Log(own)
        config: dict[str, Any] = log._config()
        config["metadata"]["longwriter"] |= {
            "judge": {"model": JUDGE, "base_url": None, "temperature": 0.5, "max_tokens": 1024,
                      "repeats": 1, "prompt": "longwriter"},
            "judge_prompt_sha256": "p" * 64,
        }  # fmt: skip
        results = {
            "configs": {log.task: config},
            "model_name": "writer",
            "unfinished": {
                "run": RUN,
                "rank": rank,
                "ranks": RANKS,
                "documents": {log.task: {id: a.required for id, a in PROMPTS.items()}},
            },
        }
        rows = [row | {"doc_id": list(PROMPTS).index(row["doc"]["id"])} for row in log._rows()]
        save_run(folder / f"rank-{rank}", results, {log.task: rows})
    return folder


def ids(run: Run) -> list[str]:
    return [sample.id for sample in run.samples]


@pytest.mark.parametrize("part", ["", "rank-0", "rank-2"])
def test_the_responses_of_all_ranks_are_one_run_whichever_folder_is_named(
    tmp_path: Path, part: str
) -> None:
    folder = keep(tmp_path)
    run = load_run(folder / part)
    assert ids(run) == list(PROMPTS)
    assert (run.folder, run.gap) == (folder, "")
    assert len(load_runs(folder)) == 1


def test_scoring_any_ranks_folder_judges_the_whole_benchmark(
    judge: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep(tmp_path)
    assert main(["score", str(folder / "rank-1")]) == 0
    assert judge.stats().calls == {JUDGE: 1 + 12}
    scored = load_run(folder)
    assert scored.folder == folder
    assert ids(scored) == list(PROMPTS)
    assert scored.results["results"]["longwrite_demo"]["judge_coverage,none"] == 1
    assert main(["score", str(folder)]) == 0
    assert judge.stats().calls == {JUDGE: 1 + 12}
    assert "missing" not in capsys.readouterr().err


def test_a_missing_rank_is_named_and_counts_against_the_coverage(
    judge: MockServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep(tmp_path)
    shutil.move(folder / "rank-1", tmp_path / "other-machine")
    assert main(["score", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "4 of 12 responses are missing (longwrite_demo/001, " in said
    assert "rank 1 of 3" in said
    assert f"into {folder}" in said
    assert "run lm_eval again" in said
    row = load_run(folder).results["results"]["longwrite_demo"]
    assert row["judge_coverage,none"] == pytest.approx(8 / 12)
    for metric in ("length_score", "quality_score", "overall_score", "output_words"):
        assert row[f"{metric},none"] is None
    # the missing folder is copied from the other machine
    shutil.move(tmp_path / "other-machine", folder / RUN / "rank-1")
    before = judge.stats().calls[JUDGE]
    assert main(["score", str(folder)]) == 0
    row = load_run(folder).results["results"]["longwrite_demo"]
    assert row["judge_coverage,none"] == 1
    assert row["length_score,none"] is not None
    assert judge.stats().calls[JUDGE] - before <= 1 + 4


@pytest.mark.usefixtures("judge")
def test_a_report_and_a_submission_say_which_responses_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep(tmp_path, (0, 1))
    assert main(["score", str(folder)]) == 1
    assert main(["report", str(folder), "-o", str(tmp_path / "r.html"), "--no-figure-files"]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "4 of 12 responses are missing" in page
    capsys.readouterr()
    assert main(["submit", str(folder), "-o", str(tmp_path / "s.zip")]) == 2
    assert "4 of 12 responses are missing" in capsys.readouterr().err


def test_ranks_of_other_runs_are_not_mixed_in(tmp_path: Path) -> None:
    folder = keep(tmp_path)
    other = load_run(folder / "rank-0")
    results = {**other.results, "unfinished": {**other.results["unfinished"], "run": "another"}}
    (folder / "rank-0" / other.path.name).unlink(missing_ok=True)
    save_run(folder / "rank-7", results, {"longwrite_demo": [s.row for s in other.samples]})
    assert len(load_runs(folder)) == 2


@pytest.mark.parametrize(
    "record",
    [
        5,
        {},
        {"run": RUN},
        {"run": RUN, "ranks": "3", "documents": {}},
        {"run": RUN, "ranks": 10**12, "documents": {}},
        {"run": RUN, "ranks": 3, "rank": "x", "documents": {}},
        {"run": RUN, "ranks": 3, "kept": 5, "documents": {}},
        {"run": RUN, "ranks": 3, "documents": {"longwrite_demo": {"longwrite_demo/000": "a"}}},
    ],
    ids=str,
)
def test_a_malformed_record_is_one_clear_error(
    tmp_path: Path, record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(PROMPTS)
    save_run(tmp_path, {"configs": {log.task: log._config()}, "unfinished": record},
             {log.task: log._rows()})  # fmt: skip
    assert main(["report", str(tmp_path)]) == 2
    assert "unfinished run is malformed" in capsys.readouterr().err


@pytest.mark.parametrize(("reply", "calls"), [(verdict(4), 1), ("no verdict", MAX_TRIES)])
def test_equal_responses_to_a_prompt_are_judged_once_even_if_their_verdict_fails(
    reply: str, calls: int
) -> None:
    items = [Item(f"id/{n}", "Write.", "Text.") for n in range(3)]
    with Endpoint(answers=[(200, completion(reply))]) as server:
        found = judged(judge_at(server, concurrency=1), items)
    assert server.requests == calls
    assert len({judgement.status for judgement in found.values()}) == 1
    assert list(found) == [item.id for item in items]


def judge_in_processes(number: int, server: MockServer) -> list[list[str]]:
    """The statuses of the judgements of `number` processes with the same responses."""
    with ProcessPoolExecutor(number, get_context("fork")) as pool:
        return list(pool.map(_judge_as_one_rank, [server.base_url] * number))


def _judge_as_one_rank(base_url: str) -> list[str]:
    metadata = {**JUDGE_SETTINGS, "judge_base_url": base_url, "judge_prompt": "longwriter"}
    panel = Panel(PanelSettings.resolve(metadata, {}), {"OPENAI_API_KEY": "sk-1"})
    panel.check_once()
    with panel.only_one(ITEMS) as is_first:
        found = panel.judge_with_progress(ITEMS, len(ITEMS), may_ask=is_first)
    return [judgement.status for judgement in found.values()]


def test_ranks_with_the_same_responses_get_the_same_verdicts_and_one_pays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path))
    with MockServer(delay=1.0) as server:
        assert judge_in_processes(3, server) == [["judged"] * len(ITEMS)] * 3
        assert server.stats().calls == {JUDGE: 1 + len(ITEMS)}
    assert not list((tmp_path / "locks").iterdir())


def start_ranks(
    judge: MockServer, folder: Path, **model_args: Any
) -> "list[subprocess.Popen[bytes]]":
    """`lm_eval` on longwrite_demo in three gloo processes, as torchrun starts them."""
    pytest.importorskip("torch")
    arguments = lm_eval_arguments(judge, judge, folder / "out", "longwrite_demo")
    arguments[arguments.index("--model") + 1] = "ranks"
    given = ",".join(f"{name}={value}" for name, value in model_args.items()) or "copies=False"
    arguments[arguments.index("--model_args") + 1] = given
    arguments.remove("--apply_chat_template")
    arguments[-1] = json.dumps(json.loads(arguments[-1]) | {"judge_concurrency": RANKS})
    script = str(Path(__file__).parents[1] / "support" / "lm_eval_ranks.py")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ranks = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS)}
    settings = {"OPENAI_API_KEY": KEY, "LONGWRITER_CACHE": str(folder / "cache")}
    return [
        subprocess.Popen(
            [sys.executable, script, *arguments],
            env=environment(**settings, **ranks, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(RANKS)
    ]


def kill(processes: "Iterable[subprocess.Popen[bytes]]") -> str:
    """Kill the processes; returns what they have printed."""
    for process in processes:
        process.kill()
    return "".join(process.communicate()[0].decode() for process in processes)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_of_three_ranks_killed_while_judging_is_recovered_as_one_run(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with MockServer(delay=2.0) as judge:
        processes = start_ranks(judge, tmp_path)
        deadline = time.monotonic() + 240
        while len(list(cache.glob("calls/*/*.json"))) < 1 + 3:
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                raise AssertionError(kill(processes))
            time.sleep(0.05)
        kill(processes)
        assert not list((tmp_path / "out").rglob("results_*"))
        (kept,) = (cache / "responses").iterdir()
        assert sorted(path.name for path in kept.iterdir()) == ["rank-0", "rank-1", "rank-2"]
        # as the documentation says, though one rank's folder is named
        ended = run("longwriter", "score", str(kept / "rank-1"), OPENAI_API_KEY=KEY,
                    LONGWRITER_CACHE=str(cache))  # fmt: skip
        assert ended.code == 0, ended.out
        assert judge.stats().calls[JUDGE] <= RANKS + 12 + RANKS + 1  # checks, and calls in flight
    found = load_run(kept)
    assert len({sample.id for sample in found.samples}) == len(found.samples) == 12
    assert found.results["results"]["longwrite_demo"]["judge_coverage,none"] == 1
    assert found.results["n-samples"]["longwrite_demo"] == {"original": 12, "effective": 12}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_of_three_tensor_parallel_ranks_one_judges(tmp_path: Path) -> None:
    with MockServer(delay=0.5) as judge:
        processes = start_ranks(judge, tmp_path, copies=True)
        printed = "".join(process.communicate(timeout=300)[0].decode() for process in processes)
        assert {process.returncode for process in processes} == {0}, printed
        # a rank that starts after another has checked the judge makes a check of its own
        assert 12 + 1 <= judge.stats().calls[JUDGE] <= 12 + RANKS
    written = list((tmp_path / "out").rglob("results_*.json"))
    assert written
    for path in written:
        row = load_run(path).results["results"]["longwrite_demo"]
        assert row["judge_coverage,none"] == 1
    assert len(list((tmp_path / "cache" / "responses").iterdir())) == 1
