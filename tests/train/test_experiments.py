"""The paper's analyses, on the tiny model: what they find, and how the command behaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.prose import write_rows
from support.tiny_models import make_tiny_llama

from longwriter_core.errors import InputError
from longwriter_eval.cli.main import main
from longwriter_train.experiments import loss_average, nll, output_length, synthetic, training

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


@pytest.mark.slow
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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": {}}'])
def test_a_damaged_result_is_reported(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cap-5.json").write_text(text)
    assert experiment(*SHORT, "--output", str(tmp_path)) == 2
    assert "cap-5.json is not a result of this command: remove it" in capsys.readouterr().err


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


TEXTS = [[10, 11, 12, 13, 14], [20, 21, 22, 23, 24]]


def test_a_spliced_text_has_every_segment_at_its_place_after_other_texts() -> None:
    assert nll.splice(TEXTS, 2) == [[10, 11, 22, 23, 14], [20, 21, 12, 13, 24]]


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_text_has_its_own_segments_in_another_order(seed: int) -> None:
    for text, shuffled in zip(TEXTS, nll.shuffle(TEXTS, 2, seed), strict=True):
        assert shuffled != text
        assert sorted(shuffled) == text


def test_the_cumulative_mean_is_over_all_tokens_up_to_a_position() -> None:
    assert nll.cumulative_means([1, 2, 6, 7], [1, 3, 4]) == [1, 3, 4]
    # without a token before the text, its first token has no NLL
    assert nll.cumulative_means([2, 6, 7], [2, 4]) == [2, 5]


@pytest.mark.parametrize("prefix", [[], [3]], ids=["no prefix", "prefix"])
@pytest.mark.parametrize("head", ["plain", "softcapping"])
def test_the_nll_of_a_token_is_the_models_own(prefix: list[int], head: str, tmp_path: Path) -> None:
    import torch

    model, _ = training.load_model(str(make_tiny_llama(tmp_path)))
    model.config.final_logit_softcapping = None if head == "plain" else 30.0
    ids = torch.tensor([[*prefix, 5, 6, 7]])
    wanted = -model(ids).logits[0].log_softmax(-1)[range(len(ids[0]) - 1), ids[0, 1:]]
    given = nll.token_nll(model, [5, 6, 7], prefix)
    assert len(given) == (3 if prefix else 2)
    assert given == pytest.approx(wanted.tolist(), rel=1e-5)


def test_nll_of_a_models_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_llama(tmp_path / "llama")
    answers = ["The sea is calm. " * 20, "请写一篇关于灯塔历史的长文章，" * 9, "too short"]
    rows = [
        {"messages": [{"role": "user", "content": "Go."}, {"role": "assistant", "content": text}]}
        for text in answers
    ]
    data = write_rows(tmp_path / "sft.jsonl", *rows)
    options = (
        "--model", str(model), "--data", str(data), "--segment", "10", "-o", str(tmp_path / "out"),
    )  # fmt: skip
    assert experiment("nll", *options, "--tokens", "60") == 0
    said = capsys.readouterr().out
    assert "2 texts" in said
    assert "NLL up to token 3 " in said
    assert experiment("nll", *options, "--tokens", "9999") == 2
    assert "settings (tokens): name another folder" in capsys.readouterr().err
    assert experiment("nll", *options, "--tokens", "9999", "-o", str(tmp_path / "long")) == 2
    assert "0 of 3 texts have 9999 tokens" in capsys.readouterr().err
    assert experiment("nll", *options, "--tokens", "15") == 2
    assert "--segment 10 leaves no two segments in --tokens 15" in capsys.readouterr().err


@pytest.mark.slow
def test_nll_falls_along_a_text_but_not_along_spliced_texts(tmp_path: Path) -> None:
    assert experiment("nll", "--output", str(tmp_path)) == 0
    curves = json.loads((tmp_path / "nll.json").read_text())["result"]
    ends = {name: sum(texts[-1] for texts in of) / len(of) for name, of in curves.items()}
    assert ends["original"] < ends["shuffled"] < ends["spliced"]
    assert ends["original"] < ends["spliced"] - 0.2


def test_micro_batches_are_filled_in_order() -> None:
    rows = [([0] * length, [0] * length) for length in (3, 2, 4, 9, 1)]
    filled = [[len(ids) for ids, _ in pack] for pack in training.packs(rows, 6)]
    assert filled == [[3, 2], [4], [9], [1]]


@pytest.mark.parametrize("average", ["token", "sequence", "upstream"])
def test_the_loss_is_that_of_packs(average: Any) -> None:
    """The loss of the first step, against the definition of each average."""
    import torch

    lengths = [3, 2, 9]
    model, tokenizer = synthetic.make_model(0)
    tokenized = training.examples(tokenizer, synthetic.rows(lengths, 9), 99)
    (pack,) = training.packs(tokenized[:2], 17)
    sums, counts = [], []
    for ids, labels in tokenized:
        logits = model(torch.tensor([ids])).logits[0, :-1]
        following = torch.tensor(labels[1:])
        loss = torch.nn.functional.cross_entropy(logits, following, reduction="sum")
        sums.append(loss.item())
        counts.append(int((following != training.IGNORED).sum()))
    assert counts == [4, 3, 10]  # the words and the end
    assert len(pack) == 2
    wanted = {
        "token": sum(sums) / sum(counts),
        "sequence": sum(s / n for s, n in zip(sums, counts, strict=True)) / 3,
        "upstream": (sum(sums[:2]) / 7 * 2 / 30 + sums[2] / 10 / 30) / 2,
    }
    losses: list[float] = []
    settings = training.Training(1, 3, 0.0, 0, 17, average)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_order", lambda rows, _: iter(range(rows)))
        training.fine_tune(model, tokenized, settings, 0, lambda _, loss: losses.append(loss))
    assert losses == pytest.approx([wanted[average]], rel=1e-5)


def test_short_rows_are_more_frequent() -> None:
    rows = loss_average.synthetic_rows([2, 5, 1])
    answers = [row["messages"][1]["content"].split() for row in rows]
    assert [len(words) for words in answers] == [1, 1, 1, 1, 2, 2, 5]
    assert loss_average.right_words(synthetic.story(3), 4) == 75


def test_three_averages_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--lengths", "3,6", "--steps", "2", "--seeds", "1,2", "-o", str(tmp_path))
    assert experiment("loss-average", *options) == 0
    said = capsys.readouterr().out
    for average in ("token", "sequence", "upstream"):
        assert f"{average} | right words, % |" in said
    assert (tmp_path / "loss_average.svg").is_file()
    assert len(list(tmp_path.glob("*.json"))) == 6


@pytest.mark.slow
def test_averaging_by_token_gives_the_longest_outputs(tmp_path: Path) -> None:
    assert experiment("loss-average", "--seeds", "1", "-o", str(tmp_path)) == 0
    longest = {}
    for average in ("token", "sequence", "upstream"):
        result = json.loads((tmp_path / f"{average}-1.json").read_text())["result"]
        longest[average] = max(result["160"]["words"])
    assert longest["token"] > longest["sequence"]
    assert longest["token"] > longest["upstream"]
