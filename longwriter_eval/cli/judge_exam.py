"""`longwriter judge-exam`: how well a judge tells good texts from damaged ones."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from longwriter_eval.cli import judge_options

if TYPE_CHECKING:
    from longwriter_eval.judge.judge import Judge
    from longwriter_eval.judge.verdict import Judgement
    from longwriter_eval.judge_exam import ExamResult
    from longwriter_eval.stats.inference import Interval


def command(
    ctx: typer.Context,
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROFILE]",
            help="judge to examine; `longwriter judges` lists the profiles "
            "[default: that of the environment, or --judge-model]",
        ),
    ] = None,
    judge_model: judge_options.Model = None,
    judge_base_url: judge_options.BaseUrl = None,
    judge_temperature: judge_options.Temperature = None,
    judge_max_tokens: judge_options.MaxTokens = None,
    judge_extra: judge_options.Extra = None,
    judge_prompt: judge_options.Prompt = None,
    judge_repeats: judge_options.Repeats = "2",
    judge_concurrency: judge_options.Concurrency = None,
    max_cost: judge_options.MaxCost = None,
    language: Annotated[
        Literal["en", "zh"] | None,
        typer.Option(help="use the texts in one language only [default: both]"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also write the figures as JSON")
    ] = None,
) -> int:
    """Examine a judge: does it score good texts above the same texts with known damage?

    The judge reads 12 texts, 6 English and 6 Chinese, undamaged and with 7 kinds of damage in 3
    severities. Verdicts are stored like all others, so a rerun pays only for what is missing.
    """
    import os

    from longwriter_core.errors import InputError
    from longwriter_core.llm import run_async
    from longwriter_eval.judge.judge import Judge, judge_with_progress
    from longwriter_eval.judge.settings import JudgeSettings, api_key
    from longwriter_eval.judge_exam import exam_items, grade

    if output and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise InputError(f"--output {output} must name a file in an existing folder")
    settings = JudgeSettings.resolve(
        judge_options.overrides(
            profile=profile,
            model=judge_model,
            base_url=judge_base_url,
            temperature=judge_temperature,
            max_tokens=judge_max_tokens,
            extra=judge_extra,
            prompt=judge_prompt,
            repeats=judge_repeats,
            concurrency=judge_concurrency,
            max_cost=max_cost,
        ),
        os.environ,
    )
    settings.check_usable()
    judge = Judge(settings, api_key(settings, os.environ))
    items = exam_items(language)
    asked = [item.item() for item in items]
    unjudged = [item for item in asked if not judge.has_verdicts(item)]
    judge.check_context(unjudged)
    if unjudged:
        run_async(judge.check())
    judgements = judge_with_progress(judge, asked)
    result = grade(items, judgements)
    spent = _spent(judge, judgements)
    print(*_lines(judge, result, spent), sep="\n")
    if output:
        _write(output, judge, result, spent)
        print(f"wrote {output}")
    verdicts = [verdict for judgement in judgements.values() for verdict in judgement.verdicts]
    missing = [str(verdict.reason) for verdict in verdicts if not verdict.scores]
    if missing:
        reasons = ", ".join(f"{reason} {missing.count(reason)}" for reason in sorted(set(missing)))
        print(
            f"{len(missing)} of {len(verdicts)} verdicts are missing ({reasons}); to retry: "
            f"{ctx.obj}",
            file=sys.stderr,
        )
        return 1
    return 0


def _spent(judge: "Judge", judgements: Mapping[str, "Judgement"]) -> dict[str, Any]:
    """Tokens and USD of the verdicts, including those of earlier runs; None if unknown."""
    verdicts = [verdict for judgement in judgements.values() for verdict in judgement.verdicts]
    prompt = sum(verdict.prompt_tokens or 0 for verdict in verdicts)
    completion = sum(verdict.completion_tokens or 0 for verdict in verdicts)
    cached = sum(verdict.cached_tokens or 0 for verdict in verdicts)
    prices = judge.settings.prices()
    return {
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "completion_tokens": completion,
        "usd": prices.cost(prompt, completion, cached) if prices else None,
    }


def _lines(judge: "Judge", result: "ExamResult", spent: Mapping[str, Any]) -> Sequence[str]:
    from longwriter_core.llm.profiles import money
    from longwriter_eval.judge_exam import SEVERITIES

    cost = money(spent["usd"]) or "unknown price"
    lines = [
        "",
        f"Exam of {judge.settings.label}: {result.judged} of {result.asked} texts judged, "
        f"{judge.settings.repeats} verdicts each, prompt {judge.settings.record()['prompt']}",
        "",
        f"  {'damage':<16}{'detected':>9}{'mild':>7}{'medium':>8}{'severe':>8}"
        f"{'AUC':>7}  {'95% interval':<16}{'monotony':>9}",
    ]
    for damage in result.damages:
        if not damage.texts:
            lines.append(f"  {damage.damage:<16}{'no text has all its verdicts':>28}")
            continue
        mild, medium, severe = (damage.detected_by_severity[n - 1] for n in SEVERITIES)
        lines.append(
            f"  {damage.damage:<16}{damage.detected:>9.0%}{mild:>7.0%}{medium:>8.0%}{severe:>8.0%}"
            f"{damage.auc.mean:>7.2f}  {_interval(damage.auc, '.2f'):<16}{damage.monotony:>9.2f}"
        )
    padding = result.padding_gain
    names = {"en": "English", "zh": "Chinese"}
    by_language = ", ".join(
        f"{names[language]} {_number(auc, '.2f')}"
        for language, auc in result.auc_by_language.items()
    )
    return [
        *lines,
        "",
        f"  Mean AUC                 {_number(result.auc, '.2f')}   "
        f"(0.5: by chance, 1: always; {by_language})",
        f"  S_q of undamaged texts   {_number(result.undamaged, '.1f')}",
        f"  Retest SD                {_number(result.retest_sd, '.1f')}   "
        "(points of S_q, of one verdict)",
        f"  Gain by padding          {_number(padding.mean, '+.1f')}   {_interval(padding, '+.1f')}"
        "  (above 0: a bias for length)",
        f"  Score against length     {_number(result.length_correlation, '+.2f')}   "
        "(rank correlation; near 1: length explains the scores)",
        f"  Cost                     {cost}   ({spent['prompt_tokens']:,} prompt and "
        f"{spent['completion_tokens']:,} completion tokens)",
        "",
    ]


def _number(value: float, form: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:{form}}"


def _interval(interval: "Interval", form: str) -> str:
    if math.isnan(interval.low):
        return ""
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def _write(path: Path, judge: "Judge", result: "ExamResult", spent: Mapping[str, Any]) -> None:
    from dataclasses import asdict

    from longwriter_core.files import write_atomically

    record = {
        "judge": judge.settings.record(),
        "judge_prompt_sha256": judge.prompt.sha256,
        "exam": asdict(result),
        "spent": spent,
    }
    text = json.dumps(_without_nan(record), indent=2, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
