"""`longwriter calibrate`: the bridge between the scales of two judges."""

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from longwriter_eval.bridge import JudgeIdentity
    from longwriter_eval.calibration import JudgedByBoth, Link
    from longwriter_eval.judge.verdict import Judgement
    from longwriter_eval.runs import Run


def command(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR...", help="lm_eval's --output_path, of one run or several"),
    ],
    judge_a: Annotated[
        str, typer.Option("--from", metavar="JUDGE", help="judge whose scores are to be translated")
    ],
    judge_b: Annotated[
        str, typer.Option("--to", metavar="JUDGE", help="judge on whose scale they are wanted")
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also write the link as JSON")
    ] = None,
) -> int:
    """Link the scales of two judges, from responses that both have judged.

    A JUDGE is a profile or a model, as the results name it. `longwriter score RUN_DIR --judge …`
    judges a finished run by another judge and keeps the verdicts of the first. Nothing is asked
    here. The link is refused for too few responses, for a large error on held-out prompts, and
    for scores outside the range on which it was fitted.
    """
    from longwriter_core.errors import InputError
    from longwriter_eval.bridge import Bridge
    from longwriter_eval.calibration import calibrate
    from longwriter_eval.runs import load_runs

    if judge_a == judge_b:
        raise InputError("--from and --to name the same judge")
    runs = [load_runs(folder) for folder in run_dirs]
    by_run = [_scores(results, (judge_a, judge_b)) for results in runs]
    identities = _check(by_run, (judge_a, judge_b), [run for results in runs for run in results])
    link = calibrate(_pairs(by_run))
    print(*_lines(link, judge_a, judge_b), sep="\n")
    code = 0
    for folder, scores in zip(run_dirs, by_run, strict=True):
        text, is_missing = _bridged(folder, link, scores, (judge_a, judge_b))
        print(text, file=sys.stderr if is_missing else sys.stdout)
        code = max(code, int(is_missing))
    if output:
        Bridge(identities[0], identities[1], link).save(output)
        print(f"wrote {output}")
    return code


# For each of the two judges: response -> (prompt, S_q, variance of S_q, judge's identity)
_Scores = list[dict[str, "tuple[str, float, float | None, JudgeIdentity]"]]


def _scores(results: "Sequence[Run]", judges: tuple[str, str]) -> _Scores:
    """The scores of both judges in the results of one run folder; the newest score wins."""
    from longwriter_eval.bridge import JudgeIdentity
    from longwriter_eval.scoring import score_samples

    found: _Scores = [{}, {}]
    for run in results:
        for score in score_samples(run.samples):
            judgement = score.judgement
            record = run.record(score.sample.task)
            if not judgement or not judgement.quality:
                continue
            response = f"{score.sample.task} {score.sample.id} {judgement.response_sha256}"
            for one in record["judge"].get("judges") or [record["judge"]]:
                names = {one.get("profile"), one["model"]}
                identity = JudgeIdentity.of({**record, "judge": one})
                given = _of_judge(judgement, names)
                if not given:
                    continue
                noise = statistics.variance(given) / len(given) if len(given) > 1 else None
                row = (score.sample.id, statistics.fmean(given), noise, identity)
                for number, name in enumerate(judges):
                    if name in names:
                        found[number].setdefault(response, row)
    return found


def _of_judge(judgement: "Judgement", names: "set[str | None]") -> list[float]:
    """The S_q of each verdict of a judge, which in a panel is known by one of `names`."""
    from longwriter_eval.judge.verdict import quality_scores

    return [
        quality_scores(verdict.scores)["score"]
        for verdict in judgement.verdicts
        if verdict.scores and (verdict.judge is None or verdict.judge in names)
    ]


def _check(
    by_run: list[_Scores], judges: tuple[str, str], runs: "Sequence[Run]"
) -> "list[JudgeIdentity]":
    """The identities of both judges.

    Raises InputError if a judge has no verdicts, or verdicts with two different settings.
    """
    from longwriter_core.errors import InputError

    found = []
    for number, name in enumerate(judges):
        rows = (row for scores in by_run for row in scores[number].values())
        identities = sorted({row[3] for row in rows}, key=str)
        if not identities:
            known = sorted(
                {
                    str(run.record(sample.task)["judge"]["model"])
                    for run in runs
                    for sample in run.samples
                    if "judge" in run.record(sample.task)
                }
            )
            raise InputError(
                f"no response was judged by {name} (judges of these runs: "
                f"{', '.join(known) or 'none'}): judge them with `longwriter score RUN_DIR "
                f"--judge {name}`"
            )
        if len(identities) > 1:
            raise InputError(
                f"{name} has judged in several ways, which are different scales: "
                f"{'; '.join(map(str, identities))}"
            )
        found += identities
    return found


def _pairs(by_run: list[_Scores]) -> "list[JudgedByBoth]":
    from longwriter_eval.calibration import JudgedByBoth

    pairs = {}
    for of_a, of_b in by_run:
        for response in of_a.keys() & of_b.keys():
            prompt, a, noise_a, _ = of_a[response]
            _, b, noise_b, _ = of_b[response]
            pairs[response] = JudgedByBoth(prompt, a, b, noise_a, noise_b)
    return [pairs[response] for response in sorted(pairs)]


def _lines(link: "Link", judge_a: str, judge_b: str) -> list[str]:
    slope = link.slope_interval
    lines = [
        f"Link from {judge_a} to {judge_b}, from {link.responses} responses to {link.prompts} "
        "prompts:",
        "",
        f"  S_q({judge_b}) = {link.offset:.1f} + {link.slope:.2f} x S_q({judge_a})",
        f"  slope             {slope.mean:.2f}   [{slope.low:.2f}, {slope.high:.2f}]",
        f"  fitted on S_q     {link.low:.1f} to {link.high:.1f}",
        f"  held-out error    {link.held_out_error:.1f} points for a response "
        f"({link.unlinked_error:.1f} without the link)",
    ]
    if link.is_ratio_known:
        lines.append(f"  noise ratio       {link.noise_ratio:.2f} (B to A, from repeated verdicts)")
    else:
        lines.append(
            "  noise ratio       1, assumed: without repeated verdicts of both judges (--judge-"
            "repeats 3) the slope is biased where one judge is noisier"
        )
    return [*lines, ""]


def _bridged(
    folder: Path, link: "Link", scores: _Scores, judges: tuple[str, str]
) -> tuple[str, bool]:
    """A line for one run: its mean S_q by A, bridged, and by B. True if it is refused."""
    from longwriter_core.errors import InputError

    means = [
        sum(row[1] for row in of_judge.values()) / len(of_judge) if of_judge else math.nan
        for of_judge in scores
    ]
    if math.isnan(means[0]):
        return f"{folder}: not judged by {judges[0]}", False
    try:
        bridged = link.at(means[0])
    except InputError as error:
        return f"{folder}: {error}", True
    text = (
        f"{folder}: S_q {means[0]:.1f} by {judges[0]}, bridged {bridged.mean:.1f} "
        f"[{bridged.low:.1f}, {bridged.high:.1f}]"
    )
    if scores[1]:
        text += f"; {means[1]:.1f} by {judges[1]} itself ({len(scores[1])} responses)"
    return text, False
