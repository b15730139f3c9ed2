"""`longwriter verify`: a submission recomputed from its own evidence."""

import argparse
import json
import secrets
import sys
from pathlib import Path
from typing import Any

from longwriter_eval.cli.judge_options import add_judge_options, judge_overrides

_SHOWN = 20  # problems; --json has all


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "verify",
        help="recompute a submission from its responses and verdicts",
        description="Recompute every count, hash, verdict and score of a submission, and name "
        "each difference. Exit code 0: all is as claimed; 1: it is not; 2: not a submission.",
    )
    command.add_argument("submission", metavar="ZIP", type=Path, help="from `longwriter submit`")
    command.add_argument("--json", action="store_true", help="print all that was found, as JSON")
    command.add_argument(
        "--rejudge",
        metavar="N",
        type=int,
        help="ask the judge again about N random responses, and test the claimed scores against it",
    )
    command.add_argument("--seed", type=int, help="draws the same N again; default: a new one")
    add_judge_options(command, ("base_url", "concurrency"))
    command.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from longwriter_core.errors import InputError

    try:
        return _verify_readable(options)
    except InputError as error:
        if options.json:
            print(json.dumps({"status": "refused", "reason": str(error)}, indent=2))
        raise


def _verify_readable(options: argparse.Namespace) -> int:
    from longwriter_eval.submission.archive import read
    from longwriter_eval.submission.claims import table_claims
    from longwriter_eval.submission.verification import verify

    verification = verify(read(options.submission))
    problems = verification.problems
    report: dict[str, Any] = {
        "status": "differs" if problems else "verified",
        "sha256": verification.submission.sha256,
        "model": verification.submission.manifest["model"]["id"],
        "judge": verification.submission.manifest["judge"],
        "violations": list(verification.violations),
        "differences": [vars(difference) for difference in verification.differences],
        "scores": table_claims(verification.rows),
    }
    if not options.json:
        _show(options.submission, report, problems)
    code = 1 if problems else 0
    if options.rejudge is not None and not problems:
        code, report["rejudged"] = _rejudge(options, verification)
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    return code


def _show(path: Path, report: dict[str, Any], problems: list[str]) -> None:
    if problems:
        print(f"{path}: NOT verified, {len(problems)} problems:")
        for problem in problems[:_SHOWN]:
            print(f"  {problem}")
        if len(problems) > _SHOWN:
            print(f"  … and {len(problems) - _SHOWN} more: --json lists all")
        return
    judge, everything = report["judge"], report["scores"][0]
    print(f"{path}: verified, SHA-256 {report['sha256']}")
    print(f"model  {report['model']['value']} (by the {report['model']['source']})")
    print(f"judge  {judge['returned']}, prompt {judge['prompt']} {judge['prompt_sha256'][:12]}")
    for metric, name in (("overall_score", "S̄"), ("length_score", "S_l"), ("quality_score", "S_q")):
        value = everything["metrics"][metric]
        print(f"{name:<6} {value['mean']:.1f} [{value['low']:.1f}, {value['high']:.1f}]")
    print(
        "every score follows from the responses and verdicts in the file; whether the judge said "
        "so, --rejudge tests"
    )


def _rejudge(options: argparse.Namespace, verification: Any) -> tuple[int, dict[str, Any]]:
    from longwriter_eval.stats.thresholds import REJUDGE_ALPHA
    from longwriter_eval.submission.rejudging import rejudge

    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    again = options.again if options.seed is not None else f"{options.again} --seed {seed}"
    print(f"drawing {options.rejudge} responses by seed {seed}; to go on: {again}", file=sys.stderr)
    found = rejudge(verification, options.rejudge, seed, judge_overrides(options))
    mean = found.difference
    if not options.json:
        print(
            f"judged again: {found.pairs} responses; claimed S_q less the new: {mean.mean:+.1f} "
            f"[{mean.low:+.1f}, {mean.high:+.1f}], p = {found.p_value:.3g}: "
            + (
                "consistent"
                if found.is_consistent
                else f"NOT consistent at the {REJUDGE_ALPHA:.0%} level"
                if not found.other_judges
                else f"another judge answered ({', '.join(found.other_judges)})"
            )
        )
    if found.missing:
        print(
            f"{found.missing.total()} of {options.rejudge} have no new verdict; to ask again: "
            f"{again}",
            file=sys.stderr,
        )
    report = {
        "seed": seed,
        "pairs": found.pairs,
        "difference": vars(mean),
        "p_value": found.p_value,
        "level": REJUDGE_ALPHA,
        "consistent": found.is_consistent,
        "missing": dict(found.missing),
        "other_judges": dict(found.other_judges),
    }
    return (0 if found.is_consistent and not found.missing else 1), report
