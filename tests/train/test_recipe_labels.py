"""Only the assistant's whole text and its end-of-turn token carry loss."""

from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from support.tiny_models import make_tiny_glm, make_tiny_llama

from longwriter_core.errors import InputError
from longwriter_train import chat, recipes

pytestmark = pytest.mark.axolotl

HEAD = {"llama": "<|start_header_id|>assistant<|end_header_id|>\n\n", "glm": "<|assistant|>\n"}
END = {"llama": "<|eot_id|>", "glm": "<|user|>"}
MAKERS = {"llama": make_tiny_llama, "glm": make_tiny_glm}
ASK = {"role": "user", "content": "Write about the sea."}


@pytest.fixture(scope="module", params=MAKERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(family: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny tokenizer with the recipes' chat template, as axolotl sets it."""
    from transformers import AutoTokenizer

    path = MAKERS[family](tmp_path_factory.mktemp(family))
    loaded = AutoTokenizer.from_pretrained(path)
    recipe = recipes.load(recipes.folder() / f"tiny/{family}_sft.yaml")
    template = recipes.folder().parent / recipe["chat_template_jinja"]
    loaded.chat_template = template.read_text(encoding="utf-8")
    return loaded


def settings(*ends: str) -> Any:
    return SimpleNamespace(eot_tokens=list(ends), train_on_inputs=False, sequence_len=512)


def learned(row: dict[str, list[int]], tokenizer: Any) -> list[str]:
    """Return the decoded runs of tokens that have a label."""
    runs: list[list[int]] = [[]]
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        assert label in (token, chat.IGNORED)
        if label != chat.IGNORED:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


ANSWERS = {
    "plain": "The sea is calm.",
    "chinese": "大海很平静。\n\n第二章里风暴来了。",
    "newline first": "\nThe sea is calm.",
    "blanks around": "  The sea is calm. \n\n",
    "the prompt's words": "Write about the sea. user assistant",
    "one letter": "a",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_sft_learns_the_answer_and_its_end(name: str, tokenizer: Any, family: str) -> None:
    strategy = chat.load(tokenizer, settings(END[family]))
    answer = {"role": "assistant", "content": ANSWERS[name]}
    row = strategy.tokenize_prompt({"messages": [ASK, answer]})
    assert learned(row, tokenizer) == [ANSWERS[name] + END[family]]
    assert row["attention_mask"] == [1] * len(row["input_ids"])


def test_every_answer_of_a_dialogue_is_learned(tokenizer: Any, family: str) -> None:
    messages = [
        {"role": "system", "content": "Be long."},
        ASK,
        {"role": "assistant", "content": "First."},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "Second."},
    ]
    row = chat.load(tokenizer, settings(END[family])).tokenize_prompt({"messages": messages})
    assert learned(row, tokenizer) == [f"First.{END[family]}", f"Second.{END[family]}"]
    # training and generation must see the same prompt tokens
    shown = tokenizer.apply_chat_template(messages[:4], add_generation_prompt=True, tokenize=False)
    assert shown.endswith(HEAD[family])
    whole = tokenizer.decode(row["input_ids"])
    assert whole == f"{shown}Second.{END[family]}"
    assert whole.count(tokenizer.decode(tokenizer("")["input_ids"])) == 1


def test_the_prompt_is_tokenized_as_in_generation(tokenizer: Any, family: str) -> None:
    answer = {"role": "assistant", "content": "\n\nThe sea."}
    row = chat.load(tokenizer, settings(END[family])).tokenize_prompt({"messages": [ASK, answer]})
    asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, return_dict=False)
    assert row["input_ids"][: len(asked)] == asked
    assert row["labels"][: len(asked)] == [chat.IGNORED] * len(asked)


@pytest.mark.parametrize("name", ANSWERS)
def test_dpo_learns_both_answers_and_their_ends(name: str, tokenizer: Any, family: str) -> None:
    from longwriter_train.dpo import ChunkedDPOTrainer

    transform, options = chat.preference(settings(END[family]))
    chosen = {"role": "assistant", "content": ANSWERS[name]}
    rejected = {"role": "assistant", "content": "No."}
    pairs = [
        {"messages": [ASK], "chosen": chosen, "rejected": rejected},  # agentwrite dpo
        {"chosen": [ASK, chosen], "rejected": [ASK, rejected]},  # most data sets on the hub
    ]
    for pair in pairs:
        texts = transform(pair, tokenizer)
        prepare: Any = ChunkedDPOTrainer._prepare_dataset
        arguments = SimpleNamespace(max_length=512, dataset_num_proc=None)
        (row,) = prepare(None, Dataset.from_list([texts]), tokenizer, arguments, "train")
        decoded = {key: tokenizer.decode(ids) for key, ids in row.items()}
        assert decoded["chosen_ids"] == ANSWERS[name] + END[family]
        assert decoded["rejected_ids"] == "No." + END[family]
        asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, return_dict=False)
        assert row["prompt_ids"] == asked
    assert options == {"remove_columns": "__all__"}


def test_a_pair_too_long_is_an_error(tokenizer: Any) -> None:
    from longwriter_train.dpo import ChunkedDPOTrainer

    rows = Dataset.from_list([{"prompt": "a" * 40, "chosen": "b" * 40, "rejected": "c"}])
    prepare: Any = ChunkedDPOTrainer._prepare_dataset
    arguments = SimpleNamespace(max_length=10, dataset_num_proc=None)
    with pytest.raises(InputError, match="exceeds sequence_len"):
        prepare(None, rows, tokenizer, arguments, "train")


@pytest.mark.parametrize(
    ("ends", "complaint"),
    [
        ((), "name the token"),
        (("not a token",), "not one token"),
        (("<|endoftext|>", "<|end_of_text|>"), "not one token"),
    ],
    ids=["none", "text", "another family's"],
)
def test_wrong_end_tokens_are_refused(ends: Any, complaint: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=complaint):
        chat.load(tokenizer, settings(*ends))


def test_a_template_that_does_not_end_its_answers_is_refused(tokenizer: Any, family: str) -> None:
    messages = [ASK, {"role": "assistant", "content": "Yes."}]

    def trimming(messages: Any, answer_follows: bool) -> str:
        return chat.renderer(tokenizer)(messages, answer_follows).replace(END[family], "")

    with pytest.raises(ValueError, match="does not end an answer"):
        list(chat.segments(messages, trimming, [END[family]]))


def test_white_space_after_an_end_token_is_not_learned() -> None:
    def chatml(messages: Any, answer_follows: bool) -> str:
        turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
        return "".join(turns) + ("<|im_start|>assistant\n" if answer_follows else "")

    dialogue = [
        {"role": role, "content": text}
        for role, text in (
            ("user", "One."),
            ("assistant", "1\n"),
            ("user", "Two."),
            ("assistant", "2"),
        )
    ]
    parts = list(chat.segments(dialogue, chatml, ["<|im_end|>"]))
    assert [part.text for part in parts if part.learned] == ["1\n<|im_end|>", "2<|im_end|>"]
    assert "".join(part.text for part in parts) == chatml(dialogue, False).removesuffix("\n")
