"""`agentwrite run`: after any interruption, no text is lost and no call is made twice."""

import json
import random
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from support import model
from support.commands import command, environment
from support.model import PLAN, WRITER, is_plan, step_of

from agentwrite.batch import run_dir as run_folder
from agentwrite.batch.instructions import check_instructions
from agentwrite.batch.run import WritingProgress, run
from agentwrite.batch.run_dir import RunFolder
from agentwrite.estimate import estimate_run
from agentwrite.settings import Settings
from longwriter_core import mock_server
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.jsonl import write_jsonl
from longwriter_core.mock_server.habits import HABITS, TALK
from longwriter_core.text.length import count_words

Model = partial(model.Model, habits=TALK)  # thinking and remarks in the replies


def instructions(folder: Path, rows: int = 12, words: int = 2000) -> Path:
    path = folder / "instructions.jsonl"
    lines = [
        json.dumps({"id": f"tea-{n}", "instruction": f"Write {words} words on tea {n}.", "n": n})
        for n in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_all(path: Path, output: Path, server: model.Model, **settings: Any) -> WritingProgress:
    chosen = Settings.resolve(model=WRITER, base_urls=(server.base_url,), **settings)
    return run(path, output, chosen)


def test_every_instruction_gets_its_text(tmp_path: Path) -> None:
    path = instructions(tmp_path)
    with Model(delay=0.02) as server:
        tally = write_all(path, tmp_path / "out", server, concurrency=6)
    assert (tally.finished, tally.failed, tally.missing) == (12, 0, 0)
    assert server.stats().max_in_flight == 6
    rows = rows_of(tmp_path / "out" / "texts.jsonl")
    assert {row["id"] for row in rows} == {f"tea-{n}" for n in range(12)}
    for row in rows:
        assert row["instruction"].endswith(f"tea {row['n']}.")
        assert row["words"] == count_words(row["text"]) > 1000
        assert row["required"] == 2000
        assert row["length_score"] > 50
        assert (row["models"], row["prompts"]) == ([WRITER], "longwriter")
        assert sum(part["words"] for part in row["sections"]) == row["words"]
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    assert tally.words == sum(row["words"] for row in rows)


def test_texts_do_not_depend_on_the_order_in_which_calls_end(tmp_path: Path) -> None:
    path = instructions(tmp_path)
    for name, concurrency in (("one", 1), ("many", 12)):
        with Model() as server:
            write_all(path, tmp_path / name, server, concurrency=concurrency)
    one, many = (
        {row["id"]: row["text"] for row in rows_of(tmp_path / name / "texts.jsonl")}
        for name in ("one", "many")
    )
    assert one == many
    assert len(set(one.values())) == 12


def test_a_finished_run_costs_nothing_more(tmp_path: Path) -> None:
    path = instructions(tmp_path)
    with Model() as server:
        write_all(path, tmp_path / "out", server)
        paid = len(server.prompts)
        tally = write_all(path, tmp_path / "out", server)
    assert len(server.prompts) == paid
    assert (tally.skipped, tally.finished, tally.missing) == (12, 0, 0)
    assert len(rows_of(tmp_path / "out" / "texts.jsonl")) == 12


def test_a_run_resumes_with_a_server_at_another_address(tmp_path: Path) -> None:
    path = instructions(tmp_path, 2)

    def failing(prompt: str) -> Any:
        return 400 if not is_plan(prompt) and step_of(prompt) == 4 else None

    with Model(answer=failing) as server:
        assert write_all(path, tmp_path / "out", server).failed == 2
    with Model() as server:
        assert write_all(path, tmp_path / "out", server).finished == 2
        assert len(server.prompts) == 2 * 2  # steps 4 and 5 of each


def test_several_servers_share_the_texts(tmp_path: Path) -> None:
    path = instructions(tmp_path)
    with Model() as one, Model() as other:
        chosen = Settings.resolve(model=WRITER, base_urls=(one.base_url, other.base_url))
        assert run(path, tmp_path / "out", chosen).finished == 12
    assert len(one.prompts) == len(other.prompts) == 6 * 6


def test_a_writer_with_every_habit_gives_clean_texts(tmp_path: Path) -> None:
    path = instructions(tmp_path, 6)
    with model.Model(habits=HABITS) as server:
        tally = write_all(path, tmp_path / "out", server)
    assert tally.missing == 0
    assert tally.rejected["refused"] > 0
    assert tally.rejected["loop"] > 0
    for row in rows_of(tmp_path / "out" / "texts.jsonl"):
        for trace in ("think", "Let me know", "Word count", "Sure!", "I'm sorry", "section_text"):
            assert trace.lower() not in row["text"].lower()
        assert row["words"] == count_words(row["text"])


# Formats and bad rows


def test_parquet_csv_and_conversations_give_the_same_instructions(tmp_path: Path) -> None:
    rows = [{"id": f"tea-{n}", "prompt": f"Write 2000 words, on tea {n}.", "n": n} for n in (1, 2)]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ""}]
    asked = [{**turns[1], "content": row["prompt"]} for row in rows]
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_jsonl(tmp_path / "b.jsonl", [
        {"id": row["id"], "messages": [turns[0], ask, {"role": "assistant", "content": "Tea."}],
         "n": row["n"]}
        for row, ask in zip(rows, asked, strict=True)
    ])  # fmt: skip
    (tmp_path / "c.csv").write_text(
        "id,prompt,length,n\n" + "".join(f'{r["id"]},"{r["prompt"]}",,{r["n"]}\n' for r in rows)
    )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    parquet.write_table(pyarrow.table({**columns, "length": [None, 2000]}), tmp_path / "d.parquet")
    read = [list(check_instructions(path)) for path in sorted(tmp_path.iterdir())]
    assert len(read) == 4
    assert all(instructions == read[0] for instructions in read)
    assert [each.required for each in read[0]] == [2000, 2000]


def test_bad_rows_are_set_aside_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,prompt,length\na,Write 900 words.,\nb,,\nc,"two\nlines",many\na,Again.,\n')
    with Model() as server:
        tally = write_all(path, tmp_path / "out", server)
    assert (tally.finished, tally.missing, tally.bad_rows) == (1, 0, 3)
    assert rows_of(tmp_path / "out" / "bad_rows.jsonl") == [
        {"line": 3, "problem": "no text under `instruction`, `prompt` or `messages`"},
        {"line": 4, "problem": "length must be a whole number from 1 to 1000000, not 'many'"},
        {"line": 6, "problem": "id 'a' is already on line 2"},
    ]
    with pytest.raises(InputError, match=r"line 3: no text .*; line 4: length"):
        check_instructions(path)


@pytest.mark.parametrize("ending", ["jsonl", "CSV", "parquet", "PARQUET"])
def test_whole_lengths_are_read_however_a_table_writes_them(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"in.{ending}"
    lengths: list[Any] = [300.0, 1000.0, None]
    if ending == "jsonl":
        lengths = ["300", "1,000", None]
        write_jsonl(path, [{"prompt": f"Tea {n}.", "length": n} for n in lengths])
    elif ending == "CSV":
        path.write_text('prompt,length\nTea 1.,300.0\nTea 2.,"1,000"\nTea 3.,\n', encoding="utf-8")
    else:
        table = {"prompt": [f"Tea {n}." for n in lengths], "length": lengths}
        parquet.write_table(pyarrow.table(table), path)
    assert [row.required for row in check_instructions(path)] == [300, 1000, None]


@pytest.mark.parametrize("length", ["300.5", "1,00", "-5", "", 300.5, True, 0, [300], "1e3"])
def test_a_length_that_is_no_whole_number_is_refused(length: object, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write_jsonl(path, [{"prompt": "Tea.", "length": length}])
    with pytest.raises(InputError, match="length must be a whole number"):
        check_instructions(path)


def test_a_file_of_bad_rows_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{\n")
    with Model() as server, pytest.raises(InputError, match="line 1: not JSON"):
        write_all(tmp_path / "in.jsonl", tmp_path / "out", server)


@pytest.mark.parametrize("name", ["in.parquet", "in.csv"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"prompt\n\xff\xfe")
    with pytest.raises(InputError, match=f"cannot read .*{name}"):
        check_instructions(tmp_path / name)


# Failures


def test_a_failure_is_recorded_with_its_reason_and_retried(tmp_path: Path) -> None:
    path = instructions(tmp_path)

    def failing(prompt: str) -> Any:
        return "I'm sorry, but I can't help with that." if "tea 7." in prompt else None

    with Model(answer=failing) as server:
        tally = write_all(path, tmp_path / "out", server)
        assert (tally.finished, tally.failed, tally.missing) == (11, 1, 1)
        assert tally.reasons == {"refused": 1}
        (failure,) = rows_of(tmp_path / "out" / "failed.jsonl")
        assert (failure["id"], failure["reason"], failure["place"]) == ("tea-7", "refused", "plan")
        assert (failure["instruction"], failure["n"]) == ("Write 2000 words on tea 7.", 7)
        assert write_all(path, tmp_path / "out", server).failed == 1
        assert len(rows_of(tmp_path / "out" / "failed.jsonl")) == 1
        server.answer = lambda _prompt: None
        tally = write_all(path, tmp_path / "out", server)
    assert (tally.skipped, tally.finished, tally.missing) == (11, 1, 0)
    assert not (tmp_path / "out" / "failed.jsonl").exists()
    assert len({row["id"] for row in rows_of(tmp_path / "out" / "texts.jsonl")}) == 12


def test_an_endpoint_that_refuses_every_call_is_an_input_error(tmp_path: Path) -> None:
    with Model(api_key="another") as server, pytest.raises(InputError, match="Incorrect API key"):
        write_all(instructions(tmp_path), tmp_path / "out", server)
    assert not (tmp_path / "out" / "failed.jsonl").exists()  # says nothing about an instruction


def test_an_endpoint_that_begins_to_refuse_ends_the_run_and_fails_no_instruction(
    tmp_path: Path,
) -> None:
    path, asked = instructions(tmp_path), 0

    def answer(_prompt: str) -> Any:
        nonlocal asked
        asked += 1
        return 402 if asked > 20 else None

    with Model(answer=answer) as server:
        tally = write_all(path, tmp_path / "out", server, concurrency=2)
    assert 0 < tally.finished < 12
    assert tally.failed == 0
    assert "request failed" in tally.stopped
    assert asked <= 22


def test_a_full_disk_ends_the_run_and_loses_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = instructions(tmp_path)

    def full(_file: Path, _row: object) -> None:
        raise OSError(28, "No space left on device")

    with Model() as server:
        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "append_jsonl", full)
            tally = write_all(path, tmp_path / "out", server, concurrency=2)
        assert "No space left on device" in tally.stopped
        assert (tally.finished, tally.missing) == (0, 12)
        assert write_all(path, tmp_path / "out", server).finished == 12
        assert len(server.prompts) == 12 * 6


# The folder


def test_an_incomplete_line_is_rebuilt_after_a_kill(tmp_path: Path) -> None:
    path, texts = instructions(tmp_path, 3), tmp_path / "out" / "texts.jsonl"
    with Model() as server:
        write_all(path, tmp_path / "out", server)
        whole, paid = texts.read_bytes(), len(server.prompts)
        texts.write_bytes(whole[:-100])
        assert write_all(path, tmp_path / "out", server).finished == 1
    assert texts.read_bytes() == whole
    assert len(server.prompts) == paid


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path, texts = instructions(tmp_path, 2), tmp_path / "out" / "texts.jsonl"
    with Model() as server:
        write_all(path, tmp_path / "out", server)
        texts.write_bytes(b"{}\n" + texts.read_bytes())
        with pytest.raises(InputError, match=r"texts\.jsonl, line 1: damaged"):
            write_all(path, tmp_path / "out", server)


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    path, out = instructions(tmp_path, 1), tmp_path / "out"
    with Model() as server:
        write_all(path, out, server)
        with pytest.raises(InputError, match="begun with parallel False, not True"):
            write_all(path, out, server, parallel=True)
        changed = instructions(tmp_path, 1, words=3000)
        with pytest.raises(InputError, match="other instructions under 1 of these ids"):
            write_all(changed, out, server)
        with RunFolder(tmp_path / "other", {}), pytest.raises(InputError, match="is in use"):
            RunFolder(tmp_path / "other", {}).__enter__()


def test_settings_on_disk_hold_no_address_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTWRITE_API_KEY", "sk-never")
    with Model(api_key="sk-never") as server:
        write_all(instructions(tmp_path, 1), tmp_path / "out", server)
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file():
            assert b"sk-never" not in file.read_bytes()
            assert b"127.0.0.1" not in file.read_bytes()


def test_an_estimate_makes_no_calls_and_writes_no_files(tmp_path: Path) -> None:
    path = instructions(tmp_path, 4)
    with Model() as server:
        chosen = Settings.resolve(model=WRITER, base_urls=(server.base_url,))
        found = estimate_run(path, tmp_path / "out", chosen)
        assert not server.prompts
        assert not (tmp_path / "out").exists()
        assert (found.texts, found.calls) == (4, 4 * 6)  # the mock writer's own plan has five steps
        run(path, tmp_path / "out", chosen, limit=3)
        assert estimate_run(path, tmp_path / "out", chosen).texts == 1


# Kill


@pytest.mark.slow
def test_repeated_kills_lose_at_most_the_calls_in_flight(tmp_path: Path) -> None:
    path, concurrency, dice = instructions(tmp_path, 16), 8, random.Random(4)
    with Model() as server:
        write_all(path, tmp_path / "calm", server)
        undisturbed = len(server.prompts)
    with Model(delay=0.1) as server:
        arguments = [
            "run", str(path), "-o", str(tmp_path / "out"), "--model", WRITER,
            "--base-url", server.base_url, "--concurrency", str(concurrency),
        ]  # fmt: skip
        kills = 0
        while True:
            before = len(server.prompts)
            process = subprocess.Popen(
                command("agentwrite", *arguments),
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            wanted = dice.randint(10, 25)
            while kills < 4 and process.poll() is None and len(server.prompts) < before + wanted:
                time.sleep(0.01)
            if kills == 4 or process.poll() is not None:
                break
            process.kill()
            process.communicate()
            kills += 1
        printed = process.communicate(timeout=120)[0].decode()
        assert process.returncode == 0, printed
    assert kills == 4
    assert len(server.prompts) <= undisturbed + kills * concurrency
    calm, killed = (
        {row["id"]: row["text"] for row in rows_of(tmp_path / name / "texts.jsonl")}
        for name in ("calm", "out")
    )
    assert killed == calm
    assert len(rows_of(tmp_path / "out" / "texts.jsonl")) == 16


def test_missing_ids_are_derived_from_the_instruction(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "写2000字"}\n\n{"prompt": "Write 900 words."}', encoding="utf-8")
    with Model(answer=lambda prompt: PLAN.format(400) if is_plan(prompt) else None) as server:
        write_all(path, tmp_path / "out", server)
    rows = {row["id"]: row for row in rows_of(tmp_path / "out" / "texts.jsonl")}
    assert rows[sha256("写2000字")[:16]]["required"] == 2000
    assert mock_server.WRITER == WRITER
