"""The three averages of the loss on the same data and seeds (section 4.1 of the paper).

The paper averages by token, because averaging by sequence made long outputs worse. Here the same
model is trained three times with everything else alike: `token`, `sequence`, and `upstream`, which
is what LongWriter's released code computes (longwriter_train.loss.averages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from longwriter_core.text.length import count_words, length_score
from longwriter_train.experiments import synthetic
from longwriter_train.experiments.training import (
    Source,
    Training,
    examples,
    fine_tune,
    generate,
    no_progress,
)

TITLE = "Output length under three averages of the loss"
CAPTION = (
    "Produced words as the required length grows, after the same training with the loss averaged "
    "by token, by sequence, and as in upstream's code. Bands are 95% intervals over seeds."
)


@dataclass(frozen=True)
class Task:
    """What each model is asked for, and how often everything is repeated."""

    lengths: Sequence[int]  # required words
    samples: int  # answers for each prompt
    max_tokens: int
    seeds: Sequence[int]


def synthetic_rows(lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Return SFT rows in which each length is half as frequent as the next shorter one."""
    copies = [2**number for number in reversed(range(len(lengths)))]
    return [
        row
        for length, times in zip(sorted(lengths), copies, strict=True)
        for row in synthetic.rows([length] * times, length)
    ]


def right_words(answer: str, required: int) -> float:
    """Return the share of the required words of the story that stand at their place, in percent."""
    told, wanted = answer.split(), synthetic.story(required).split()
    right = sum(word == other for word, other in zip(told, wanted, strict=False))
    return 100 * right / len(wanted)


def train_and_ask(
    source: Source,
    task: Task,
    training: Training,
    folder: Path,
    progress: Callable[[int, float], None] = no_progress,
) -> dict[str, dict[str, list[float]]]:
    """Train one model, and measure its answers by required length. Saves a real model."""
    rows = synthetic_rows(task.lengths) if source.rows is None else source.rows
    model, tokenizer = source.load(training.seed)
    tokenized = examples(tokenizer, rows, task.max_tokens)
    fine_tune(model, tokenized, training, tokenizer.pad_token_id, progress)
    if source.rows is not None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    measured: dict[str, dict[str, list[float]]] = {}
    for length in task.lengths:
        prompts = [prompt for prompt in source.prompts(length) for _ in range(task.samples)]
        answers = generate(model, tokenizer, prompts, task.max_tokens, training.seed)
        words = [count_words(answer) for answer in answers]
        measured[str(length)] = {
            "words": [float(n) for n in words],
            "length_score": [length_score(length, n) for n in words],
        }
        if source.rows is None:
            measured[str(length)]["right_words"] = [right_words(a, length) for a in answers]
    return measured


def run(
    source: Source,
    task: Task,
    training: Training,
    folder: Path,
    progress: Callable[[str, int, float], None],
) -> str:
    """Run the experiment in `folder`, and return its table. Finished models are kept."""
    from longwriter_eval.stats.inference import mean_interval
    from longwriter_train.experiments.results import (
        Line,
        interval_text,
        line_chart,
        measure_once,
        table,
        write_figure,
    )
    from longwriter_train.loss.averages import AVERAGES

    settings = {"source": source.name, **asdict(training), **asdict(task)}
    del settings["seeds"]
    lines, rows = [], []
    for average in AVERAGES:
        by_seed = []
        for seed in task.seeds:
            name = f"{average}-{seed}"
            one = replace(training, average=average, seed=seed)

            def measure(one: Training = one, name: str = name) -> Any:
                return train_and_ask(
                    source, task, one, folder / name, lambda *step: progress(name, *step)
                )

            of_model = {**settings, "average": average, "seed": seed}
            by_seed.append(measure_once(folder, name, of_model, measure))

        def over_seeds(length: int, metric: str, by_seed: Any = by_seed) -> Any:
            return mean_interval(_mean(of[str(length)][metric]) for of in by_seed)

        lines.append(Line(average, [(n, over_seeds(n, "words")) for n in task.lengths]))
        for metric, unit in _METRICS.items():
            if metric in by_seed[0][str(task.lengths[0])]:
                cells = (interval_text(over_seeds(n, metric)) for n in task.lengths)
                rows.append((average, unit, *cells))
    figure = line_chart(
        "loss_average", TITLE, CAPTION, lines, ("required words", "produced words"), "log"
    )
    header = ("average", "measured", *(f"asked {n:,}" for n in task.lengths))
    said = f"{table(header, rows)}\n\nwrote {write_figure(figure, folder)}"
    if source.rows is not None:
        said += "\nfor S_l and S_q by bucket, run this on each saved model:\n" + "\n".join(
            "lm_eval run --tasks longbench_write --model hf --model_args "
            f"pretrained={folder / f'{average}-{seed}'} --apply_chat_template --log_samples "
            f"--output_path {folder / f'{average}-{seed}' / 'scores'}"
            for average in AVERAGES
            for seed in task.seeds
        )
    return said


_METRICS: Mapping[str, str] = {
    "words": "words",
    "length_score": "S_l",
    "right_words": "right words, %",
}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
