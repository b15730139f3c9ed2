"""Build DPO rows from a model's own answers: sample several per prompt, judge them, pick pairs.

    from agentwrite import Settings, dpo

    summary = dpo("prompts.jsonl", "dpo.jsonl", Settings.resolve(model="my-model"))
    print(summary.pairs)

A row is {"messages": [user], "chosen": assistant, "rejected": assistant, id, source, language,
words, rejected_words, required, chosen_score, rejected_score, margin, scores, rejected_by, model,
judge}, which axolotl's chat_template.default strategy reads directly.

Answers and verdicts are kept in a run folder next to the file. Picking pairs again with another
margin or general set therefore makes no calls.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agentwrite.batch.instructions import InstructionFile, check_instructions
from agentwrite.batch.queue import Handler, OnSection, Pool, RunProgress, run_queue
from agentwrite.batch.ray import Cluster
from agentwrite.batch.run_dir import RunFolder, rows_by_id
from agentwrite.data.card import write_card
from agentwrite.data.mix import (
    GeneralSet,
    MixSummary,
    RowProgress,
    beside,
    check_files,
    no_row_progress,
    open_dataset,
)
from agentwrite.data.pair_rows import add_pair, add_step_pairs, pair_columns
from agentwrite.data.pairs import AnswerSampler, JudgedAnswers
from agentwrite.data.steps import StepSampler
from agentwrite.model import ChatModel
from agentwrite.settings import Settings
from agentwrite.thresholds import SAMPLES, SAMPLING_MAX_TOKENS, SAMPLING_TEMPERATURE, PairOptions
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction
from longwriter_core.conversation import preference
from longwriter_core.errors import InputError
from longwriter_core.llm import Budget, Store, Usage, run_async
from longwriter_core.overlap import PromptIndex, benchmark_prompts
from longwriter_core.text.length import count_words
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE, JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item

_TOKENS_PER_WORD = 4 / 3
_PAPERS_REQUEST = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS}
_BATCH_PROMPTS = 2_000  # prompts whose answers wait in memory for a batch of verdicts


@dataclass
class SamplingProgress(RunProgress[JudgedAnswers]):
    """Counts of a run so far. Answers and words are those of the finished prompts.

    `usage` counts the writer's calls and `judging` the judge's. The judge's calls for a failed
    prompt are added with the next finished prompt.
    """

    answers: int = 0
    words: int = 0
    judging: Usage = field(default_factory=Usage)
    state: str = ""  # of the batches that the judge is asked in

    def add(self, made: JudgedAnswers) -> None:
        """Add a finished prompt."""
        super().add(made)
        self.answers += len(made.answers)
        self.words += sum(count_words(answer.value) for answer in made.answers)
        self.judging.merge(made.judging)


@dataclass(frozen=True)
class DpoSummary:
    """The result of `dpo`. `folder` is the run folder with the answers and verdicts."""

    sampling: SamplingProgress
    mix: MixSummary
    folder: Path

    @property
    def pairs(self) -> int:
        """Pairs in the file, excluding those of the general set."""
        return self.mix.long_rows


def dpo(
    prompts: str | Path,
    output: str | Path,
    settings: Settings,
    judge: JudgeSettings | None = None,
    *,
    samples: int = SAMPLES,
    temperature: float = SAMPLING_TEMPERATURE,
    max_tokens: int = SAMPLING_MAX_TOKENS,
    pairs: PairOptions | None = None,
    general: GeneralSet | None = None,
    check_benchmarks: bool = True,
    limit: int | None = None,
    default_length: int | None = None,
    steps: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[SamplingProgress], None] = lambda _progress: None,
    row_progress: RowProgress = no_row_progress,
) -> DpoSummary:
    """Sample and judge the missing answers, then write pairs from all answers to `output`.

    prompts           a file in the format of `run`; every prompt needs a length
    output            a JSONL file; the run folder, the rejected prompts, the dataset card and the
                      histogram are written next to it
    settings          settings of the model that answers
    judge             settings of the judge; read from the environment by default
    samples           answers per prompt
    temperature       sampling temperature of the answers; replaces the one in `settings`
    max_tokens        maximum tokens of an answer; replaces the one in `settings`
    pairs             options for picking a pair
    general           a general preference set to mix in
    check_benchmarks  leave out prompts that contain a benchmark's prompt
    limit             read only this many prompts from the start of the file
    default_length    required words of prompts that name no length
    steps             sample each section of a planned text instead of whole answers
    cluster           a Ray cluster to spread the calls over
    progress          called after every prompt
    row_progress      called for every row read after sampling

    A prompt with an unjudged answer is left out of the file, and the next run retries it. Raises
    InputError if the input, a folder, the cluster or an endpoint cannot be used.
    """
    prompts, output, pairs = Path(prompts), Path(output), pairs or PairOptions()
    settings = sampling_settings(settings, temperature, max_tokens, steps=steps)
    check_files(output, [prompts], general)
    file = check_instructions(prompts, limit, default_length)
    wanted = file.hashes
    lengths, overlaps = check_prompts(file, check_benchmarks)
    path = beside(output, ".run")
    judge = judge or JudgeSettings.resolve({}, os.environ)
    if judge.batch and cluster:
        raise InputError("a Ray cluster judges directly: leave out --batch or --engine ray")
    if steps and cluster:
        raise InputError("--steps needs --engine local")
    if settings.max_cost and cluster:
        raise InputError("--max-cost needs --engine local: workers do not share a budget")
    budget = Budget(settings.max_cost) if settings.max_cost else None
    if budget and judge.max_cost is None and not judge.prices():
        raise InputError(
            f"--max-cost needs the price of the judge {judge.model}: name it in LONGWRITER_PRICES"
        )
    judging = Judge(
        judge, api_key(judge, os.environ), Store(path / "calls"),
        budget=budget if judge.max_cost is None else None,
    )  # fmt: skip
    check_context(file, lengths, settings, judging, steps=steps)
    shared = shared_settings(settings, judging, samples, steps=steps)
    with RunFolder(path, shared, "samples.jsonl") as folder:
        folder.check_finished(wanted)
        left = wanted.keys() - overlaps.keys()
        sampling = SamplingProgress(len(left), sum(id in folder.finished for id in left))
        if sampling.missing:
            todo = (
                instruction
                for instruction in file
                if instruction.id in left and instruction.id not in folder.finished
            )

            def show(state: str) -> None:
                sampling.state = state
                progress(sampling)

            async def sample_all() -> None:
                await judging.check()
                work = Sampling(settings, settings.api_key(), judging, samples, show, steps, budget)
                workload = cluster.spread(work) if cluster else work
                async with workload.open(folder.store, settings.concurrency) as (pool, sample):
                    await run_queue(
                        todo, folder, pool, sample, sampling, lambda: progress(sampling),
                        _BATCH_PROMPTS if judge.batch else settings.concurrency,
                    )  # fmt: skip

            run_async(sample_all())
            if sampling.stopped and not sampling.finished:
                raise InputError(f"no answers from {settings.model}: {sampling.stopped}")
        folder.compact_failures()
        with open_dataset(output, seed=pairs.seed, check_benchmarks=check_benchmarks) as writer:
            for row in rows_by_id(folder.rows):
                if str(row["id"]) in left:
                    required = lengths[str(row["id"])]
                    add = add_step_pairs if steps else add_pair
                    add(writer, prompts.name, row, required, pairs)
                    row_progress("prompts")
            for id, prompt in sorted(overlaps.items()):
                writer.summary.overlaps[prompt] += 1
                writer.reject("benchmark", prompt, prompts.name, id=id)
            no_step = dict.fromkeys(("step", "prefix_characters")) if steps else {}
            mix = writer.write(
                general, lambda row: pair_columns(*preference(row)) | no_step, row_progress
            )
        write_card(mix, "dpo", {**shared, **asdict(pairs)}, {})
    return DpoSummary(sampling, mix, path)


@dataclass(frozen=True, repr=False)  # a repr would show the keys
class Sampling:
    """The workload of `dpo`: sample and judge the answers to a prompt."""

    settings: Settings
    key: str
    judge: Judge
    samples: int
    show: Callable[[str], None] | None = None  # gets the state of the judge's batches
    steps: bool = False
    budget: Budget | None = None  # that the judge shares

    @asynccontextmanager
    async def open(
        self, store: Store, concurrency: int
    ) -> AsyncIterator[tuple[Pool, Handler[JudgedAnswers]]]:
        """Open the writer's chat pool; yields it and the function that samples and judges."""
        settings, judge = self.settings, self.judge.with_store(store)
        usage = Usage()
        async with (
            settings.chat(store, self.key, self.budget) as chat,
            # a batch of verdicts waits until the answers that are being written are there, too
            judge.asking(usage, self.show, lambda: chat.is_busy) as judge_one,
        ):
            model = ChatModel(
                chat,
                settings.model,
                concurrency=concurrency,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                extra=settings.extra,
            )
            # a worker gets the same share of the judge's calls as of the writer's
            share = judge.concurrency * concurrency // settings.concurrency
            sampler = AnswerSampler(
                model,
                judge_one,
                samples=self.samples,
                judge_concurrency=max(1, share),
                judging=usage,
            )

            prompts = Prompts.load(settings.prompts)
            by_step = StepSampler(model, sampler, prompts) if self.steps else None

            async def sample(
                instruction: Instruction, number: int, _on_section: OnSection
            ) -> JudgedAnswers:
                return await (by_step or sampler).sample(instruction, number)

            yield chat, sample


def check_prompts(
    prompts: InstructionFile, check_benchmarks: bool
) -> tuple[dict[str, int], dict[str, str]]:
    """Map prompt ids to required lengths, and to the benchmark prompts they contain.

    Raises InputError if a prompt has no length, because S_l is half of the score.
    """
    index = PromptIndex(benchmark_prompts()) if check_benchmarks else None
    lengths: dict[str, int] = {}
    overlaps: dict[str, str] = {}
    without_length: list[str] = []
    for instruction in prompts:
        if index and (overlap := index.find(instruction.instruction, None)):
            overlaps[instruction.id] = overlap.prompt_id
        elif instruction.required:
            lengths[instruction.id] = instruction.required
        else:
            without_length.append(instruction.id)
    if without_length:
        raise InputError(
            f"{prompts.path}: {len(without_length)} of {len(prompts.hashes)} prompts name no "
            f"length, such as {without_length[0]!r}, so their answers have no S_l: give their rows "
            "a `length` in words, or set one for all with --length"
        )
    return lengths, overlaps


def check_context(
    prompts: InstructionFile,
    lengths: Mapping[str, int],
    settings: Settings,
    judge: Judge,
    *,
    steps: bool,
) -> None:
    """Raise InputError if a prompt, or an answer of its length, does not fit in a known context.

    A prompt for a section holds the text before it. The judge sees the same prompt and the answer.
    """
    items: list[tuple[int, str, int]] = []  # tokens of the answer, id, tokens of the prompt
    for instruction in prompts:
        if not (words := lengths.get(instruction.id)):
            continue
        prompt = estimate_tokens(instruction.instruction)
        answer = min(round(words * _TOKENS_PER_WORD), settings.max_tokens)
        what = f"{prompts.path}: the prompt {instruction.id!r}"
        if steps:
            prompt += round(words * _TOKENS_PER_WORD)
            what += ", with the text before its last section,"
        settings.check_context(prompt, what)
        items.append((answer, instruction.id, prompt))
    if items:
        answer, id, prompt = max(items)
        judge.check_context([Item(id, "x" * 4 * prompt, "x" * 4 * answer)])


def sampling_settings(
    settings: Settings, temperature: float, max_tokens: int, *, steps: bool
) -> Settings:
    """The settings with the sampling's own; a section needs no more tokens than when writing."""
    limit = min(max_tokens, settings.max_tokens) if steps else max_tokens
    return settings.model_copy(update={"temperature": temperature, "max_tokens": limit})


def shared_settings(
    settings: Settings, judge: Judge, samples: int, *, steps: bool
) -> dict[str, object]:
    """Return the settings that all rows of a run folder share; other settings need another file."""
    protocol = judge.settings.protocol
    return {
        "model": settings.model,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "samples": samples,
        "judge": judge.settings.model,
        "judge_repeats": judge.settings.repeats,
        "judge_prompt_sha256": judge.prompt.sha256,
        # folders of earlier releases, which had no profiles, do not name the paper's request
        **({} if protocol == _PAPERS_REQUEST else {"judge_request": protocol}),
        **({"extra": settings.extra} if settings.extra else {}),
        **({"steps": Prompts.load(settings.prompts).sha256} if steps else {}),
    }
