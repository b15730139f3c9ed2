"""Turn finished texts into SFT rows.

    from agentwrite import sft

    summary = sft(["runs/texts"], "sft.jsonl")
    print(summary.texts, summary.rejected)

A row is {"messages": [user, assistant], id, source, language, words, required, length_score,
model}, which axolotl's chat_template strategy reads directly.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agentwrite.batch.run_dir import missing_texts, read_rows, rows_by_id
from agentwrite.data.card import write_card
from agentwrite.data.mix import (
    DatasetWriter,
    GeneralSet,
    MixSummary,
    RowProgress,
    beside,
    check_files,
    no_row_progress,
    open_dataset,
)
from agentwrite.data.sft_rules import DUPLICATE, RULES, FinishedText, find_fault
from agentwrite.thresholds import SEED, SftLimits
from longwriter_core.conversation import conversation
from longwriter_core.errors import InputError
from longwriter_core.llm import Store, run_async
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import FORMATS, with_thinking, without_thinking
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item, Judgement

# gpt-oss: its chat template takes the thinking from a field of the message, and makes the channels.
FIELD = "gpt-oss"
PLAN_FORMATS = (*FORMATS, FIELD)


@dataclass(frozen=True)
class MinQuality:
    """The lowest S_q of a text, 0 to 100, and the judge that gives it."""

    score: float
    judge: JudgeSettings


@dataclass
class SftSummary:
    """The result of `sft`."""

    mix: MixSummary
    without_length: int = 0  # texts in the file without a required length
    unfinished: Counter[str] = field(default_factory=Counter)  # run folder -> missing texts

    def add(
        self, writer: DatasetWriter, source: str, id: str | int, text: FinishedText,
        with_plan: str | None, scores: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        """Add a text to the file, with further columns."""
        self.without_length += text.required is None
        writer.add(f"{source} {id}", _row(str(id), source, text, with_plan) | dict(scores or {}))

    @property
    def texts(self) -> int:
        """Texts in the file."""
        return self.mix.long_rows

    @property
    def rejected(self) -> Counter[str]:
        """The number of rejected texts by rule."""
        return self.mix.rejected


def sft(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    limits: SftLimits | None = None,
    without: Collection[str] = (),
    general: GeneralSet | None = None,
    seed: int = SEED,
    check_benchmarks: bool = True,
    limit: int | None = None,
    min_quality: MinQuality | None = None,
    with_plan: str | None = None,
    progress: RowProgress = no_row_progress,
) -> SftSummary:
    """Filter the texts of run folders and write them to `output` as SFT rows.

    folders           run folders written by `agentwrite run -o`
    output            a .jsonl or .parquet file; the rejected texts, the dataset card and the
                      histogram are written next to it
    limits            thresholds of the rules
    without           names of rules to disable
    general           a general SFT set to mix in
    seed              seed of the row order and of the general sample
    check_benchmarks  leave out texts whose instruction contains a benchmark's prompt
    limit             read only this many texts of each folder
    min_quality       judge the texts that pass all rules, and leave out those below a score; the
                      verdicts are kept in a run folder next to the file
    with_plan         begin each answer with the text's plan as thinking, in one of PLAN_FORMATS:
                      with tags, or for gpt-oss in the field `thinking` of the message, from which
                      its chat template makes the channels; thinking never counts as words
    progress          called for every row read or judged, with its kind

    The same input and seed give the same bytes. Raises InputError if the input cannot be used, and
    OSError if the output cannot be written.
    """
    if unknown := set(without) - {*RULES, DUPLICATE}:
        raise InputError(
            f"unknown rule {', '.join(sorted(unknown))}: the rules are "
            f"{', '.join([*RULES, DUPLICATE])}"
        )
    if with_plan and with_plan not in PLAN_FORMATS:
        known = ", ".join(PLAN_FORMATS)
        raise InputError(f"no thinking format {with_plan!r}: name one of {known}")
    output, limits = Path(output), limits or SftLimits()
    sources = check_paths(folders, output, general)
    settings = {**asdict(limits), "without": sorted(without), "seed": seed}
    if with_plan:
        settings["with_plan"] = with_plan
    if min_quality:
        judge = Judge(
            min_quality.judge,
            api_key(min_quality.judge, os.environ),
            Store(beside(output, ".run") / "calls"),
        )
        settings |= {"min_quality": min_quality.score, "judge": min_quality.judge.model}
    with open_dataset(output, seed=seed, check_benchmarks=check_benchmarks) as writer:
        summary = SftSummary(writer.summary)
        seen: set[bytes] = set()
        judged: dict[str, Path] = {}  # the texts to judge, and their folder
        for source, path in sources.items():
            for name, value in _run_settings(path).items():
                settings[f"{source}, {name}"] = value
            if missing := missing_texts(path, sum(1 for _ in read_rows(path / "texts.jsonl"))):
                summary.unfinished[str(path)] = missing
            for id, text in islice(_texts(path), limit):
                # `run` has cleaned each section as it came: what looks like talk now is prose
                thinking = text.plan_text if with_plan else ""
                text = text.model_copy(update={"thinking": thinking})
                rule, detail = find_fault(text, limits, without, seen, writer.find_benchmark_prompt)
                if not rule and with_plan and not thinking:
                    rule = "no_plan"
                if rule:
                    _reject(writer, rule, detail, source, id, text)
                elif min_quality:
                    judged[f"{source} {id}"] = path
                else:
                    summary.add(writer, source, id, text, with_plan)
                progress("texts")
        if min_quality and judged:
            judgements = _judge(judge, sources, judged, progress)
            for source, id, text in _chosen(sources, judged):
                judgement = judgements[f"{source} {id}"]
                quality = None if judgement.missing else judgement.quality["score"]
                if quality is None:
                    _reject(writer, "unjudged", _reason(judgement), source, id, text)
                elif quality < min_quality.score:
                    _reject(writer, "quality", f"S_q {quality:.1f}", source, id, text)
                else:
                    thinking = text.plan_text if with_plan else ""
                    text = text.model_copy(update={"thinking": thinking})
                    summary.add(writer, source, id, text, with_plan, {"quality_score": quality})
        unknown_quality = {"quality_score": None} if min_quality else {}

        def general_row(row: Mapping[str, Any]) -> dict[str, Any]:
            messages: list[Any] = conversation(row)
            if with_plan == FIELD:  # loaders take the fields of messages from every part of a file
                messages = [*messages[:-1], {**messages[-1], "thinking": None}]
            return _columns(messages) | unknown_quality

        writer.write(general, general_row, progress)
    counts = {
        "No length was required": {"texts": summary.without_length},
    }
    write_card(summary.mix, "sft", settings, counts)
    return summary


def check_paths(
    folders: Sequence[str | Path], output: Path, general: GeneralSet | None
) -> dict[str, Path]:
    """Map names to run folders, in the given order; repeated names get a number.

    Raises InputError if a folder cannot be read or `output` would overwrite an input.
    """
    sources: dict[str, Path] = {}
    for folder in map(Path, folders):
        if not (folder / "texts.jsonl").is_file():
            raise InputError(
                f"{folder} has no texts.jsonl: name a folder that `agentwrite run -o` wrote"
            )
        name, number = folder.resolve().name, 2
        while name in sources:
            name, number = f"{folder.resolve().name}-{number}", number + 1
        sources[name] = folder
    inputs = (
        folder / name for folder in sources.values() for name in ("texts.jsonl", "failed.jsonl")
    )
    check_files(output, inputs, general)
    return sources


def _reject(
    writer: DatasetWriter, rule: str, detail: str, source: str, id: str | int, text: FinishedText
) -> None:
    writer.reject(rule, detail, source, id=id, words=text.words, instruction=text.instruction)


def _chosen(
    sources: Mapping[str, Path], chosen: Collection[str]
) -> Iterator[tuple[str, str | int, FinishedText]]:
    """Read the texts "SOURCE ID" in `chosen` again, in order."""
    for source, path in sources.items():
        for id, text in _texts(path):
            if f"{source} {id}" in chosen:
                yield source, id, text


def _judge(
    judge: Judge, sources: Mapping[str, Path], chosen: Collection[str], progress: RowProgress
) -> dict[str, Judgement]:
    """Judge the texts "SOURCE ID" in `chosen`. Raises InputError if the judge cannot be used."""
    judgements: dict[str, Judgement] = {}

    def done(item: Item, judgement: Judgement) -> None:
        judgements[item.id] = judgement
        progress("verdicts")

    async def judge_all() -> None:
        await judge.check()
        items = (
            Item(f"{source} {id}", text.instruction, text.text)
            for source, id, text in _chosen(sources, chosen)
        )
        await judge.judge(items, done)

    run_async(judge_all())
    return judgements


def _reason(judgement: Judgement) -> str:
    """Why a text has no verdict."""
    last = next(verdict for verdict in reversed(judgement.verdicts) if not verdict.scores)
    return f"{last.reason} {last.detail or ''}".strip()


def _texts(folder: Path) -> Iterator[tuple[str | int, FinishedText]]:
    path = folder / "texts.jsonl"
    for row in rows_by_id(path):
        try:
            yield row["id"], FinishedText.model_validate(row)
        except ValidationError as error:
            problem = error.errors()[0]
            raise InputError(
                f"{path}, id {row['id']!r}: `{problem['loc'][0]}`: {problem['msg']}"
            ) from error


def _run_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run for the card; empty if they cannot be read."""
    try:
        settings = json.loads((folder / "settings.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _row(id: str, source: str, text: FinishedText, with_plan: str | None) -> dict[str, Any]:
    answer = {"role": "assistant", "content": text.text}
    if with_plan == FIELD:
        answer["thinking"] = text.thinking
    elif with_plan:
        answer["content"] = with_thinking(text.thinking, text.text, with_plan)
    return {
        "id": id,
        "source": source,
        **_columns([{"role": "user", "content": text.instruction}, answer]),
        "required": text.required,
        "length_score": text.length_score,
        "model": ", ".join(text.models),
    }


def _columns(messages: list[dict[str, str]]) -> dict[str, Any]:
    """Return the columns of a row; those unknown for general rows are null."""
    answer = without_thinking(messages[-1]["content"])
    return {
        "messages": messages,
        "language": main_language(answer),
        "words": count_words(answer),
        "required": None,
        "length_score": None,
        "model": None,
    }
