"""Tiny random chat models for complete training and generation runs on a CPU.

The weights are random, so the answers are noise. Everything else matches the model families of the
recipes: the architecture, the special tokens, a chat template, a tokenizer that adds its own
prefix, and several end tokens in the generation config. Model backends and long-generation tasks
can disagree about these details, and tiny models make that cheap to test.

torch and transformers are imported inside the functions, so importing this module needs neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

SEED = 20240813
VOCAB_SIZE = 512

# Sentences in both languages, so that the tokenizer does not split either into single bytes.
SENTENCES = (
    "Write a long article about the history of the lighthouse, in about 2000 words.",
    "The keeper climbed the stairs every evening and wrote down the state of the weather.",
    "In the first chapter the sea is calm; in the second chapter the storm is near.",
    "Each paragraph should follow from the one before it and lead to the one after it.",
    "When the last page was written, the reader closed the book and put out the lamp.",
    "请写一篇关于灯塔历史的长文章，大约两千字。",
    "守塔人每天傍晚走上楼梯，写下当天的天气。",
    "第一章里大海很平静，第二章里风暴快要来了。",
    "每一段都应该接着上一段，并且引出下一段。",
    "写完最后一页以后，读者合上书，关了灯。",
)

LLAMA_SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)
LLAMA_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)

GLM_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
GLM_CHAT_TEMPLATE = (
    "{{ '[gMASK]<sop>' }}"
    "{% for message in messages %}"
    "{{ '<|' ~ message['role'] ~ '|>\n' ~ message['content'] }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

QWEN_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_THINKING = ("<think>", "</think>")  # single tokens, but part of the text when it is decoded
# Earlier answers lose their thinking, and an answer without thinking gets an empty one.
QWEN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' ~ message['role'] ~ '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last and '</think>' not in message['content'] %}"
    "{{ '<think>\n\n</think>\n\n' ~ message['content'] }}"
    "{% elif message['role'] == 'assistant' and not loop.last %}"
    "{{ message['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# About 0.6 MB of weights. Key and value heads are grouped, as in the real models.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def make_tiny_llama(path: Path, max_position_embeddings: int = 2048) -> Path:
    """Save a random ``LlamaForCausalLM`` with Llama-3.1's tokens and turn format to ``path``.

    The turn ends with ``<|eot_id|>``, which is the tokenizer's end token. The generation config
    lists three end tokens, so a backend that reads only the tokenizer misses two.
    """
    from transformers import LlamaConfig

    tokenizer = _fast_tokenizer(
        _train(LLAMA_SPECIAL_TOKENS),
        prefix=("<|begin_of_text|>",),
        chat_template=LLAMA_CHAT_TEMPLATE,
        model_max_length=max_position_embeddings,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_position_embeddings,
        **SIZES,
    )
    return _save(path, config, tokenizer, ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"))


def make_tiny_glm(path: Path, max_position_embeddings: int = 2048) -> Path:
    """Save a random ``GlmForCausalLM`` with GLM-4's tokens and turn format to ``path``.

    A GLM turn has no end token of its own: it ends where the next role begins, so ``<|user|>`` and
    ``<|observation|>`` end a generation although the tokenizer's end token is ``<|endoftext|>``.
    GLM has no beginning-of-text token either, but the tokenizer adds ``[gMASK]<sop>``.
    """
    from transformers import GlmConfig

    tokenizer = _fast_tokenizer(
        _train(GLM_SPECIAL_TOKENS),
        prefix=("[gMASK]", "<sop>"),
        chat_template=GLM_CHAT_TEMPLATE,
        model_max_length=max_position_embeddings,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    config = GlmConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_position_embeddings,
        head_dim=SIZES["hidden_size"] // SIZES["num_attention_heads"],
        # The defaults are ids in the real vocabulary. _save sets the ids of this tokenizer.
        pad_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        **SIZES,
    )
    return _save(path, config, tokenizer, ("<|endoftext|>", "<|user|>", "<|observation|>"))


def make_tiny_qwen(path: Path, max_position_embeddings: int = 2048) -> Path:
    """Save a random ``Qwen3ForCausalLM`` with Qwen3's tokens and turn format to ``path``.

    As in the published base model, no token begins a text, and the tokenizer's end token is not
    the token that ends a turn.
    """
    from transformers import Qwen3Config

    tokenizer = _fast_tokenizer(
        _train(QWEN_SPECIAL_TOKENS),
        prefix=(),
        chat_template=QWEN_CHAT_TEMPLATE,
        model_max_length=max_position_embeddings,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.add_tokens(list(QWEN_THINKING))
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        max_position_embeddings=max_position_embeddings,
        head_dim=SIZES["hidden_size"] // SIZES["num_attention_heads"],
        **SIZES,
    )
    return _save(path, config, tokenizer, ("<|endoftext|>", "<|im_end|>"))


MAKERS = {"tiny-llama": make_tiny_llama, "tiny-glm": make_tiny_glm, "tiny-qwen": make_tiny_qwen}


def _train(special_tokens: tuple[str, ...]) -> Tokenizer:
    """Train a byte-level BPE tokenizer, as in both families, on ``SENTENCES``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    make_trainer: Any = trainers.BpeTrainer  # only some releases of tokenizers have types
    trainer = make_trainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(special_tokens),
        # All 256 bytes, so that any text can be encoded.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _fast_tokenizer(
    tokenizer: Tokenizer, prefix: tuple[str, ...], chat_template: str, **kwargs: Any
) -> PreTrainedTokenizerFast:
    """Wrap ``tokenizer`` for transformers and make it put ``prefix`` before every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = TemplateProcessing(
        single=[*prefix, "$A"],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in prefix],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
        **kwargs,
    )


def _save(
    path: Path,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerFast,
    end_tokens: tuple[str, ...],
) -> Path:
    """Save a model with seeded random weights, its tokenizer and its generation config.

    The generation config sets ``do_sample``, as both families' published ones do. Some servers
    sample only if it is set, whatever temperature a request asks for.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    end_ids = tokenizer.convert_tokens_to_ids(list(end_tokens))
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = end_ids
    config.pad_token_id = tokenizer.pad_token_id
    # The global random state is restored, so creating a model does not change a test's draws.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end_ids,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.8,
    )
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
