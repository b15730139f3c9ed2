"""`longwriter compare`: two runs over the same prompts."""

import json
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longwriter_core.errors import InputError
from longwriter_eval.cli import judge_options

if TYPE_CHECKING:
    from longwriter_eval.pairwise.comparison import Comparison
    from longwriter_eval.pairwise.preference import Preference, PreferenceSummary

SAME = "same"  # names the judge of the runs


def command(
    ctx: typer.Context,
    a: Annotated[Path, typer.Argument(metavar="A", help="a run")],
    b: Annotated[Path, typer.Argument(metavar="B", help="another run")],
    anyway: Annotated[
        bool, typer.Option("--anyway", help="compare even if data, task or judge differ")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    bridge: Annotated[
        Path | None,
        typer.Option(
            "--bridge",
            metavar="FILE",
            help="link between the judges of A and B (longwriter calibrate --output FILE): shows "
            "one run's S_q on the scale of the other's judge, marked ≈",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="PROFILE",
            help="ask this judge (or that of --judge-model) which response is better, for every "
            f"prompt and in both orders; {SAME}: the judge of the runs",
        ),
    ] = None,
    people: Annotated[
        list[Path] | None,
        typer.Option(
            "--people",
            metavar="FILE",
            help="report people's choices too (longwriter annotate); can be repeated",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="also write the comparison as a page, with both runs' responses side by side",
        ),
    ] = None,
    judge_model: judge_options.Model = None,
    judge_base_url: judge_options.BaseUrl = None,
    judge_concurrency: judge_options.Concurrency = None,
    judge_temperature: judge_options.Temperature = None,
    judge_max_tokens: judge_options.MaxTokens = None,
    judge_extra: judge_options.Extra = None,
    max_cost: judge_options.MaxCost = None,
    batch: judge_options.Batch = False,
) -> int:
    """Compare two runs over the same prompts.

    Prints the mean differences (B - A) with 95% intervals, and the p-values of paired permutation
    tests, corrected for multiple comparisons. A run is lm_eval's --output_path or one results file.
    """
    from dataclasses import asdict

    from longwriter_eval.bridge import Bridge
    from longwriter_eval.pairwise.comparison import compare
    from longwriter_eval.pairwise.pair_judge import prefer
    from longwriter_eval.pairwise.preference import PreferenceSummary
    from longwriter_eval.people.agreement import read_people, summarize_people
    from longwriter_eval.runs import load_run

    overrides = judge_options.overrides(
        profile=None if judge == SAME else judge,
        model=judge_model,
        base_url=judge_base_url,
        concurrency=judge_concurrency,
        temperature=judge_temperature,
        max_tokens=judge_max_tokens,
        extra=judge_extra,
        max_cost=max_cost,
        batch=batch,
    )
    if output and (output.is_dir() or output.suffix.lower() not in (".html", ".htm")):
        raise InputError(f"--output {output} must name an .html file")
    is_judged = bool(judge or judge_model)
    if overrides and not is_judged:
        raise InputError(f"{', '.join(overrides)}: only with --judge or --judge-model")
    comparison = compare(
        load_run(a), load_run(b), anyway=anyway, bridge=Bridge.load(bridge) if bridge else None
    )
    chosen = read_people(people) if people else None  # before a judge is paid
    preferences = prefer(comparison, overrides) if is_judged else None
    summary = PreferenceSummary.of(preferences) if preferences is not None else None
    by_people = chosen and summarize_people(comparison, chosen, preferences)
    sentences = _preferred(summary, len(comparison.pairs)) if summary else []
    if by_people:
        sentences += ["", *by_people.lines()]
    if as_json:
        report = _as_json(comparison, preferences, summary)
        if by_people:
            report["people"] = asdict(by_people)
        print(json.dumps(_without_nan(report), indent=2, allow_nan=False))
    else:
        print("\n".join([*_table(comparison), *sentences]))
    if output:
        _write_page(comparison, sentences, output)
    return _report_missing((a, b), comparison, summary, ctx.obj)


def _write_page(comparison: "Comparison", sentences: list[str], output: Path) -> None:
    from longwriter_eval.report import write_report

    write_report([comparison.a, comparison.b], output, sentences=list(filter(None, sentences)))
    print(f"wrote {output}: one page, open it in any browser", file=sys.stderr)


def _table(comparison: "Comparison") -> list[str]:
    from longwriter_eval.bridge import MARK
    from longwriter_eval.pairwise.comparison import in_words

    lines = [f"A  {_name(comparison.a)}", f"B  {_name(comparison.b)}"]
    lines += [f"Compared anyway: {reason}" for reason in comparison.differs]
    lines += [f"Note: {note}" for note in comparison.notes]
    if comparison.only_a or comparison.only_b:
        lines.append(
            f"Left out: {comparison.only_a} prompts that only A has, {comparison.only_b} that "
            "only B has"
        )
    head = f"  {'':<26}{'A':>9}{'B':>9}{'B - A':>10}  {'95% interval':<22}{'p':>7}{'corrected':>11}"
    place = None
    for row in comparison.differences:
        if place != (place := (row.benchmark, row.bucket)):
            where = "all prompts" if row.bucket == "all" else row.bucket
            lines += ["", f"{row.benchmark}, {where} ({row.prompts})"]
            lines += [head] if row.bucket == "all" else []
        pairs = f"   {row.pairs} pairs" if row.pairs < row.prompts else ""
        if math.isnan(row.p):
            lines.append(f"  {row.metric:<26}{'too few have a verdict':>28}{pairs}")
            continue
        digits = 0 if row.metric == "output_words" else 2
        estimate = row.difference
        interval = f"[{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"
        lines.append(
            f"  {row.metric:<26}{row.a:>9.{digits}f}{row.b:>9.{digits}f}"
            f"{estimate.mean:>+10.{digits}f}  {'' if math.isnan(estimate.low) else interval:<22}"
            f"{row.p:>7.4f}{row.p_corrected:>11.4f}"
            f"{f'  {row.winner} higher' if row.winner else ''}{pairs}"
        )
    if comparison.bridged:
        lines += ["", "S_q by different judges: not compared. Converted by the link, not judged:"]
    for score in comparison.bridged:
        limits = f"[{score.bridged.low:.1f}, {score.bridged.high:.1f}]"
        lines.append(
            f"  {score.benchmark}: {score.run} has {score.score:.1f} by {score.judge}, which is "
            f"{MARK} {score.bridged.mean:.1f} {limits} on the scale of {score.other_judge}; "
            f"{'B' if score.run == 'A' else 'A'} has {score.other_score:.1f} by "
            f"{score.other_judge}"
        )
    return [*lines, "", *in_words(comparison)]


def _preferred(summary: "PreferenceSummary", prompts: int) -> list[str]:
    known = summary.a + summary.b + summary.ties
    of = "" if known == prompts else f" over {known} of {prompts} prompts"
    lines = ["", f"Preference{of}: A {summary.a}, B {summary.b}, ties {summary.ties}."]
    if summary.win_rate.n:
        lines[-1] += (
            f" B wins {summary.win_rate.as_percent()} of the prompts that are no tie "
            f"(p = {summary.p:.4f})."
        )
    if summary.order_changes.n:
        lines.append(
            "Position: the order changes the answer in "
            f"{summary.order_changes.as_percent()} of the prompts"
        )
        if summary.first_wins.n:
            lines[-1] += (
                f"; the text shown first wins {summary.first_wins.as_percent()} of the choices"
            )
        lines[-1] += "."
    if summary.favours:
        lines.append(
            f"The judge favours the text shown {summary.favours}. As both orders are asked, this "
            "makes ties, and favours neither run."
        )
    return lines


def _report_missing(
    paths: tuple[Path, Path],
    comparison: "Comparison",
    summary: "PreferenceSummary | None",
    resume_line: str,
) -> int:
    """Print the missing verdicts and the command that retries them; returns the exit code."""
    code = 0
    for path, missing in zip(paths, comparison.unjudged, strict=True):
        if missing:
            code = 1
            print(
                f"{missing} of {len(comparison.pairs)} prompts have no verdict in {path}; to "
                f"retry: {shlex.join(['longwriter', 'score', str(path)])}",
                file=sys.stderr,
            )
    if summary and summary.missing:
        code = 1
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(summary.missing.items()))
        print(
            f"{sum(summary.missing.values())} choices are missing ({reasons}); to retry: "
            f"{resume_line}",
            file=sys.stderr,
        )
    return code


def _name(run: Any) -> str:
    """Model and file."""
    config = run.results.get("config") or {}
    name = str(run.results.get("model_name") or config.get("model") or "?")
    return f"{''.join(filter(str.isprintable, name))}  ({run.path})"


def _as_json(
    comparison: "Comparison",
    preferences: "list[Preference] | None",
    summary: "PreferenceSummary | None",
) -> Any:
    from dataclasses import asdict

    from longwriter_eval.pairwise.comparison import in_words

    report = {
        "a": {"name": _name(comparison.a), "only": comparison.only_a},
        "b": {"name": _name(comparison.b), "only": comparison.only_b},
        "pairs": len(comparison.pairs),
        "differs": comparison.differs,
        "notes": comparison.notes,
        "in_words": in_words(comparison),
        "correction": "Holm within families, in order of importance",
        "bridged": [asdict(score) for score in comparison.bridged],
        "differences": [
            {**asdict(difference), "winner": difference.winner}
            for difference in comparison.differences
        ],
    }
    if summary:
        report["preference"] = {**asdict(summary), "favours": summary.favours}
        report["preferences"] = [preference.as_json() for preference in preferences or ()]
    return report


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
