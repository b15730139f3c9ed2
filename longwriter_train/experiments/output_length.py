"""The paper's controlled experiment: output length follows the longest SFT output (section 2).

The same model is trained on SFT sets that differ only in the length of their longest output, and is
then asked for texts of rising length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.text.length import count_words
from longwriter_train.experiments import synthetic
from longwriter_train.experiments.training import (
    Source,
    Training,
    examples,
    fine_tune,
    generate,
    no_progress,
)

TITLE = "Output length follows the longest SFT output"
CAPTION = (
    "Produced words as the required length grows, after SFT on sets whose outputs have at most the "
    "given number of words. Each line is the mean of one model, with its 95% interval."
)


@dataclass(frozen=True)
class Task:
    """What is compared: the caps in words, and what each model is asked for."""

    caps: Sequence[int]
    lengths: Sequence[int]  # required words
    samples: int  # answers for each prompt
    max_tokens: int


def capped(rows: Sequence[Mapping[str, Any]], cap: int) -> list[Mapping[str, Any]]:
    """Return the rows whose last answer has at most `cap` words. Raises InputError for none."""
    kept = [row for row in rows if count_words(row["messages"][-1]["content"]) <= cap]
    if not kept:
        raise InputError(f"no output in the training data has at most {cap} words: raise --caps")
    return kept


def sft_set(source: Source, task: Task, cap: int) -> list[Mapping[str, Any]]:
    """Return the SFT set of one cap.

    Real data is filtered, as in the paper. In the synthetic task every length is asked for in every
    set, and the answer ends at the cap.
    """
    if source.rows is None:
        return list(synthetic.rows(task.lengths, cap))
    return capped(source.rows, cap)


def produced_words(
    source: Source,
    task: Task,
    training: Training,
    cap: int,
    progress: Callable[[int, float], None] = no_progress,
) -> dict[str, Any]:
    """Train on the set of one cap; return the produced words for each required length."""
    rows = sft_set(source, task, cap)
    model, tokenizer = source.load(training.seed)
    fine_tune(
        model,
        examples(tokenizer, rows, task.max_tokens),
        training,
        tokenizer.pad_token_id,
        progress,
    )
    words = {}
    for length in task.lengths:
        prompts = [prompt for prompt in source.prompts(length) for _ in range(task.samples)]
        answers = generate(model, tokenizer, prompts, task.max_tokens, training.seed)
        words[str(length)] = [count_words(answer) for answer in answers]
    longest = max(count_words(row["messages"][-1]["content"]) for row in rows)
    return {"rows": len(rows), "longest_output": longest, "words": words}


def run(
    source: Source,
    task: Task,
    training: Training,
    folder: Path,
    progress: Callable[[str, int, float], None],
) -> str:
    """Run the experiment in `folder`, and return its table. Finished caps are not run again."""
    from longwriter_eval.stats.inference import mean_interval
    from longwriter_train.experiments.results import (
        Line,
        interval_text,
        line_chart,
        measure_once,
        table,
        write_figure,
    )

    settings = {"source": source.name, **asdict(training), **asdict(task)}
    del settings["caps"]  # a further cap is a further part
    lines, rows = [], []
    for cap in task.caps:

        def measure(cap: int = cap) -> dict[str, Any]:
            return produced_words(
                source, task, training, cap, lambda *step: progress(f"cap {cap}", *step)
            )

        result = measure_once(folder, f"cap-{cap}", settings, measure)
        points = [(float(n), mean_interval(words)) for n, words in _by_length(result)]
        lines.append(Line(f"{cap} words", points))
        rows.append(
            (
                f"{cap:,}",
                f"{result['rows']:,}",
                f"{result['longest_output']:,}",
                *(interval_text(interval) for _, interval in points),
            )
        )
    figure = line_chart(
        "output_length", TITLE, CAPTION, lines, ("required words", "produced words"), "log"
    )
    header = ("cap", "rows", "longest SFT output", *(f"asked {n:,}" for n in task.lengths))
    return f"{table(header, rows)}\n\nwrote {write_figure(figure, folder)}"


def _by_length(result: Mapping[str, Any]) -> list[tuple[int, list[int]]]:
    return [(int(length), words) for length, words in result["words"].items()]
