"""`agentwrite stats`: statistics of each kind of file, compared with computations by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.model import WRITER, Model

from agentwrite.batch.run import run
from agentwrite.cli.main import main
from agentwrite.data.stats import Distribution, stats
from agentwrite.settings import Settings
from longwriter_core.errors import InputError


def file_of(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def text(words: int, word: str = "tea") -> str:
    return f"{word} " * words


def answer(words: int) -> dict[str, str]:
    return {"role": "assistant", "content": text(words)}


ASK = {"role": "user", "content": "Write."}


def test_instructions(tmp_path: Path) -> None:
    found = stats(
        file_of(
            tmp_path,
            {"prompt": "Write 3,000 words.", "type": "Guide", "selection": {"source": "chats"}},
            {"instruction": "写一篇小说", "length": 9000, "type": "Novel"},
            {"instruction": "Write a novel.", "language": "en", "type": "Novel"},
        )
    )
    assert (found.kind, found.rows) == ("instructions", 3)
    assert set(found.lengths) == {"required"}
    assert found.lengths["required"].count == 2
    assert found.counts == {
        "languages": {"en": 2, "zh": 1},
        "types": {"Novel": 2, "Guide": 1},
        "sources": {"chats": 1},
    }


def test_texts(tmp_path: Path) -> None:
    rows = [
        {
            "id": n, "instruction": "Write.", "text": text(words), "words": 1, "length_score": 1.0,
            "required": required, "models": ["gpt-4o-2024-05-13"], "cleaned": {"meta_talk": n},
            "rejected": {"empty": 1}, "prompt_tokens": 1_000_000, "completion_tokens": 100_000,
        }
        for n, (words, required) in enumerate(((1000, 1000), (4000, 2000), (1500, None)))
    ]  # fmt: skip
    found = stats(file_of(tmp_path, *rows))
    words = found.lengths["words"]
    assert (words.min, words.median, words.max) == (1000, 1500, 4000)
    assert words.mean == pytest.approx(6500 / 3)
    assert {name: n for name, n in words.histogram.items() if n} == {"[1k,2k)": 2, "[4k,8k)": 1}
    # of twice the length: 100 · (1 − 1/3)
    scores = found.numbers["length_score"]
    assert (scores.count, scores.max) == (2, 100)
    assert (scores.min, scores.mean) == pytest.approx((200 / 3, 250 / 3))
    assert found.numbers["produced"] == Distribution(2, 1, 1.5, 1.5, 2)
    assert found.counts["cleaned"] == {"meta_talk": 3}
    assert found.counts["rejected"] == {"empty": 3}
    assert (found.prompt_tokens, found.completion_tokens) == (3_000_000, 300_000)
    assert found.cost == pytest.approx(3 * 5 + 0.3 * 15)  # USD 5 and 15 a million


def test_the_cost_is_unknown_where_one_price_is(tmp_path: Path) -> None:
    row = {"instruction": "W", "text": "tea", "prompt_tokens": 5, "completion_tokens": 5}
    path = file_of(tmp_path, {**row, "models": ["gpt-4o"]}, {**row, "models": ["nobody's"]})
    assert stats(path).cost is None


def test_sft_rows_with_general_ones(tmp_path: Path) -> None:
    found = stats(
        file_of(
            tmp_path,
            {"messages": [ASK, answer(3000)], "required": 3000, "source": "texts", "model": "m"},
            {"messages": [ASK, answer(100)], "required": None, "source": "general", "model": None},
        )
    )
    assert found.kind == "sft"
    assert (found.lengths["words"].min, found.lengths["words"].max) == (100, 3000)
    assert found.numbers["length_score"] == Distribution(1, 100, 100, 100, 100)
    assert found.counts["sources"] == {"texts": 1, "general": 1}
    assert found.counts["models"] == {"m": 1}


def test_dpo_rows(tmp_path: Path) -> None:
    row = {"messages": [ASK], "chosen": answer(2000), "rejected": answer(500), "required": 2000}
    scores = {"chosen_score": 90.0, "rejected_score": 40.0, "margin": 50.0}
    found = stats(file_of(tmp_path, {**row, **scores}, {**row, "margin": None}))
    assert found.kind == "dpo"
    assert found.lengths["words"].mean == 2000
    assert found.lengths["rejected_words"].mean == 500
    assert found.numbers["margin"] == Distribution(1, 50, 50, 50, 50)
    assert found.numbers["chosen_score"].mean - found.numbers["rejected_score"].mean == 50


def test_a_run_folder_and_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, *({"id": n, "prompt": "Write 900 words on tea."} for n in range(3)))
    with Model() as server:
        settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,))
        run(path, tmp_path / "run", settings)
    assert main(["stats", str(path), str(tmp_path / "run")]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.startswith(f"{path}: 3 instructions\n")
    assert second.startswith(f"{tmp_path / 'run' / 'texts.jsonl'}: 3 texts\n")
    assert "  words asked for       min 900  median 900  mean 900  max 900\n" in second
    assert f"  [500,1k)          3  {'█' * 40}" in second
    assert f"  models                {WRITER} 3\n" in second
    assert "  produced / asked for  min " in second


def test_json_output_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path, {"messages": [ASK, answer(10)]})
    assert main(["stats", "--json", str(path), str(path)]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second == stats(path).as_dict()
    assert first["lengths"]["words"]["histogram"]["[0,500)"] == 1


GOOD = json.dumps({"prompt": "Write."})


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([GOOD, "{"], "line 2: not JSON"),
        ([GOOD, "", "[]"], "line 3: not a JSON object"),
        ([GOOD, '{"messages": []}'], "line 2: no instruction"),
        ([{"messages": [ASK]}], "line 1: no instruction"),
        ([{"messages": [ASK, {"role": "assistant", "content": None}]}], "line 1: no instruction"),
        ([GOOD, {"messages": [ASK, answer(1)]}], "line 2: a row of sft after rows of instructions"),
        ([], "holds no rows"),
    ],
)
def test_a_row_of_no_kind_is_named(rows: list[Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl") as raised:
        stats(file_of(tmp_path, *rows))
    assert problem in str(raised.value)


def test_a_missing_file_gives_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(tmp_path / "gone.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("agentwrite: error: cannot read ")


@pytest.mark.parametrize(
    "fields",
    [{"required": 10**400}, {"required": -5}, {"required": True}, {"models": "m", "cleaned": []},
     {"models": [None], "prompt_tokens": None, "cleaned": {"x": "y"}},
     {"models": ["gpt-4o"], "prompt_tokens": 10**400, "cleaned": {"x": 10**400}}],
    ids=["huge", "negative", "true", "no list", "nothing", "huge tokens"],
)  # fmt: skip
def test_invalid_fields_are_ignored(fields: dict[str, Any], tmp_path: Path) -> None:
    found = stats(file_of(tmp_path, {"instruction": "W", "text": text(5), **fields}))
    assert found.lengths["words"].mean == 5
    assert "required" not in found.lengths
    assert "cleaned" not in found.counts


def test_what_a_file_names_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(tmp_path, {"instruction": "W", "type": "Tale\x1b[2J\ud800", "length": 10**9})
    assert main(["stats", str(path)]) == 0
    assert "Tale\ufffd[2J\ufffd 1" in capsys.readouterr().out


@pytest.mark.parametrize("score", [10**400, float("nan"), float("inf")], ids=["huge", "nan", "inf"])
def test_a_non_finite_score_is_ignored(score: float, tmp_path: Path) -> None:
    row = {"messages": [ASK], "chosen": answer(2), "rejected": answer(1), "margin": score}
    assert "margin" not in stats(file_of(tmp_path, row)).numbers
