"""What `dpo` would call and cost: the dry run. Makes no calls."""

from dataclasses import dataclass
from pathlib import Path

from agentwrite.batch.instructions import check_instructions
from agentwrite.batch.run_dir import RunFolder
from agentwrite.data.dpo import check_context, check_prompts, sampling_settings, shared_settings
from agentwrite.data.mix import GeneralSet, beside, check_files
from agentwrite.settings import Settings
from agentwrite.thresholds import SAMPLES, SAMPLING_MAX_TOKENS, SAMPLING_TEMPERATURE
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.state import Instruction
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings

_VERDICT_TOKENS = 300  # estimated tokens of a judge's reply


@dataclass
class DpoEstimate:
    """Estimated calls and tokens for sampling and judging, assuming that no call is retried."""

    prompts: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    judge_calls: int = 0
    judge_prompt_tokens: int = 0
    judge_completion_tokens: int = 0

    def add_steps(self, instruction: Instruction, samples: int, judge: Judge) -> None:
        """Add one prompt whose sections are sampled, assuming sections of 500 words."""
        words = instruction.required or 0
        steps = max(1, round(words / 500))
        section = min(words, 500) * 4 // 3
        # a prompt holds the instruction, the plan, and half of the text on average
        prompt = estimate_tokens(instruction.instruction) + 300 + 50 * steps + words * 2 // 3
        calls, verdicts = samples * steps, samples * steps * judge.settings.repeats
        self.prompts += 1
        self.calls += 1 + calls
        self.prompt_tokens += 300 + calls * prompt
        self.completion_tokens += 50 * steps + calls * section
        self.judge_calls += verdicts
        judged = estimate_tokens(judge.prompt.template) + prompt + section
        self.judge_prompt_tokens += verdicts * judged
        self.judge_completion_tokens += verdicts * _VERDICT_TOKENS

    def add(self, instruction: Instruction, samples: int, judge: Judge, max_tokens: int) -> None:
        """Add one prompt."""
        asked = estimate_tokens(instruction.instruction)
        answer = min(max_tokens, (instruction.required or 0) * 4 // 3)
        verdicts = samples * judge.settings.repeats
        judged = estimate_tokens(judge.prompt.template) + asked + answer
        self.prompts += 1
        self.calls += samples
        self.prompt_tokens += samples * asked
        self.completion_tokens += samples * answer
        self.judge_calls += verdicts
        self.judge_prompt_tokens += verdicts * judged
        self.judge_completion_tokens += verdicts * _VERDICT_TOKENS


def estimate(
    prompts: str | Path,
    output: str | Path,
    settings: Settings,
    judge: JudgeSettings,
    *,
    samples: int = SAMPLES,
    temperature: float = SAMPLING_TEMPERATURE,
    max_tokens: int = SAMPLING_MAX_TOKENS,
    general: GeneralSet | None = None,
    check_benchmarks: bool = True,
    limit: int | None = None,
    default_length: int | None = None,
    steps: bool = False,
) -> DpoEstimate:
    """Estimate the calls of `dpo`. Makes no calls and writes no files. Raises InputError."""
    prompts, output = Path(prompts), Path(output)
    settings = sampling_settings(settings, temperature, max_tokens, steps=steps)
    check_files(output, [prompts], general)
    file = check_instructions(prompts, limit, default_length)
    lengths, overlaps = check_prompts(file, check_benchmarks)
    judging = Judge(judge, "no key is needed to count")
    check_context(file, lengths, settings, judging, steps=steps)
    shared = shared_settings(settings, judging, samples, steps=steps)
    folder = RunFolder(beside(output, ".run"), shared, "samples.jsonl").look()
    folder.check_finished(file.hashes)
    total = DpoEstimate()
    for instruction in file:
        if instruction.id not in overlaps and instruction.id not in folder.finished:
            if steps:
                total.add_steps(instruction, samples, judging)
            else:
                total.add(instruction, samples, judging, settings.max_tokens)
    return total
