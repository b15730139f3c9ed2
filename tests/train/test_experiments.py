"""The paper's analyses, on the tiny model: what they find, and how the command behaves."""

import json
from pathlib import Path

import pytest
from support.prose import write_rows
from support.tiny_models import make_tiny_llama

from longwriter_core.errors import InputError
from longwriter_eval.cli.main import main
from longwriter_train.experiments import output_length, training

pytest.importorskip("torch", reason="needs the train extra")
pytestmark = pytest.mark.axolotl


def experiment(*arguments: str) -> int:
    return main(["experiment", *arguments])


def words(folder: Path, cap: int) -> dict[str, list[int]]:
    result: dict[str, list[int]] = json.loads((folder / f"cap-{cap}.json").read_text())["result"][
        "words"
    ]
    return result


SHORT = (
    "output-length", "--caps", "5,15", "--lengths", "5,15,30", "--samples", "2", "--steps", "80",
)  # fmt: skip


def test_output_length_follows_the_longest_sft_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiment(*SHORT, "--output", str(tmp_path)) == 0
    assert words(tmp_path, 5) == {"5": [5, 5], "15": [5, 5], "30": [5, 5]}
    assert words(tmp_path, 15) == {"5": [5, 5], "15": [15, 15], "30": [15, 15]}
    assert "<svg" in (tmp_path / "output_length.svg").read_text()
    first = capsys.readouterr().out
    assert "|  15 |    3 |                 15 |" in first

    # A rerun trains nothing that is finished.
    monkeypatch.setattr(output_length, "fine_tune", lambda *_: pytest.fail("trained again"))
    assert experiment(*SHORT, "--output", str(tmp_path)) == 0
    assert capsys.readouterr().out == first
    assert experiment(*SHORT, "--seed", "1", "--output", str(tmp_path)) == 2
    assert "other settings (seed): name another folder" in capsys.readouterr().err


@pytest.mark.usefixtures("upstream")
def test_a_real_model_is_asked_the_prompts_of_the_ruler(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "llama")
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Write."},
                {"role": "assistant", "content": "sea " * n},
            ]
        }
        for n in (3, 9)
    ]
    for row in rows:
        row["messages"][1]["content"] = row["messages"][1]["content"].strip()
    data = write_rows(tmp_path / "sft.jsonl", *rows)
    options = (
        "--model", str(model), "--data", str(data), "--caps", "5", "--lengths", "1000",
        "--steps", "1", "--samples", "1", "--max-tokens", "60", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert experiment("output-length", *options) == 0
    result = json.loads((tmp_path / "out" / "cap-5.json").read_text())["result"]
    assert (result["rows"], result["longest_output"]) == (1, 3)
    assert len(result["words"]["1000"]) == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--caps", "10,many"), "--caps 10,many: write positive numbers with commas between"),
        (("--caps", "0"), "--caps 0: write positive"),
        (("--lengths", "500"), "the story has 160 words"),
        (("--model", "gpt"), "--model and --data go together"),
        (("--learning-rate", "nan"), "nan"),
    ],
)
def test_bad_options_are_reported(
    options: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiment("output-length", *options, "--output", str(tmp_path)) == 2
    assert said in capsys.readouterr().err


def test_a_cap_below_every_output_is_reported() -> None:
    rows = [{"messages": [{"role": "assistant", "content": "one two three"}]}]
    assert output_length.capped(rows, 3) == rows
    with pytest.raises(InputError, match="no output in the training data has at most 2 words"):
        output_length.capped(rows, 2)


def test_the_order_of_the_rows_depends_on_the_seed_alone() -> None:
    def first(seed: int) -> list[int]:
        order = training._order(5, seed)
        return [next(order) for _ in range(10)]

    assert first(1) == first(1) != first(2)
    assert sorted(first(1)[:5]) == sorted(first(1)[5:]) == [0, 1, 2, 3, 4]
