"""Fine-tuning a causal model on chat rows on one device, and generation of its answers.

For experiments: everything that could differ between two trainings is an argument. The recipes
train with axolotl, on several GPUs; the labels and the averages of the loss are the same here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longwriter_core.conversation import UnusableRowError, training_conversations
from longwriter_core.errors import InputError
from longwriter_core.jsonl import read_jsonl

IGNORED = -100  # the label of a token that carries no loss
Example = tuple[list[int], list[int]]  # token ids, labels


@dataclass(frozen=True)
class Training:
    """How a model is fine-tuned: AdamW with a linear warm-up and a cosine decay to 0."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    pack_tokens: int  # tokens of a micro-batch at most
    average: Literal["token", "sequence", "upstream"] = "token"  # longwriter_train.loss.averages


@dataclass(frozen=True)
class Source:
    """The model that an experiment starts from, its data and its prompts.

    `rows` is None for the synthetic task, whose data an experiment makes itself.
    """

    name: str
    rows: Sequence[Mapping[str, Any]] | None

    @classmethod
    def of(cls, model: str | None, data: Path | None) -> Source:
        """Return the source that the options --model and --data name.

        Raises InputError if only one of them is given, or if the file is not JSONL of SFT rows.
        """
        if (model is None) != (data is None):
            raise InputError("--model and --data go together: name both, or neither")
        if model is None or data is None:
            return cls("synthetic", None)
        rows = read_rows(data)
        return cls(model, rows)

    def load(self, seed: int) -> tuple[Any, Any]:
        """Return the model to train, float32 and on the GPU if there is one, and its tokenizer.

        Raises InputError for a model that cannot be loaded, or whose loss is not the cross-entropy
        of a plain linear head.
        """
        from longwriter_train.experiments.synthetic import make_model
        from longwriter_train.loss.averages import why_loss_cannot_be_replaced

        if self.rows is None:
            return make_model(seed)
        model, tokenizer = load_model(self.name, "float32")
        if why := why_loss_cannot_be_replaced(model):
            raise InputError(f"--model {self.name}: {why}")
        if model.device.type == "cuda":
            model.gradient_checkpointing_enable()
        return model, tokenizer

    def prompts(self, length: int) -> list[str]:
        """Return the prompts for a text of that many words."""
        from longwriter_core.benchmarks import read_prompts
        from longwriter_train.experiments.synthetic import request

        if self.rows is None:
            return [request(length)]
        return [row["prompt"] for row in read_prompts("longwrite_ruler") if row["length"] == length]

    def default_lengths(self, caps: Sequence[int]) -> list[int]:
        """Return the lengths to ask for: the caps, or those of LongWrite-Ruler."""
        if self.rows is None:
            return list(caps)
        from longwriter_core.benchmarks import read_prompts

        return sorted({row["length"] for row in read_prompts("longwrite_ruler")})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the SFT rows of a JSONL file. Raises InputError for a bad or empty file."""
    rows = []
    for number, row in read_jsonl(path):
        try:
            (messages,) = training_conversations(row, dpo=False)
        except UnusableRowError as error:
            raise InputError(f"{path}, line {number} {error}") from error
        rows.append({"messages": messages})
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows


def load_model(name: str, dtype: str = "auto") -> tuple[Any, Any]:
    """Return a model, on the GPU if there is one, and its tokenizer.

    Raises InputError for a model that cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        raise InputError(f"--model {name}: {' '.join(str(error).split())[:300]}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def numbers(text: str, option: str) -> list[int]:
    """Return the positive numbers in a list with commas. Raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{option} {text}: write positive numbers with commas between, like 10,20")
    return sorted({int(part) for part in parts})


def no_progress(step: int, loss: float) -> None:
    """Report nothing."""


def examples(tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_tokens: int) -> list[Example]:
    """Tokenize chat rows: the assistant's text and its end token carry loss.

    Rows over `max_tokens` are dropped, as in the paper. Raises InputError if the tokenizer has no
    chat template, if the template ends an answer with another token than the tokenizer's end
    token, if a row cannot be trained on, or if no row is left.
    """
    from longwriter_train.chat import renderer, samples, tokenized

    if not tokenizer.chat_template:
        raise InputError("the model's tokenizer has no chat template: take a chat model")
    render, kept = renderer(tokenizer), []
    for number, row in enumerate(rows, 1):
        try:
            training_conversations(row, dpo=False)
            for segments in samples(row["messages"], render, [tokenizer.eos_token]):
                ids, labels = tokenized(segments, tokenizer)
                if len(ids) <= max_tokens:
                    kept.append((ids, labels))
        except (UnusableRowError, ValueError) as error:
            raise InputError(f"row {number} of the training data: {error}") from error
    if not kept:
        raise InputError(f"no row of the training data has at most {max_tokens} tokens")
    return kept


def fine_tune(
    model: Any,
    tokenized: Sequence[Example],
    training: Training,
    pad: int,
    progress: Callable[[int, float], None] = no_progress,
) -> None:
    """Train `model` in place. `progress` gets each step's number and loss.

    Rows are drawn in a random order that depends on nothing but the seed, epoch after epoch. A
    micro-batch has the same loss as a pack of its rows.
    Weights are float32; on a GPU the model computes in bf16. Raises InputError if the loss is not
    finite.
    """
    import torch
    from transformers import get_cosine_schedule_with_warmup

    from longwriter_train.loss.averages import divisors, share_of_total, weighted_cross_entropy

    device = model.device.type
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = get_cosine_schedule_with_warmup(
        optimizer, max(1, round(0.03 * training.steps)), training.steps
    )
    model.train()
    order = _order(len(tokenized), training.seed)
    for step in range(1, training.steps + 1):
        rows = [tokenized[next(order)] for _ in range(training.batch_size)]
        batches = [_batch(pack, pad, model.device) for pack in packs(rows, training.pack_tokens)]
        total = torch.stack([share_of_total(training.average, batch) for batch in batches]).sum()
        step_loss = 0.0
        for batch in batches:
            divisor, factor = divisors(training.average, batch, total)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                hidden = model.model(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                ).last_hidden_state
                loss = factor * weighted_cross_entropy(
                    hidden,
                    model.lm_head.weight,
                    batch["labels"],
                    divisor.expand_as(batch["labels"]),
                )
            loss.backward()
            step_loss += loss.item()
        if not math.isfinite(step_loss):
            raise InputError(f"the loss of step {step} is {step_loss:g}: lower --learning-rate")
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step, step_loss)


def packs(rows: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Return the rows of a step in micro-batches of at most `tokens` tokens, filled in order.

    A longer row is a micro-batch of its own.
    """
    filled: list[list[Example]] = []
    room = 0
    for row in rows:
        room -= len(row[0])
        if room < 0 or not filled:
            filled.append([])
            room = tokens - len(row[0])
        filled[-1].append(row)
    return filled


def _order(rows: int, seed: int) -> Iterator[int]:
    generator = random.Random(seed)
    while True:
        epoch = list(range(rows))
        generator.shuffle(epoch)
        yield from epoch


def _batch(rows: Sequence[Example], pad: int, device: Any) -> dict[str, Any]:
    import torch

    length = max(len(ids) for ids, _ in rows)
    columns = {
        "input_ids": torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows]),
        "attention_mask": torch.tensor(
            [[1] * len(ids) + [0] * (length - len(ids)) for ids, _ in rows]
        ),
    }
    return {name: values.to(device) for name, values in columns.items()}


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int, seed: int
) -> list[str]:
    """Return an answer to each prompt, sampled at temperature 0.5 as in the paper's protocol."""
    import torch

    model.eval()
    answers = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for prompt in prompts:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
            ids = inputs["input_ids"].to(model.device)
            with torch.no_grad():
                output = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=max_tokens,
                    do_sample=True,
                    temperature=0.5,
                    pad_token_id=tokenizer.pad_token_id,
                )
            answers.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return answers
