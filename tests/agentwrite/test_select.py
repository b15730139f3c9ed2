"""`agentwrite select`: the right rows in source order, and no call is made twice."""

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.commands import command, environment, run
from support.hub import Hub
from support.model import WRITER, Model
from support.prose import read_jsonl, write_rows

from agentwrite.batch.instructions import check_instructions
from agentwrite.cli.main import main
from agentwrite.selecting.log import Selection, rejects_path
from agentwrite.selecting.rows import estimate
from agentwrite.selecting.select import select
from agentwrite.settings import Settings
from longwriter_core.errors import InputError
from longwriter_core.llm import batch as batch_module
from longwriter_core.mock_server.server import MockServer
from longwriter_core.overlap import benchmark_prompts

pytestmark = pytest.mark.usefixtures("upstream")  # their prompts must not be chosen

LETTERS = "bcdfghjklmnpqrstvwz"


def texts(number: int) -> list[str]:
    """Instructions that pass all rules; every second one is in Chinese."""
    dice = random.Random(1)

    def name() -> str:
        return "".join(dice.choices(LETTERS, k=7))

    def chinese() -> str:
        return "".join(chr(dice.randrange(0x4E00, 0x9FA5)) for _ in range(14))

    return [
        f"写一篇5000字的小说，讲{chinese()}与{chinese()}"
        if n % 2
        else f"Write a long story about the {name()} {name()} of {name()} in {name()}, 5000 words."
        for n in range(number)
    ]


TEXTS = texts(60)


def source(folder: Path, rows: list[Any]) -> Path:
    path = folder / "source.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def plain(number: int) -> list[Any]:
    return [{"prompt": text, "id": f"row-{n}"} for n, text in enumerate(TEXTS[:number], 1)]


def says_yes(prompt: str) -> str:
    """Yes for two of three, by the text alone."""
    is_long = sum(prompt.encode()) % 3 > 0
    return f"Reason: because.\nAnswer: {'yes' if is_long else 'no'}"


def choose(path: Path, output: Path, server: MockServer, **options: Any) -> Selection:
    concurrency = options.pop("concurrency", 8)
    settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,), concurrency=concurrency)
    return select(str(path), output, settings, **options)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# What is chosen


def test_chosen_rows_record_their_source(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(20)), tmp_path / "chosen.jsonl"
    with Model(answer=says_yes) as server:
        selection = choose(path, output, server)
        prompts = {prompt: says_yes(prompt).endswith("yes") for prompt in server.prompts}
    rows, others = rows_of(output), rows_of(rejects_path(output))
    assert len(rows) + len(others) == selection.read == selection.asked == len(prompts) == 20
    for row in rows:
        at = row["selection"]["row"]
        assert row["instruction"] == TEXTS[at - 1]
        assert (row["language"], row["length"]) == ("en" if at % 2 else "zh", 5000)
        assert row["selection"] == {
            "source": str(path), "split": "train", "row": at, "row_id": f"row-{at}",
            "model": WRITER, "reason": "because.",
        }  # fmt: skip
        assert [yes for prompt, yes in prompts.items() if row["instruction"] in prompt] == [True]
    assert [row["row"] for row in others] == sorted(row["row"] for row in others)
    assert {(row["rule"], row["detail"]) for row in others} == {("model", "because.")}
    assert [each.required for each in check_instructions(output)] == [5000] * len(rows)


def test_an_endpoint_with_structured_output_decides_in_json(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(20)), tmp_path / "chosen.jsonl"
    with Model() as server:  # fills the JSON schema of a request
        selection = choose(path, output, server)
    assert (selection.asked, selection.failed.total(), selection.retries.total()) == (20, 0, 0)
    assert 0 < selection.chosen.total() < 20


def test_rules_come_first_and_are_logged(tmp_path: Path) -> None:
    rows = [
        {"conversation": [{"role": "user", "content": TEXTS[0]}], "toxic": True},
        {"prompt": "Say hello to me, please."},
        {"prompt": TEXTS[2]},
        {"prompt": f"Hello! {TEXTS[2]}"},
        {"prompt": next(iter(benchmark_prompts().values())) + " Please."},
        {"other": 1},
        {"prompt": "Write a letter of 200 words."},
    ]
    path, output = source(tmp_path, rows), tmp_path / "chosen.jsonl"
    with Model(answer=lambda _prompt: "Answer: yes") as server:
        selection = choose(path, output, server)
        assert len(server.prompts) == 2
    assert [row["selection"]["row"] for row in rows_of(output)] == [2, 3]
    assert [(row["row"], row["rule"]) for row in rows_of(rejects_path(output))] == [
        (1, "toxic"), (4, "near_duplicate"), (5, "benchmark"),
        (6, "no_instruction"), (7, "required_length"),
    ]  # fmt: skip
    assert selection.rejected.total() == 5


def test_no_benchmark_prompt_is_ever_chosen(tmp_path: Path) -> None:
    rows = [{"prompt": f"Dear all! {text} I thank you."} for text in benchmark_prompts().values()]
    path, output = source(tmp_path, rows), tmp_path / "chosen.jsonl"
    selection = select(str(path), output)
    assert rows_of(output) == []
    assert selection.read == len(rows) == 168
    assert selection.rejected["benchmark"] > 60


def test_the_order_of_replies_changes_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    path, found = source(tmp_path, plain(40)), []
    for concurrency in (1, 16):
        monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / f"cache-{concurrency}"))
        output = tmp_path / f"{concurrency}.jsonl"
        with Model(answer=says_yes, jitter=0.05) as server:
            choose(path, output, server, concurrency=concurrency, quota={"en": 9, "zh": 5})
        found.append((output.read_bytes(), rejects_path(output).read_bytes()))
    assert found[0] == found[1]


def test_selection_ends_when_all_quotas_are_full(tmp_path: Path) -> None:
    path, output = source(tmp_path, [*plain(60), "this line is never read"]), tmp_path / "o.jsonl"
    with Model(answer=says_yes, delay=0.01) as server:
        selection = choose(path, output, server, quota={"en": 4, "zh": 3}, concurrency=2)
        assert len(server.prompts) <= selection.asked + 4 * 2  # asked ahead
    languages = [row["language"] for row in rows_of(output)]
    assert (languages.count("en"), languages.count("zh")) == (4, 3)
    assert selection.read == rows_of(output)[-1]["selection"]["row"] < 30
    assert selection.is_full


def test_a_full_quota_asks_no_more_in_its_language(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(60)), tmp_path / "o.jsonl"
    with Model(answer=lambda _prompt: "Answer: yes") as server:
        selection = choose(path, output, server, quota={"en": 2, "zh": 25}, concurrency=1)
        english = sum("a long story" in prompt for prompt in server.prompts)
    assert selection.chosen == {"en": 2, "zh": 25}
    assert english < 15  # rows read before the second was chosen
    assert selection.rejected == {"quota": 23}


def test_a_language_without_a_quota_is_not_wanted(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(10)), tmp_path / "o.jsonl"
    selection = select(str(path), output, quota={"zh": 3})
    assert [row["language"] for row in rows_of(output)] == ["zh"] * 3
    assert selection.rejected == {"language": 3}


def test_rules_alone_need_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = source(tmp_path, plain(10)), tmp_path / "o.jsonl"
    assert main(["select", str(path), "-o", str(output), "--rules-only"]) == 0
    assert len(rows_of(output)) == 10
    assert rows_of(output)[0]["selection"]["model"] is None
    printed = capsys.readouterr().err
    assert f"wrote {output}: 10 instructions (en 5, zh 5) of 10 rows; the others" in printed


# Sources


def test_parquet_and_folders_are_read_like_jsonl(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    turns = [[{"content": text, "role": "user", "toxic": False}] for text in TEXTS[:40]]
    table = pyarrow.table({"conversation": turns, "language": ["English", "Chinese"] * 20})
    parquet.write_table(table.slice(0, 30), folder / "0.parquet", row_group_size=7)
    parquet.write_table(table.slice(30), folder / "1.parquet")
    select(str(tmp_path / "data"), tmp_path / "folder.jsonl")
    select(str(folder / "1.parquet"), tmp_path / "file.jsonl")
    assert [row["instruction"] for row in rows_of(tmp_path / "folder.jsonl")] == TEXTS[:40]
    assert [row["instruction"] for row in rows_of(tmp_path / "file.jsonl")] == TEXTS[30:40]


def test_a_hub_dataset_is_streamed_and_only_as_far_as_needed(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    card = (
        "---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 60\n    num_bytes: 1\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: data/train-*\n---\n"
    )
    files = {"README.md": card.encode()}
    for part in range(3):  # of 20 rows each
        turns = [[{"role": "user", "content": text}] for text in TEXTS[part * 20 :][:20]]
        table, buffer = pyarrow.table({"conversation": turns}), pyarrow.BufferOutputStream()
        parquet.write_table(table, buffer)
        files[f"data/train-{part:05}-of-00003.parquet"] = buffer.getvalue().to_pybytes()
    output = tmp_path / "o.jsonl"
    with Hub("owner/chats", files) as hub:
        ended = run("agentwrite", "select", "owner/chats", "-o", str(output), "--rules-only",
                    "--quota", "en=15", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"),
                    HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0")  # fmt: skip
    assert ended.code == 0, ended.out
    rows = rows_of(output)
    assert [row["instruction"] for row in rows] == TEXTS[0:30:2]
    assert rows[-1]["selection"]["source"] == "owner/chats"
    assert "/60 " in ended.out  # the card says how many rows there are
    assert {name for name in hub.fetched if name.startswith("data")} == set(list(files)[1:3])


def test_limit_counts_rows_read(tmp_path: Path) -> None:
    selection = select(str(source(tmp_path, plain(20))), tmp_path / "o.jsonl", limit=7)
    assert (selection.read, selection.total) == (7, 7)


# Interruptions and failures


def test_a_finished_selection_costs_nothing_more(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(30)), tmp_path / "o.jsonl"
    with Model(answer=says_yes) as server:
        choose(path, output, server, quota={"en": 5})
        paid, first = len(server.prompts), output.read_bytes()
        again = choose(path, output, server, quota={"en": 5})
        assert (len(server.prompts), output.read_bytes()) == (paid, first)
        assert (again.usage.calls, again.asked > 5) == (0, True)
        choose(path, output, server, quota={"en": 8})
        assert len(set(server.prompts)) == len(server.prompts)
    assert output.read_bytes().startswith(first)


def test_a_killed_selection_resumes_with_the_same_result(tmp_path: Path, monkeypatch: Any) -> None:
    path = source(tmp_path, plain(60))
    with Model(answer=says_yes) as server:
        choose(path, tmp_path / "whole.jsonl", server)
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "other-cache"))
    output = tmp_path / "o.jsonl"
    with Model(answer=says_yes, delay=0.2) as server:
        line = command("agentwrite", "select", str(path), "-o", str(output), "--model", WRITER,
                       "--base-url", server.base_url, "--concurrency", "4")  # fmt: skip
        process = subprocess.Popen(
            line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while server.stats().finished < 12 and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert 12 <= len(server.prompts) < 60
        assert not output.exists()
        server.delay = 0
        choose(path, output, server, concurrency=4)
        assert len(server.prompts) <= 60 + 4
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert {each.name for each in tmp_path.glob("*o.*")} == {"o.jsonl", "o.rejected.jsonl"}


def test_an_unreadable_reply_is_retried(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(4)), tmp_path / "o.jsonl"
    with Model() as server:
        server.answer = lambda prompt: "Hm." if server.prompts.count(prompt) < 3 else "Answer: yes"
        selection = choose(path, output, server)
        assert len(server.prompts) == 4 * 3
    assert len(rows_of(output)) == 4
    assert selection.retries == {"no_decision": 8}


def test_a_row_without_a_decision_is_recorded_and_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source(tmp_path, plain(6)), tmp_path / "o.jsonl"
    with Model() as server:
        server.answer = lambda prompt: "Hm." if TEXTS[2] in prompt else "Answer: yes"
        line = ["select", str(path), "-o", str(output), "--model", WRITER,
                "--base-url", server.base_url]  # fmt: skip
        assert main(line) == 1
        printed = capsys.readouterr().err
        assert "no decision: no_decision 1" in printed
        assert f"to resume: agentwrite select {path}" in printed
        assert [row["selection"]["row"] for row in rows_of(output)] == [1, 2, 4, 5, 6]
        (other,) = rows_of(rejects_path(output))
        assert (other["row"], other["rule"]) == (3, "failed")
        assert other["detail"].startswith("no_decision: Hm.")
        server.answer = lambda _prompt: "Answer: yes"
        paid = len(server.prompts)
        assert main(line) == 0
        assert len(server.prompts) == paid + 1
    assert [row["selection"]["row"] for row in rows_of(output)] == [1, 2, 3, 4, 5, 6]


def test_a_full_quota_has_nothing_missing(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(20)), tmp_path / "o.jsonl"
    with Model() as server:
        server.answer = lambda prompt: "Hm." if TEXTS[0] in prompt else "Answer: yes"
        assert main(["select", str(path), "-o", str(output), "--quota", "en=3", "--model", WRITER,
                     "--base-url", server.base_url]) == 0  # fmt: skip


def test_a_source_that_ends_early_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source(tmp_path, plain(6)), tmp_path / "o.jsonl"
    assert main(["select", str(path), "-o", str(output), "--rules-only", "--quota", "en=9"]) == 0
    assert "en: 6 fewer than its quota" in capsys.readouterr().err


def test_an_endpoint_that_starts_to_refuse_keeps_the_chosen_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source(tmp_path, plain(30)), tmp_path / "o.jsonl"
    with Model() as server:
        server.answer = lambda prompt: 401 if TEXTS[9] in prompt else "Answer: yes"
        line = ["select", str(path), "-o", str(output), "--model", WRITER, "--concurrency", "1",
                "--base-url", server.base_url]  # fmt: skip
        assert main(line) == 1
    assert "stopped: " in (printed := capsys.readouterr().err)
    assert "to resume: agentwrite select" in printed
    assert [row["selection"]["row"] for row in rows_of(output)] == list(range(1, 10))


def test_an_endpoint_that_refuses_at_once_is_an_input_error(tmp_path: Path) -> None:
    path, output = source(tmp_path, plain(30)), tmp_path / "o.jsonl"
    with Model(api_key="right") as server, pytest.raises(InputError, match="Incorrect API key"):
        choose(path, output, server)
    assert list(tmp_path.glob("*o.*")) == []


# Checks before the first call


def test_a_dry_run_makes_no_calls_and_writes_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source(tmp_path, [*plain(20), {"prompt": TEXTS[0]}]), tmp_path / "o.jsonl"
    with Model() as server:
        assert main(["select", str(path), "-o", str(output), "--dry-run", "--model", WRITER,
                     "--base-url", server.base_url]) == 0  # fmt: skip
        assert server.prompts == []
    ended = capsys.readouterr()
    printed = ended.out
    assert "of the first 21 rows, the rules leave 20\n" in printed
    assert ended.err == "rejected: duplicate 1\n"
    assert f"would ask {WRITER} at {server.base_url} about these: 20 calls" in printed
    assert not output.exists()
    found = estimate(str(path), limit=3)
    assert (found.read, found.left) == (3, 3)


BAD = [
    pytest.param([], "no instruction in 0 rows", id="empty source"),
    pytest.param([{"text": "x"}, {"text": "y"}], "no instruction in 2 rows", id="unknown shape"),
    pytest.param([{"prompt": TEXTS[0]}, "{"], "source.jsonl, line 2: not JSON", id="malformed"),
    pytest.param([{"prompt": TEXTS[0]}, "[1]"], "line 2: not a JSON object", id="no object"),
]


@pytest.mark.parametrize(("rows", "problem"), BAD)
def test_bad_rows_give_one_clear_line(
    rows: list[Any], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = source(tmp_path, rows), tmp_path / "o.jsonl"
    assert main(["select", str(path), "-o", str(output), "--rules-only"]) == 2
    (line,) = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1:]
    assert line.startswith("agentwrite: error: ")
    assert problem in line
    assert list(tmp_path.glob("*o.*")) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["gone.jsonl", "--rules-only"], "there is no file gone.jsonl"),
        (["no source at all", "--rules-only"], "is not a source"),
        ([".", "--rules-only"], "holds no file ending in .jsonl or .parquet"),
        (["owner/dataset", "--rules-only"], "cannot open owner/dataset, split train: "),
        (["owner/dataset"], "name the model that decides with --model"),
        (["owner/dataset", "--rules-only", "--model", "m"], "--rules-only asks no model"),
        (["owner/dataset", "--rules-only", "--quota", "fr=3"], "'fr' is not among en, zh"),
        (["o/d", "--rules-only", "--quota", "en=3", "--quota", "en=4"], "one number for each"),
    ],
)
def test_bad_arguments_give_one_clear_line(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["select", *arguments, "-o", "o.jsonl"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("agentwrite: error: ")
    assert problem in line


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    path = source(tmp_path, plain(2))
    with pytest.raises(InputError, match="would overwrite"):
        select(str(path), path)
    assert len(rows_of(path)) == 2
    rejected = path.rename(tmp_path / "o.rejected.jsonl")
    with pytest.raises(InputError, match="would overwrite"):
        select(str(rejected), tmp_path / "o.jsonl")
    assert len(rows_of(rejected)) == 2


def test_outputs_never_become_part_of_the_source(tmp_path: Path) -> None:
    source(tmp_path, [{**row, "toxic": True} for row in plain(2)])
    with pytest.raises(InputError, match="would become part of its own input"):
        select(str(tmp_path), tmp_path / "chosen" / "o.jsonl")
    assert not (tmp_path / "chosen").exists()


def test_a_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a regular file"):
        select(str(source(tmp_path, plain(2))), pipe)
    assert pipe.is_fifo()


def test_without_the_benchmarks_prompts_nothing_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    path = source(tmp_path, plain(2))
    assert main(["select", str(path), "-o", str(tmp_path / "o.jsonl"), "--rules-only"]) == 2
    assert "must name a folder that holds longbench_write.jsonl" in capsys.readouterr().err


def test_a_batch_gives_the_same_files_at_half_the_price_and_is_paid_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "QUIET", 0.05)
    rows = source(tmp_path, plain(40))
    files = {}
    with Model() as model:
        for folder, options in (("batch", ["--batch"]), ("again", []), ("direct", ["--fresh"])):
            output = tmp_path / folder / "chosen.jsonl"
            output.parent.mkdir()
            if options == ["--fresh"]:
                monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "fresh"))
            arguments = ["select", str(rows), "-o", str(output), "--model", WRITER]
            arguments += ["--base-url", model.base_url, "--quota", "en=10", "--quota", "zh=10"]
            assert main([*arguments, *(option for option in options if option == "--batch")]) == 0
            files[folder] = output.read_bytes(), rejects_path(output).read_bytes()
            if folder != "direct":  # the second run finds all replies in the store
                batches = [r for r in model.history if r.path == "/v1/batches"]
                assert len([r for r in batches if r.method == "POST"]) == 1
                assert sum(r.is_chat for r in model.history) == 1
    assert files["batch"] == files["again"] == files["direct"]


def test_a_model_that_refuses_the_request_of_a_batch_is_known_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = source(tmp_path, plain(20))
    with Model(refuses=["temperature"]) as model:
        arguments = ["select", str(rows), "-o", str(tmp_path / "out.jsonl"), "--model", WRITER]
        assert main([*arguments, "--base-url", model.base_url, "--batch"]) == 2
        assert not [r for r in model.history if r.path == "/v1/batches"]
    assert "'temperature' is not supported with this model" in capsys.readouterr().err


def test_a_row_that_does_not_fit_the_context_is_not_asked_about(tmp_path: Path) -> None:
    rows = [
        {"instruction": text}
        for text in ("Write a novel of the sea.", "Write on: " + "tide " * 1_900)
    ]
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    with Model() as server:
        given = ["--model", WRITER, "--base-url", server.base_url, "--context", "2600"]
        given += ["--max-tokens", "1000"]
        assert main(["select", str(path), "-o", str(tmp_path / "out.jsonl"), *given]) == 1
        assert len(server.prompts) == 1
    (rejected,) = (
        row for row in read_jsonl(tmp_path / "out.rejected.jsonl") if row["rule"] == "failed"
    )
    assert rejected["detail"].startswith("context_overflow: about ")
