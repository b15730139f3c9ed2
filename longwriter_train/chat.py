"""Tokenize conversations for SFT and DPO, and mark the tokens that carry loss.

axolotl loads `type: longwriter_train.chat` for SFT and `type: longwriter_train.preference` for DPO.
Its own chat_template strategies are not used, because they

- tokenize header and answer as one text, which can merge an answer's first newline with the
  header's;
- only warn, and leave the end-of-turn token out of the loss, if `eot_tokens` does not list it;
- in DPO, strip whitespace around the answer and search for its text in the rendered dialogue, where
  the same text may occur earlier.

Here every answer is tokenized separately, after the tokens of the prompt, as in generation. The
whole answer and the token that ends its turn carry loss.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwriter_core.conversation import training_pair

IGNORED = -100  # the label of a token that carries no loss

Message = Mapping[str, str]
Render = Callable[
    [Sequence[Message], bool], str
]  # messages, and whether the answer's header follows


@dataclass(frozen=True)
class Segment:
    """A part of a rendered conversation. `learned` says whether it carries loss."""

    text: str
    learned: bool


def segments(messages: Sequence[Message], render: Render, ends: Sequence[str]) -> Iterator[Segment]:
    """Yield the rendered conversation in order: prompts, and answers with their end token.

    `ends` are the end-of-turn tokens. A template may put white space after one, as ChatML does: a
    model does not generate it, so it begins the next prompt. Raises ValueError if the conversation
    has no answer, or if the template does not render prompt, answer and end token one after the
    other.
    """
    done = ""
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt, whole = render(messages[:position], True), render(messages[: position + 1], False)
        rest = whole.removeprefix(prompt).removeprefix(message["content"])
        end = rest.rstrip()
        if prompt + message["content"] + rest != whole or end not in ends:
            raise ValueError(
                f"the chat template does not end an answer with one of eot_tokens {list(ends)}, or "
                f"changes it: {whole[-80:]!r} is rendered of {message['content'][-60:]!r}"
            )
        if not prompt.startswith(done):
            raise ValueError("the chat template renders earlier turns anew for later ones")
        yield Segment(prompt.removeprefix(done), False)
        yield Segment(message["content"] + end, True)
        done = prompt + message["content"] + end
    if not done:
        raise ValueError("no message with the role assistant")


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
        """Tokenizes one conversation."""

        def tokenize_prompt(self, prompt: Mapping[str, Any]) -> dict[str, list[int]]:
            ids: list[int] = []
            labels: list[int] = []
            for segment in segments(prompt["messages"], render, ends):
                tokens = tokenizer(segment.text, add_special_tokens=False)["input_ids"]
                ids += tokens
                labels += tokens if segment.learned else [IGNORED] * len(tokens)
            return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}

    return Strategy(None, tokenizer, cfg.train_on_inputs, cfg.sequence_len)


def preference(cfg: Any, **_: Any) -> tuple[Callable[..., dict[str, str]], dict[str, str]]:
    """Return the strategy for `type: longwriter_train.preference`: prompt, chosen and rejected."""

    def transform(row: Mapping[str, Any], tokenizer: Any) -> dict[str, str]:
        messages, *answers = training_pair(row)
        render, ends = renderer(tokenizer), _end_tokens(tokenizer, cfg)
        texts = [
            [segment.text for segment in segments([*messages, answer], render, ends)]
            for answer in answers
        ]
        prompt, chosen = "".join(texts[0][:-1]), texts[0][-1]
        return {"prompt": prompt, "chosen": chosen, "rejected": texts[1][-1]}

    return transform, {"remove_columns": "__all__"}


def _end_tokens(tokenizer: Any, cfg: Any) -> list[str]:
    ends = list(cfg.eot_tokens or [])
    for token in ends:
        if len(tokenizer(token, add_special_tokens=False)["input_ids"]) != 1:
            raise ValueError(f"eot_tokens: {token} is not one token of this tokenizer")
    if not ends:
        raise ValueError("eot_tokens: name the token that ends an answer in the chat template")
    return ends
