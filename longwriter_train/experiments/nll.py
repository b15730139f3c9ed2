"""Negative log-likelihood by position: are long outputs one text, or pieces side by side?

The paper's check of its training data: under a language model, the cumulative mean NLL of the long
outputs falls with position, so later parts depend on earlier ones. A falling curve alone proves
little, because any text gives a model more to go by as it gets longer. So the same tokens are read
twice more, with other contexts:

- spliced: each segment stands where it was, but after segments of other texts;
- shuffled: the segments of each text stand in a random order.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from longwriter_core.errors import InputError

TITLE = "NLL by position"
CAPTION = (
    "Cumulative mean NLL per token, up to each position: the texts as they are, with every segment "
    "after segments of other texts, and with each text's segments shuffled. Bands are 95% "
    "intervals over texts."
)
TRAINING_TEXTS, TRAINING_STEPS = 4000, 250  # of the tiny model
ORIGINAL, SPLICED, SHUFFLED = "original", "spliced", "shuffled"
Tokens = Sequence[int]


@dataclass(frozen=True)
class Task:
    """Which tokens are read: the first `tokens` of each text, in segments of `segment`."""

    texts: int  # at most
    tokens: int
    segment: int
    seed: int


def splice(texts: Sequence[Tokens], segment: int) -> list[list[int]]:
    """Return texts whose segments come from one text after the other.

    Segment k of text i is segment k of text i + k. So every segment occurs once, and stands at its
    old position: only what precedes it differs.
    """
    return [
        [
            token
            for number, start in enumerate(range(0, len(text), segment))
            for token in texts[(index + number) % len(texts)][start : start + segment]
        ]
        for index, text in enumerate(texts)
    ]


def shuffle(texts: Sequence[Tokens], segment: int, seed: int) -> list[list[int]]:
    """Return each text with its segments in a random order, which is never the old one."""
    generator, shuffled = random.Random(seed), []
    for text in texts:
        segments = [list(text[start : start + segment]) for start in range(0, len(text), segment)]
        order = list(range(len(segments)))
        while order == sorted(order):
            generator.shuffle(order)
        shuffled.append([token for number in order for token in segments[number]])
    return shuffled


def cumulative_means(nll: Sequence[float], positions: Sequence[int]) -> list[float]:
    """Return the mean of all values up to each of the positions, where `nll` ends at the last."""
    first = positions[-1] - len(nll)  # tokens that were left out
    return [fmean(nll[: position - first]) for position in positions]


def grid(tokens: int) -> list[int]:
    """Return about twenty positions up to `tokens`, at equal distances."""
    return sorted({max(2, round(tokens * part / 20)) for part in range(1, 21)})


def token_nll(model: Any, tokens: Tokens, prefix: Tokens) -> list[float]:
    """Return the NLL of each token given the tokens before it and `prefix`.

    Without a prefix, nothing predicts the first token, and it is left out.
    """
    import torch

    from longwriter_train.dpo import check_head, head_layers, token_log_probs

    ids = torch.tensor([[*prefix, *tokens]], device=model.device)
    with torch.no_grad():
        try:
            check_head(model)
        except InputError:  # a head that needs all logits at once
            log_probs = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
            log_probs = log_probs.gather(-1, ids[0, 1:, None])[:, 0]
        else:
            ones = torch.ones_like(ids)
            inputs = {"input_ids": ids, "attention_mask": ones, "completion_mask": ones}
            log_probs = token_log_probs(model, inputs, head_layers(model))[0, :-1]
    nll: list[float] = (-log_probs).tolist()
    return nll[max(0, len(prefix) - 1) :]


def long_texts(tokenizer: Any, rows: Sequence[Mapping[str, Any]], task: Task) -> list[list[int]]:
    """Return the first tokens of the answers that are long enough. Raises InputError below two."""
    texts = []
    for row in rows:
        text = row["messages"][-1]["content"]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= task.tokens:
            texts.append(ids[: task.tokens])
        if len(texts) == task.texts:
            break
    if len(texts) < 2:
        raise InputError(
            f"{len(texts)} of {len(rows)} texts have {task.tokens} tokens, and at least two are "
            "needed: lower --tokens"
        )
    return texts


def measure(model: Any, tokenizer: Any, texts: Sequence[Tokens], task: Task) -> dict[str, Any]:
    """Return the cumulative mean NLL of each text at each position of the grid, by arrangement."""
    prefix = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    model.eval()
    arrangements = {
        ORIGINAL: texts,
        SPLICED: splice(texts, task.segment),
        SHUFFLED: shuffle(texts, task.segment, task.seed),
    }
    return {
        name: [
            cumulative_means(token_nll(model, tokens, prefix), grid(task.tokens))
            for tokens in arranged
        ]
        for name, arranged in arrangements.items()
    }


def run(name: str, rows: Sequence[Mapping[str, Any]] | None, task: Task, folder: Path) -> str:
    """Run the experiment in `folder`, and return its table. Without rows, on synthetic texts."""
    from longwriter_eval.stats.inference import mean_interval
    from longwriter_train.experiments.results import (
        Line,
        interval_text,
        line_chart,
        measure_once,
        table,
        write_figure,
    )

    if task.tokens < 2 * task.segment:
        raise InputError(
            f"--segment {task.segment} leaves no two segments in --tokens {task.tokens}: lower it"
        )

    def measured() -> dict[str, Any]:
        if rows is None:
            return _measure_synthetic(task)
        from longwriter_train.experiments.training import load_model

        model, tokenizer = load_model(name)
        return measure(model, tokenizer, long_texts(tokenizer, rows, task), task)

    settings = {"model": name, **vars(task)}
    curves = measure_once(folder, "nll", settings, measured)
    positions = grid(task.tokens)
    lines = [
        Line(
            arrangement,
            [
                (n, mean_interval(at))
                for n, at in zip(positions, zip(*of, strict=True), strict=True)
            ],
        )
        for arrangement, of in curves.items()
    ]
    figure = line_chart("nll", TITLE, CAPTION, lines, ("position (tokens)", "cumulative mean NLL"))
    cells = []
    for line in lines:
        ends = [
            texts[-1] - own[-1]
            for texts, own in zip(curves[line.name], curves[ORIGINAL], strict=True)
        ]
        cells.append(
            (
                line.name,
                interval_text(line.points[0][1], 3),
                interval_text(line.points[-1][1], 3),
                "" if line.name == ORIGINAL else interval_text(mean_interval(ends), 3),
            )
        )
    header = (
        f"{len(curves[ORIGINAL])} texts",
        f"NLL up to token {positions[0]:,}",
        f"up to token {positions[-1]:,}",
        "more than the original",
    )
    return f"{table(header, cells)}\n\nwrote {write_figure(figure, folder)}"


def _measure_synthetic(task: Task) -> dict[str, Any]:
    """Train the tiny model on texts of its own, and measure it on further ones."""
    from longwriter_train.experiments import synthetic
    from longwriter_train.experiments.training import Training, fine_tune

    # Tied embeddings make it easy to predict a word that the text has already used.
    model, tokenizer = synthetic.make_model(
        task.seed, tie_word_embeddings=True, initializer_range=0.1
    )
    texts = [
        tokenizer(text)["input_ids"]
        for text in synthetic.themed_texts(TRAINING_TEXTS + task.texts, task.tokens, task.seed)
    ]
    training = Training(TRAINING_STEPS, 16, 5e-3, task.seed, 16 * task.tokens)
    fine_tune(model, [(ids, ids) for ids in texts[task.texts :]], training, tokenizer.pad_token_id)
    return measure(model, tokenizer, texts[: task.texts], task)
