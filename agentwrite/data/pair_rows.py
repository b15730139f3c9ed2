"""DPO rows from judged answers: pick a pair of a prompt's answers, and write it."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentwrite.data.mix import DatasetWriter
from agentwrite.data.pairs import ScoredAnswer, choose_pair
from agentwrite.data.steps import step_rows
from agentwrite.thresholds import PairOptions
from longwriter_core.llm import Rejected
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words, length_score


def add_pair(
    writer: DatasetWriter, source: str, row: Mapping[str, Any], required: int, options: PairOptions
) -> None:
    """Pick a pair and write it. S_l is computed from the current required length."""
    id, asked, samples = str(row["id"]), row["instruction"].strip(), row["samples"]
    answers = [
        ScoredAnswer(
            sample["text"],
            sample["cut"],
            sample["tokens"],
            sample["words"],
            length_score(required, sample["words"]),
            sample["quality_score"],
        )
        for sample in samples
    ]
    _write_pair(writer, source, (id, asked, required), samples, answers, options)


def add_step_pairs(
    writer: DatasetWriter, source: str, row: Mapping[str, Any], required: int, options: PairOptions
) -> None:
    """Pick a pair for each section of a text and write it."""
    for number, step, answers, prefix in step_rows(row):
        id = f"{row['id']} step {number}"
        asked = id, row["instruction"].strip(), required
        own = {"step": number, "prefix_characters": prefix}
        _write_pair(writer, source, asked, step["samples"], answers, options, own)


def _write_pair(
    writer: DatasetWriter,
    source: str,
    prompt: tuple[str, str, int],  # id, instruction, required words
    samples: Sequence[Mapping[str, Any]],
    answers: Sequence[ScoredAnswer],
    options: PairOptions,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Pick a pair of the answers, which are in the order of `samples`, and write it."""
    id, asked, required = prompt
    scores = [answer.score for answer in answers]
    pair = choose_pair(id, answers, options)
    if isinstance(pair, Rejected):
        writer.reject(pair.reason, pair.detail, source, id=id, scores=scores, instruction=asked)
        return
    chosen = samples[answers.index(pair.chosen)]
    columns = pair_columns(
        [{"role": "user", "content": asked}],
        {"role": "assistant", "content": pair.chosen.text},
        {"role": "assistant", "content": pair.rejected.text},
    )
    own = {
        "required": required,
        "chosen_score": pair.chosen.score,
        "rejected_score": pair.rejected.score,
        "margin": pair.margin,
        "scores": scores,
        "rejected_by": options.rejected,
        "model": chosen["model"],
        "judge": ", ".join(chosen["judges"]),
        **(more or {}),
    }
    writer.add(id, {"id": id, "source": source, **columns, **own})


def pair_columns(
    messages: list[dict[str, str]], chosen: dict[str, str], rejected: dict[str, str]
) -> dict[str, Any]:
    """Return the columns of a row; those unknown for general rows are null."""
    return {
        "messages": messages,
        "chosen": chosen,
        "rejected": rejected,
        "language": main_language(chosen["content"]),
        "words": count_words(chosen["content"]),
        "rejected_words": count_words(rejected["content"]),
        "required": None,
        "chosen_score": None,
        "rejected_score": None,
        "margin": None,
        "scores": None,
        "rejected_by": None,
        "model": None,
        "judge": None,
    }
