"""Only the assistant's whole text and its end-of-turn token carry loss."""

from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from support.chat_templates import chat_template
from support.tiny_models import make_tiny_glm, make_tiny_llama, make_tiny_qwen

from longwriter_core.conversation import UnusableRowError, training_conversations
from longwriter_core.errors import InputError
from longwriter_core.text.thinking import split_thinking, with_thinking, without_thinking
from longwriter_train import chat, recipes

pytestmark = pytest.mark.axolotl

# What axolotl's template of Qwen3 puts before an answer, in generation too: the start of thinking.
HEAD = {
    "llama": "<|start_header_id|>assistant<|end_header_id|>\n\n", "glm": "<|assistant|>\n",
    "qwen": "<|im_start|>assistant\n<think>\n\n",
}  # fmt: skip
# What a model has to generate before the text of an answer without thinking.
OPENING = {"llama": "", "glm": "", "qwen": "</think>\n\n"}
END = {"llama": "<|eot_id|>", "glm": "<|user|>", "qwen": "<|im_end|>"}
MAKERS = {"llama": make_tiny_llama, "glm": make_tiny_glm, "qwen": make_tiny_qwen}
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
    loaded.chat_template = chat_template(recipe)
    return loaded


def settings(*ends: str) -> Any:
    return SimpleNamespace(eot_tokens=list(ends), train_on_inputs=False, sequence_len=512)


def tokenize(strategy: Any, messages: list[dict[str, str]]) -> list[dict[str, list[int]]]:
    """Return the samples that axolotl makes of one conversation."""
    rows = Dataset.from_list([{"messages": messages}])
    made = rows.map(strategy.tokenize_prompt, batched=True, remove_columns=["messages"])
    return list(made)


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
    (row,) = tokenize(strategy, [ASK, answer])
    assert learned(row, tokenizer) == [OPENING[family] + ANSWERS[name] + END[family]]
    assert row["attention_mask"] == [1] * len(row["input_ids"])


DIALOGUE = [
    {"role": "system", "content": "Be long."},
    ASK,
    {"role": "assistant", "content": "First."},
    {"role": "user", "content": "Go on."},
    {"role": "assistant", "content": "Second."},
]


def test_every_answer_of_a_dialogue_is_learned_once(tokenizer: Any, family: str) -> None:
    rows = tokenize(chat.load(tokenizer, settings(END[family])), DIALOGUE)
    answers = [run for row in rows for run in learned(row, tokenizer)]
    opening, end = OPENING[family], END[family]
    assert answers == [f"{opening}First.{end}", f"{opening}Second.{end}"]
    # training and generation must see the same prompt tokens
    for row, length in zip(reversed(rows), (4, 2), strict=False):
        shown = tokenizer.apply_chat_template(
            DIALOGUE[:length], add_generation_prompt=True, tokenize=False
        )
        assert shown.endswith(HEAD[family])
        whole = tokenizer.decode(row["input_ids"])
        assert whole == f"{shown}{answers[length // 2 - 1]}"
        if prefix := tokenizer.decode(tokenizer("")["input_ids"]):
            assert whole.count(prefix) == 1


def test_a_dialogue_is_one_sample_unless_the_template_changes_earlier_answers(
    tokenizer: Any, family: str
) -> None:
    rows = tokenize(chat.load(tokenizer, settings(END[family])), DIALOGUE)
    assert len(rows) == (2 if family == "qwen" else 1)


def test_the_prompt_is_tokenized_as_in_generation(tokenizer: Any, family: str) -> None:
    answer = {"role": "assistant", "content": "\n\nThe sea."}
    (row,) = tokenize(chat.load(tokenizer, settings(END[family])), [ASK, answer])
    asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, return_dict=False)
    assert row["input_ids"][: len(asked)] == asked
    assert row["labels"][: len(asked)] == [chat.IGNORED] * len(asked)


PLAN = "Paragraph 1 - The sea - 100 words\nParagraph 2 - The storm - 200 words"


def test_thinking_is_learned_with_the_answer(tokenizer: Any, family: str) -> None:
    reply = with_thinking(PLAN, "The sea is calm.", "think")
    messages = [ASK, {"role": "assistant", "content": reply}]
    (row,) = tokenize(chat.load(tokenizer, settings(END[family])), messages)
    (said,) = learned(row, tokenizer)
    asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, tokenize=False)
    assert tokenizer.decode(row["input_ids"]) == asked + said
    # Qwen3's prompt opens the thinking; the other families' templates do not know it.
    assert said == (reply.removeprefix("<think>\n") if family == "qwen" else reply) + END[family]
    # thinking never counts as output words, whether the prompt opened it or the model did
    generated = said.removesuffix(END[family])
    assert split_thinking(generated) == (PLAN, "The sea is calm.")
    assert without_thinking(OPENING[family] + "The sea is calm.") == "The sea is calm."


def test_only_the_newline_after_think_differs_from_axolotls_own_rendering(
    tokenizer: Any, family: str
) -> None:
    """axolotl's template of Qwen3 writes <think>, two newlines in prompts, and one in dialogues."""
    reply = with_thinking(PLAN, "The sea is calm.", "think")
    messages = [ASK, {"role": "assistant", "content": reply}]
    (row,) = tokenize(chat.load(tokenizer, settings(END[family])), messages)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    trained = tokenizer.decode(row["input_ids"])
    assert trained.replace("<think>\n\n", "<think>\n") == rendered


def test_a_text_about_tags_stays_whole(tokenizer: Any, family: str) -> None:
    text = "Some models write </think> in the middle, others <think>."
    strategy = chat.load(tokenizer, settings(END[family]))
    (row,) = tokenize(strategy, [ASK, {"role": "assistant", "content": text}])
    assert learned(row, tokenizer) == [OPENING[family] + text + END[family]]


def test_a_template_whose_prompt_leaves_the_thinking_to_the_model() -> None:
    """As Qwen's own template, which axolotl's differs from in this point."""

    def render(messages: Any, answer_follows: bool) -> str:
        turns = []
        for number, message in enumerate(messages, 1):
            text = message["content"]
            if message["role"] == "assistant" and "</think>" not in text:
                empty = "<think>\n\n</think>\n\n" if number == len(messages) else ""
                text = empty + text
            turns.append(f"<|im_start|>{message['role']}\n{text}<|im_end|>\n")
        return "".join(turns) + ("<|im_start|>assistant\n" if answer_follows else "")

    for reply, wanted in {
        "Yes.": "<think>\n\n</think>\n\nYes.",
        "<think>\nShort?\n</think>\n\nYes.": "<think>\nShort?\n</think>\n\nYes.",
    }.items():
        (parts,) = chat.samples(
            [ASK, {"role": "assistant", "content": reply}], render, ["<|im_end|>"]
        )
        assert [part.text for part in parts if part.learned] == [f"{wanted}<|im_end|>"]


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
        assert decoded["chosen_ids"] == OPENING[family] + ANSWERS[name] + END[family]
        assert decoded["rejected_ids"] == OPENING[family] + "No." + END[family]
        asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, return_dict=False)
        assert row["prompt_ids"] == asked
    assert options == {"remove_columns": "__all__"}


PREFIX = "第一章。大海很平静。\n\nThe storm is near.\n\n"


def test_only_the_step_of_a_stepwise_pair_is_learned(tokenizer: Any, family: str) -> None:
    """Rows of `agentwrite dpo --steps`: the sections before the step belong to the prompt."""
    from longwriter_train.dpo import ChunkedDPOTrainer

    transform, _ = chat.preference(settings(END[family]))
    pair = {
        "messages": [ASK],
        "chosen": {"role": "assistant", "content": PREFIX + "The keeper lit the lamp."},
        "rejected": {"role": "assistant", "content": PREFIX + "The keeper slept."},
        "prefix_characters": len(PREFIX),
    }
    prepare: Any = ChunkedDPOTrainer._prepare_dataset
    arguments = SimpleNamespace(max_length=512, dataset_num_proc=None)
    texts = Dataset.from_list([transform(pair, tokenizer)])
    (row,) = prepare(None, texts, tokenizer, arguments, "train")
    decoded = {key: tokenizer.decode(ids) for key, ids in row.items()}
    asked = tokenizer.apply_chat_template([ASK], add_generation_prompt=True, tokenize=False)
    assert decoded["prompt_ids"] == asked + OPENING[family] + PREFIX
    assert decoded["chosen_ids"] == f"The keeper lit the lamp.{END[family]}"
    assert decoded["rejected_ids"] == f"The keeper slept.{END[family]}"
    # the tokens of prompt and prefix are those of generation, where the model wrote the prefix
    generated = tokenizer(OPENING[family] + PREFIX, add_special_tokens=False)["input_ids"]
    assert row["prompt_ids"][-len(generated) :] == generated


@pytest.mark.parametrize("length", [-1, 10_000, "3", len(PREFIX) + 12], ids=repr)
def test_a_prefix_that_the_answers_do_not_share_is_refused(length: Any) -> None:
    answers = {
        name: {"role": "assistant", "content": PREFIX + text}
        for name, text in (("chosen", "The keeper lit it."), ("rejected", "The keeper slept long."))
    }
    row = {"messages": [ASK], **answers, "prefix_characters": length}
    with pytest.raises(UnusableRowError, match="prefix_characters"):
        training_conversations(row, dpo=True)


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
        chat.samples(messages, trimming, [END[family]])


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
    (parts,) = chat.samples(dialogue, chatml, ["<|im_end|>"])
    assert [part.text for part in parts if part.learned] == ["1\n<|im_end|>", "2<|im_end|>"]
    assert "".join(part.text for part in parts) == chatml(dialogue, False).removesuffix("\n")
