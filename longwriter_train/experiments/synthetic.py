"""A tiny model and a tiny task, on which an experiment takes about a minute on a CPU.

The task is to tell a story of a required number of words. The story's words come in a fixed order,
so that the model can learn it, and each word occurs once, so that the model knows how far it is:

    user:      write 20 words
    assistant: babo babu baca bace …     (the first 20 words of the story)

The model is a Llama of two layers with random weights. It has to learn three things: the order of
the words, to continue as long as the request wants, and to stop there.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

from longwriter_core.errors import InputError

STORY_WORDS = 160
END = "<|end|>"
_SPECIAL_TOKENS = ("<|pad|>", "<|user|>", "<|assistant|>", END)
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '" + END + "' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def story(words: int) -> str:
    """Return the first words of the story."""
    return " ".join(_words()[:words])


def _words() -> list[str]:
    syllables = ["".join(pair) for pair in product("bdfgklmnprstvz", "aeiou")]
    order = [first + second for first in syllables for second in syllables]
    random.Random(1).shuffle(order)
    return order[:STORY_WORDS]


def request(words: int) -> str:
    """Return the instruction for that many words. Raises InputError above STORY_WORDS."""
    if words > STORY_WORDS:
        raise InputError(f"the story has {STORY_WORDS} words, not {words}: ask for fewer")
    return f"write {words} words"


def rows(lengths: Sequence[int], cap: int) -> list[dict[str, Any]]:
    """Return one SFT row for each required length, whose answer has at most `cap` words."""
    return [
        {
            "messages": [
                {"role": "user", "content": request(length)},
                {"role": "assistant", "content": story(min(length, cap))},
            ]
        }
        for length in lengths
    ]


def themed_texts(texts: int, words: int, seed: int) -> list[str]:
    """Return texts that are about something: later words depend on earlier ones.

    Half of a text's words are drawn from eight that it uses throughout. The other half are drawn
    from a cast of eight, in which one word is replaced after every eighth word of the text.
    """
    generator, vocabulary, written = random.Random(seed), _words(), []
    for _ in range(texts):
        own = generator.sample(vocabulary, len(vocabulary))
        theme, casting = own[:8], own[8:]
        written.append(
            " ".join(
                generator.choice(
                    theme if generator.random() < 0.5 else _cast(casting, position // 8)
                )
                for position in range(words)
            )
        )
    return written


def _cast(casting: Sequence[str], first: int) -> list[str]:
    return [casting[(first + number) % len(casting)] for number in range(8)]


def make_model(seed: int, **settings: Any) -> tuple[Any, Any]:
    """Return a Llama of two layers with random weights, and its tokenizer of whole words.

    `settings` are further ones of its config.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    numbers = [str(number) for number in range(1, STORY_WORDS + 1)]
    names = [*_SPECIAL_TOKENS, "<|unknown|>", "write", "words", *numbers, *_words()]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokens = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        chat_template=_CHAT_TEMPLATE,
        pad_token="<|pad|>",
        eos_token=END,
        unk_token="<|unknown|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2 * STORY_WORDS,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model, tokenizer
