"""Tokenize conversations for SFT and DPO, and mark the tokens that carry loss.

axolotl loads `type: longwriter_train.chat` for SFT and `type: longwriter_train.preference` for DPO.
Its own chat_template strategies are not used, because they

- tokenize header and answer as one text, which can merge an answer's first newline with the
  header's;
- only warn, and leave the end-of-turn token out of the loss, if `eot_tokens` does not list it;
- in DPO, strip whitespace around the answer and search for its text in the rendered dialogue, where
  the same text may occur earlier.

Here every answer is tokenized separately, after the tokens that generation would show the model:
the template's own prompt for an answer. Everything after that prompt carries loss: the answer, the
token that ends its turn, and the answer's thinking, or the markup that says that there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwriter_core.conversation import shared_prefix, training_messages, training_pair
from longwriter_core.text.thinking import FORMATS

IGNORED = -100  # the label of a token that carries no loss

Message = Mapping[str, str]
Render = Callable[
    [Sequence[Message], bool], str
]  # messages, and whether the answer's header follows

# Stands in for an answer, to find where the template puts it. Templates may change a real answer:
# Qwen3's moves its thinking, and others strip it.
_PLACEHOLDER = "longwriter-answer"


@dataclass(frozen=True)
class Segment:
    """A part of a rendered conversation. `learned` says whether it carries loss."""

    text: str
    learned: bool


def samples(
    messages: Sequence[Message], render: Render, ends: Sequence[str]
) -> list[list[Segment]]:
    """Return the samples that a conversation makes: prompts, and answers with their end token.

    Usually that is one sample. A template may render an answer in a different way once others
    follow, as Qwen3's does, which drops the thinking of earlier answers. Each answer is then a
    sample of its own, after the dialogue as generation would show it.

    `ends` are the end-of-turn tokens. A template may put white space after one, as ChatML does: a
    model does not generate it, so it begins the next prompt. Raises ValueError if the conversation
    has no answer, or if the template does not render prompt, answer and end token one after the
    other.
    """
    found: list[list[Segment]] = []
    done = ""
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(messages[:position], True)
        answer = _learned(message["content"], prompt, messages[:position], render, ends)
        if not done or not prompt.startswith(done):
            found.append([])
            done = ""
        found[-1] += [Segment(prompt.removeprefix(done), False), Segment(answer, True)]
        done = prompt + answer
    if not found:
        raise ValueError("no message with the role assistant")
    return found


def _learned(
    content: str, prompt: str, before: Sequence[Message], render: Render, ends: Sequence[str]
) -> str:
    """Return what a model has to generate after `prompt`, down to the end token."""
    placeholder = {"role": "assistant", "content": _PLACEHOLDER}
    head, _, tail = render([*before, placeholder], False).rpartition(_PLACEHOLDER)
    end = tail.rstrip()
    if end not in ends:
        raise ValueError(
            f"the chat template does not end an answer with one of eot_tokens {list(ends)}: it "
            f"puts {tail[:80]!r} after an answer"
        )
    opening = head.removeprefix(prompt)  # for example Qwen3's empty thinking, or its end
    for tag, _ in FORMATS.values():
        thinking = content.lstrip()
        if thinking.startswith(tag):
            if prompt.rstrip().endswith(tag):
                return thinking.removeprefix(tag).lstrip() + end
            if tag in opening:
                return content + end
    if not head.startswith(prompt):
        raise ValueError(
            "the chat template begins an answer with other text in a dialogue than in its prompt "
            f"for generation: {head[-40:]!r}, {prompt[-40:]!r}"
        )
    return opening + content + end


def tokenized(segments: Sequence[Segment], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return a sample's token ids and labels. Each segment is tokenized separately."""
    ids: list[int] = []
    labels: list[int] = []
    for segment in segments:
        tokens = tokenizer(segment.text, add_special_tokens=False)["input_ids"]
        ids += tokens
        labels += tokens if segment.learned else [IGNORED] * len(tokens)
    return ids, labels


def renderer(tokenizer: Any) -> Render:
    """Return a function that renders messages as text with the tokenizer's chat template."""

    def render(messages: Sequence[Message], answer_follows: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=answer_follows
        )
        return text

    return render


def load(tokenizer: Any, cfg: Any) -> Any:
    """Return the strategy for `type: longwriter_train.chat`: rows to `input_ids` and `labels`.

    Raises ValueError if an end-of-turn token is not a single token of the tokenizer.
    """
    from axolotl.prompt_tokenizers import PromptTokenizingStrategy

    ends = _end_tokens(tokenizer, cfg)
    render = renderer(tokenizer)

    class Strategy(PromptTokenizingStrategy):  # type: ignore[misc]
        """Tokenizes a batch of conversations, which may make more samples than it has rows."""

        supports_batched = True

        def tokenize_prompt(self, prompt: Mapping[str, Any]) -> dict[str, list[list[int]]]:
            rows = [
                tokenized(segments, tokenizer)
                for values in zip(*prompt.values(), strict=True)
                for segments in samples(
                    training_messages(dict(zip(prompt, values, strict=True))), render, ends
                )
            ]
            return {
                "input_ids": [ids for ids, _ in rows],
                "attention_mask": [[1] * len(ids) for ids, _ in rows],
                "labels": [labels for _, labels in rows],
            }

    return Strategy(None, tokenizer, cfg.train_on_inputs, cfg.sequence_len)


def preference(cfg: Any, **_: Any) -> tuple[Callable[..., dict[str, str]], dict[str, str]]:
    """Return the strategy for `type: longwriter_train.preference`: prompt, chosen and rejected."""

    def transform(row: Mapping[str, Any], tokenizer: Any) -> dict[str, str]:
        messages, *answers = training_pair(row)
        render, ends = renderer(tokenizer), _end_tokens(tokenizer, cfg)
        parts = [samples([*messages, answer], render, ends)[-1] for answer in answers]
        prompt = "".join(segment.text for segment in parts[0][:-1])
        chosen, rejected = (part[-1].text for part in parts)
        if length := shared_prefix(row):
            # What the template puts before an answer belongs to the prompt as well.
            prefix = answers[0]["content"][:length]
            length += chosen.index(prefix)
            prompt, chosen, rejected = prompt + chosen[:length], chosen[length:], rejected[length:]
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    return transform, {"remove_columns": "__all__"}


def _end_tokens(tokenizer: Any, cfg: Any) -> list[str]:
    ends = list(cfg.eot_tokens or [])
    for token in ends:
        if len(tokenizer(token, add_special_tokens=False)["input_ids"]) != 1:
            raise ValueError(f"eot_tokens: {token} is not one token of this tokenizer")
    if not ends:
        raise ValueError("eot_tokens: name the token that ends an answer in the chat template")
    return ends
