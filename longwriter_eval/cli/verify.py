"""`longwriter verify`: a submission recomputed from its own evidence."""

import json
import math
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from longwriter_core.errors import InputError
from longwriter_eval.cli import judge_options

_MAX_SHOWN = 20  # problems; --json prints all


def command(
    ctx: typer.Context,
    submission: Annotated[
        Path, typer.Argument(metavar="ZIP", help="a file from `longwriter submit`")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print all findings as JSON")] = False,
    rejudge: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="let the judge judge N random responses again, and test the claimed scores "
            "against the new ones; recorded beside the file for the leaderboard. Without it, the "
            "number that is needed is printed",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="draws the same N responses again; default: random")
    ] = None,
    judge_base_url: judge_options.BaseUrl = None,
    judge_concurrency: judge_options.Concurrency = None,
) -> int:
    """Recompute a submission from its responses and verdicts.

    Recomputes every count, hash, verdict and score of a submission, and names each difference.
    Exit code 0: everything is as claimed; 1: it is not; 2: not a submission.
    """
    overrides = judge_options.overrides(base_url=judge_base_url, concurrency=judge_concurrency)
    try:
        report, verification = _verify(submission)
        if report["status"] == "verified" and report["judge"]:
            report["rejudge"] = _recommendation(verification)
        if not as_json:
            _show(submission, report, verification.problems)
        code = 0 if report["status"] == "verified" else 1
        if rejudge is not None and code == 0:
            code, report["rejudged"] = _rejudge(
                verification, rejudge, seed, overrides, ctx.obj, as_json=as_json
            )
    except InputError as error:
        if as_json:
            print(json.dumps({"status": "refused", "reason": str(error)}, indent=2))
        raise
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    return code


def _verify(path: Path) -> tuple[dict[str, Any], Any]:
    """The report that `--json` prints, and the verification."""
    from longwriter_eval.submission.verification import table_claims, verify_file

    verification = verify_file(path)
    manifest = verification.submission.manifest
    report = {
        "status": "differs" if verification.problems else "verified",
        "sha256": verification.submission.sha256,
        "example": manifest["example"],
        "model": manifest["model"]["id"],
        "judge": manifest["judge"],
        "violations": list(verification.violations),
        "differences": [vars(difference) for difference in verification.differences],
        "scores": table_claims(verification.rows),
    }
    return report, verification


def _show(path: Path, report: dict[str, Any], problems: list[str]) -> None:
    if problems:
        print(f"{path}: NOT verified, {len(problems)} problems:")
        for problem in problems[:_MAX_SHOWN]:
            print(f"  {problem}")
        if len(problems) > _MAX_SHOWN:
            print(f"  … and {len(problems) - _MAX_SHOWN} more: --json lists all")
        return
    from longwriter_eval.submission import judges

    if report["example"]:
        print("an example: its scores mean nothing, and it is never ranked")
    judge, everything = report["judge"], report["scores"][0]
    print(f"{path}: verified, SHA-256 {report['sha256']}")
    print(f"model  {report['model']['value']} (by the {report['model']['source']})")
    if judge:
        asked = " and ".join(dict.fromkeys(map(judges.endpoint, judge["judges"])))
        print(f"judge  {judges.shown(judge)}, at {asked}")
        print(f"prompt {judge['prompt']} {judge['prompt_sha256'][:12]}")
    for metric, name in (("overall_score", "S̄"), ("length_score", "S_l"), ("quality_score", "S_q")):
        if value := everything["metrics"].get(metric):
            print(f"{name:<6} {value['mean']:.1f} [{value['low']:.1f}, {value['high']:.1f}]")
    if not judge:
        print(f"longest output: {everything['metrics']['max_output_words']['mean']:,.0f} words")
        print("every score follows from the responses in the file; this benchmark has no judge")
        return
    advice = report["rejudge"]
    print(
        "every score follows from the responses and verdicts in the file; to test whether the "
        f"judge gave these verdicts: --rejudge {advice['responses']}, which finds claims "
        f"{advice['gain']:g} points too high with {advice['power']:.0%} power"
    )


def _recommendation(verification: Any) -> dict[str, Any]:
    from longwriter_eval.stats.thresholds import REJUDGE_GAIN
    from longwriter_eval.submission.rejudging import recommended

    return {"gain": REJUDGE_GAIN, **vars(recommended(verification))}


def _rejudge(
    verification: Any,
    number: int,
    seed: int | None,
    overrides: dict[str, str],
    command_line: str,
    *,
    as_json: bool,
) -> tuple[int, dict[str, Any]]:
    from longwriter_eval.stats.power import pairs_needed
    from longwriter_eval.stats.thresholds import REJUDGE_ALPHA, REJUDGE_GAIN, REJUDGE_POWER
    from longwriter_eval.submission.rejudging import rejudge

    if seed is None:
        seed = secrets.randbelow(1 << 32)
        command_line += f" --seed {seed}"
    print(
        f"drawing {number} responses with seed {seed}; to resume: {command_line}", file=sys.stderr
    )
    outcome = rejudge(verification, number, seed, overrides)
    mean = outcome.difference
    _record(verification.submission, outcome, seed)
    if not as_json:
        print(
            f"judged again: {outcome.pairs} responses; claimed S_q less the new: {mean.mean:+.1f} "
            f"[{mean.low:+.1f}, {mean.high:+.1f}], p = {outcome.p_value:.3g}: "
            + (
                "consistent"
                if outcome.is_consistent
                else f"NOT consistent at the {REJUDGE_ALPHA:.0%} level"
                if not outcome.other_judges
                else f"another judge answered ({', '.join(outcome.other_judges)})"
            )
        )
    if outcome.power < REJUDGE_POWER:
        more = pairs_needed(REJUDGE_GAIN, outcome.sd, REJUDGE_ALPHA, REJUDGE_POWER)
        print(
            f"{outcome.pairs} responses find claims {REJUDGE_GAIN:g} points too high with "
            f"{outcome.power:.0%} power, {more} with {REJUDGE_POWER:.0%}",
            file=sys.stderr,
        )
    if outcome.missing:
        print(
            f"{outcome.missing.total()} of {number} have no new verdict; to retry: {command_line}",
            file=sys.stderr,
        )
    report = {
        "seed": seed,
        "pairs": outcome.pairs,
        "difference": vars(mean),
        "p_value": outcome.p_value,
        "level": REJUDGE_ALPHA,
        "sd": outcome.sd,
        "power": outcome.power,
        "consistent": outcome.is_consistent,
        "missing": dict(outcome.missing),
        "other_judges": dict(outcome.other_judges),
    }
    return (0 if outcome.is_consistent and not outcome.missing else 1), report


def _record(submission: Any, outcome: Any, seed: int) -> None:
    """Write the outcome beside the submission, where the leaderboard finds it."""
    from datetime import UTC, datetime

    from longwriter_eval.submission import judges, rejudged

    found = rejudged.Outcome(
        date=datetime.now(UTC).date(),
        judge=judges.shown(submission.manifest["judge"]),
        endpoints=list(outcome.endpoints),
        seed=seed,
        pairs=outcome.pairs,
        difference=outcome.difference.mean,
        low=_known(outcome.difference.low),
        high=_known(outcome.difference.high),
        p_value=outcome.p_value,
        consistent=outcome.is_consistent,
    )
    try:
        path = rejudged.add(submission.path, submission.sha256, found)
    except OSError as error:
        print(f"the outcome is not recorded: {error}", file=sys.stderr)
        return
    print(f"recorded in {path}, which the leaderboard shows", file=sys.stderr)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
