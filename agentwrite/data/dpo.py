"""DPO rows: several answers to each prompt, judged, of which one is chosen and one rejected.

A row is {"messages": [user], "chosen": assistant, "rejected": assistant, id, source, language,
words, rejected_words, required, chosen_score, rejected_score, margin, scores, rejected_by, model,
judge}, as axolotl's chat_template.default strategy reads it.

What is paid for stays in a run folder beside the file: choosing anew, with another margin or
general set, costs nothing.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentwrite.batch.instructions import check_instructions, read_instructions
from agentwrite.batch.queue import Calls, Make, Note, Work, no_note, run_queue
from agentwrite.batch.ray import Cluster
from agentwrite.batch.run_dir import RunFolder, rows_by_id
from agentwrite.data.card import write_card
from agentwrite.data.mix import General, Mix, Mixed, Progress, beside, check_files
from agentwrite.data.preference import Choice, Sample, choose
from agentwrite.data.sampling import Sampled, Sampler
from agentwrite.settings import Settings
from agentwrite.writing.asking import Asking
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.state import Instruction
from longwriter_core.conversation import preference
from longwriter_core.errors import InputError
from longwriter_core.llm import Rejected, Store, Usage, run_async
from longwriter_core.overlap import PromptIndex, benchmark_prompts
from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words, length_score
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings, api_key

SAMPLES = 4  # arXiv 2408.07055, section 4.2
# Above the 0.5 of the evaluation, so that the answers to one prompt differ more. Ours: the paper
# does not say.
TEMPERATURE = 0.8
MAX_TOKENS = 32_768

_VERDICT_TOKENS = 300  # about what a judge's reply takes
_NAMED = ("text", "cut", "tokens", "words", "quality_score")


@dataclass
class Tally(Work[Sampled]):
    """What a run has done so far. Answers and words are of the prompts that it finished.

    `usage` counts the writer's calls and `judging` the judge's; those of prompts that failed come
    with the next one that does not.
    """

    answers: int = 0
    words: int = 0
    judging: Usage = field(default_factory=Usage)

    def add(self, made: Sampled) -> None:
        """Count a prompt's answers."""
        super().add(made)
        self.answers += len(made.answers)
        self.words += sum(count_words(answer.value) for answer in made.answers)
        self.judging.calls += made.judging.calls
        self.judging.prompt_tokens += made.judging.prompt_tokens
        self.judging.completion_tokens += made.judging.completion_tokens


@dataclass(frozen=True)
class Dpo:
    """What came of the prompts: answers and their verdicts, then pairs."""

    tally: Tally
    mixed: Mixed
    folder: Path

    @property
    def pairs(self) -> int:
        """Pairs of ours in the file."""
        return self.mixed.ours


def dpo(
    prompts: Path,
    output: Path,
    settings: Settings,
    judge: JudgeSettings,
    *,
    samples: int = SAMPLES,
    choice: Choice | None = None,
    limit: int | None = None,
    default_length: int | None = None,
    general: General | None = None,
    check: bool = True,
    cluster: Cluster | None = None,
    progress: Callable[[Tally], None] = lambda _tally: None,
    mixing: Progress = lambda _what: None,
) -> Dpo:
    """Sample and judge what is missing, then write `output` from all that is there.

    `progress` is called after every prompt, `mixing` for every row that is read afterwards. A
    prompt of which an answer has no verdict is not in the file; the next run asks again. A
    `cluster` spreads the sampling and judging over its machines. Raises InputError for input,
    folder, cluster or endpoint that cannot be used.
    """
    choice = choice or Choice()
    check_files(output, [prompts], general)
    wanted, lengths, overlaps = _checked(prompts, limit, default_length, check)
    path = beside(output, ".run")
    judging = Judge(judge, api_key(judge, os.environ), Store(path / "calls"))
    common = _in_common(settings, judging, samples)
    with RunFolder(path, common, "samples.jsonl") as folder:
        folder.check_finished(wanted)
        left = wanted.keys() - overlaps.keys()
        tally = Tally(len(left), sum(id in folder.finished for id in left))
        if tally.missing:
            todo = (
                instruction
                for instruction in read_instructions(prompts, limit, default_length)
                if instruction.id in left and instruction.id not in folder.finished
            )

            async def sample_all() -> None:
                await judging.check()
                sampling = Sampling(settings, settings.api_key(), judging, samples)
                opening = cluster.spread(sampling) if cluster else sampling
                async with opening.open(folder.store, settings.concurrency) as (calls, make):
                    await run_queue(
                        todo, folder, calls, make, tally, lambda: progress(tally),
                        settings.concurrency,
                    )  # fmt: skip

            run_async(sample_all())
            if tally.stopped and not tally.finished:
                raise InputError(f"nothing was sampled from {settings.model}: {tally.stopped}")
        folder.compact_failures()
        with Mix(output, seed=choice.seed, check=check) as mix:
            for row in rows_by_id(folder.rows):
                if str(row["id"]) in left:
                    _add_pair(mix, prompts.name, row, lengths[str(row["id"])], choice)
                    mixing("prompts")
            for id, prompt in sorted(overlaps.items()):
                mix.mixed.read[prompts.name] += 1
                mix.mixed.overlaps[prompt] += 1
                mix.reject("benchmark", detail=prompt, source=prompts.name, id=id)
            mixed = mix.write(general, _general_columns, mixing)
        write_card(mixed, "dpo", {**common, **asdict(choice)}, {})
    return Dpo(tally, mixed, path)


@dataclass(frozen=True, repr=False)  # a repr would show the keys
class Sampling:
    """All that sampling and judging take along to a worker."""

    settings: Settings
    key: str
    judge: Judge
    samples: int

    @asynccontextmanager
    async def open(
        self, store: Store, concurrency: int, _note: Note = no_note
    ) -> AsyncIterator[tuple[Calls, Make[Sampled]]]:
        """The writer's chat, and the function that samples and judges."""
        settings, judging = self.settings, self.judge.with_store(store)
        spent = Usage()
        async with settings.chat(store, self.key) as chat, judging.asking(spent) as judge_one:
            asking = Asking(
                chat,
                settings.model,
                concurrency=concurrency,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
            )
            # of the judge's calls in flight, the share that this is of the writer's
            share = judging.settings.concurrency * concurrency // settings.concurrency
            sampler = Sampler(
                asking,
                judge_one,
                samples=self.samples,
                judge_concurrency=max(1, share),
                judging=spent,
            )
            yield chat, sampler.sample


def _checked(
    prompts: Path, limit: int | None, default_length: int | None, check: bool
) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """id -> hash of every prompt, its required length, the benchmark's prompt that it holds.

    Raises InputError where a prompt names no length, since S_l is half of the score.
    """
    wanted = check_instructions(prompts, limit)
    index = PromptIndex(benchmark_prompts()) if check else None
    lengths: dict[str, int] = {}
    overlaps: dict[str, str] = {}
    without: list[str] = []
    for instruction in read_instructions(prompts, limit, default_length):
        if index and (found := index.find(instruction.instruction, None)):
            overlaps[instruction.id] = found.prompt_id
        elif instruction.required:
            lengths[instruction.id] = instruction.required
        else:
            without.append(instruction.id)
    if without:
        raise InputError(
            f"{prompts}: {len(without)} of {len(wanted)} prompts name no length, such as "
            f"{without[0]!r}, so their answers have no S_l: give their rows a `length` in words, "
            "or all of them one with --length"
        )
    return wanted, lengths, overlaps


def _in_common(settings: Settings, judge: Judge, samples: int) -> dict[str, object]:
    """What all rows of a folder share; another judge, say, needs another file."""
    return {
        "model": settings.model,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "samples": samples,
        "judge": judge.settings.model,
        "judge_repeats": judge.settings.repeats,
        "judge_prompt_sha256": judge.prompt.sha256,
    }


def _add_pair(mix: Mix, source: str, row: Mapping[str, Any], required: int, choice: Choice) -> None:
    """Choose among the answers. S_l is by the length required now, which may be a new one."""
    id, asked = str(row["id"]), row["instruction"].strip()
    mix.mixed.read[source] += 1
    samples = [
        Sample(
            **{name: each[name] for name in _NAMED},
            length_score=length_score(required, each["words"]),
        )
        for each in row["samples"]
    ]
    scores = [sample.score for sample in samples]
    pair = choose(id, samples, choice)
    if isinstance(pair, Rejected):
        mix.reject(
            pair.reason, detail=pair.detail, source=source, id=id, scores=scores, instruction=asked
        )
        return
    chosen = row["samples"][samples.index(pair.chosen)]
    mix.add(
        id,
        {
            "id": id,
            "source": source,
            **_columns([{"role": "user", "content": asked}], pair.chosen.text, pair.rejected.text),
            "required": required,
            "chosen_score": pair.chosen.score,
            "rejected_score": pair.rejected.score,
            "margin": pair.margin,
            "scores": scores,
            "rejected_by": choice.rejected,
            "model": chosen["model"],
            "judge": ", ".join(chosen["judges"]),
        },
    )


def _columns(messages: list[dict[str, str]], chosen: str, rejected: str) -> dict[str, Any]:
    """The columns that every row has. Null is what nobody knows of a general row."""
    return {
        "messages": messages,
        "chosen": {"role": "assistant", "content": chosen},
        "rejected": {"role": "assistant", "content": rejected},
        "language": main_language(chosen),
        "words": count_words(chosen),
        "rejected_words": count_words(rejected),
        "required": None,
        "chosen_score": None,
        "rejected_score": None,
        "margin": None,
        "scores": None,
        "rejected_by": None,
        "model": None,
        "judge": None,
    }


def _general_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    messages, chosen, rejected = preference(row)
    return _columns(messages, chosen["content"], rejected["content"])


@dataclass
class Estimate:
    """What sampling and judging would call, roughly; no reply in vain."""

    prompts: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    judge_calls: int = 0
    judge_prompt_tokens: int = 0
    judge_completion_tokens: int = 0

    def add(self, instruction: Instruction, samples: int, judge: Judge, max_tokens: int) -> None:
        """Count one prompt."""
        asked = estimate_tokens(instruction.instruction)
        text = min(max_tokens, (instruction.required or 0) * 4 // 3)
        verdicts = samples * judge.settings.repeats
        self.prompts += 1
        self.calls += samples
        self.prompt_tokens += samples * asked
        self.completion_tokens += samples * text
        self.judge_calls += verdicts
        self.judge_prompt_tokens += verdicts * (
            estimate_tokens(judge.prompt.template) + asked + text
        )
        self.judge_completion_tokens += verdicts * _VERDICT_TOKENS


def estimate(
    prompts: Path,
    output: Path,
    settings: Settings,
    judge: JudgeSettings,
    *,
    samples: int = SAMPLES,
    limit: int | None = None,
    default_length: int | None = None,
    general: General | None = None,
    check: bool = True,
) -> Estimate:
    """What `dpo` would call; no call is made and nothing is written. Raises InputError."""
    check_files(output, [prompts], general)
    wanted, _, overlaps = _checked(prompts, limit, default_length, check)
    judging = Judge(judge, "no key is needed to count")
    common = _in_common(settings, judging, samples)
    folder = RunFolder(beside(output, ".run"), common, "samples.jsonl").look()
    folder.check_finished(wanted)
    found = Estimate()
    for instruction in read_instructions(prompts, limit, default_length):
        if instruction.id not in overlaps and instruction.id not in folder.finished:
            found.add(instruction, samples, judging, settings.max_tokens)
    return found
