"""Measure how often `longwriter compare` claims a difference between two equal models.

    python scripts/measure_claims.py            # the table in docs/statistics.md; some minutes
    python scripts/measure_claims.py --trials 50
    python scripts/measure_claims.py --bootstrap   # the permutation test beside the bootstrap

Each trial draws two runs of the same model, compares every metric overall and by bucket as
`compare` does, and counts trials in which any difference is claimed (at most 5%), and rows whose
interval and p-value contradict each other (none).
"""

import argparse
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields

import numpy as np
from measure_coverage import judge_scores, length_scores, rare_failures

from longwriter_core.text.diagnostics import Diagnostics
from longwriter_core.text.length import bucket
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement
from longwriter_eval.pairwise.differences import corrected, metric_differences
from longwriter_eval.runs import Sample
from longwriter_eval.scoring import Score
from longwriter_eval.stats import thresholds
from longwriter_eval.stats.inference import paired_test

Pairs = list[tuple[Score, Score]]
# LongBench-Write's buckets: a required length, and the number of prompts
BUCKETS = ((300, 26), (1000, 36), (3000, 31), (10_000, 27))
RULER = (1000, 2000, 5000, 10_000, 20_000, 30_000)


def score(
    rng: np.random.Generator, id: str, prompt: str, required: int, length: float, grade: float
) -> Score:
    """A score with the given S_l and S_q (NaN: no verdict) and random diagnostics."""
    quality = dict.fromkeys((*DIMENSIONS, "score"), grade) if not math.isnan(grade) else {}
    judgement = Judgement((), "", "", quality)
    rates = rng.uniform(0, 1, len(fields(Diagnostics)))
    diagnostics = [rate if rate > 0.5 else float(rate < 0.1) for rate in rates]
    return Score(
        sample=Sample("t", id, prompt, "t", required, "en", "", {}),
        text="",
        bucket=f"{required / 1000:g}k" if "ruler" in id else bucket(required),
        words=round(required * length / 100),
        length_score=length,
        diagnostics=Diagnostics(*diagnostics),
        judgement=judgement,
    )


def benchmark(
    rng: np.random.Generator,
    lengths: Callable[[np.random.Generator, int], np.ndarray],
    *,
    missing: float = 0.0,
    prompts: Sequence[tuple[int, int]] = BUCKETS,
) -> Pairs:
    """Two runs of a model on independent prompts; `missing` is the share without a verdict."""
    required = [length for length, number in prompts for _ in range(number)]
    runs = []
    for _ in range(2):
        grades = np.where(
            rng.random(len(required)) < missing, math.nan, judge_scores(rng, len(required))
        )
        runs.append(
            [
                score(rng, f"longbench_write/{i:03d}", f"Prompt {i}.", length, s_l, s_q)
                for i, (length, s_l, s_q) in enumerate(
                    zip(required, lengths(rng, len(required)), grades, strict=True)
                )
            ]
        )
    return list(zip(*runs, strict=True))


def ruler(rng: np.random.Generator) -> Pairs:
    """Two runs of a model on the ruler; a run's six responses to an instruction are alike."""
    runs = []
    for _ in range(2):
        scores: list[Score] = []
        for name, habit in zip("abcdefgh", rng.normal(60, 15, 8), strict=True):
            for required in RULER:
                id = f"longwrite_ruler/{len(scores):03d}"
                prompt = f"Write {required} words on {name}."
                length = float(np.clip(habit + rng.normal(0, 8), 0, 100))
                scores.append(score(rng, id, prompt, required, length, math.nan))
        runs.append(scores)
    return list(zip(*runs, strict=True))


POPULATIONS: dict[str, Callable[[np.random.Generator], Pairs]] = {
    "120 prompts, skewed S_l": lambda rng: benchmark(rng, length_scores),
    "120 prompts, 5% of the responses fail": lambda rng: benchmark(rng, rare_failures),
    "120 prompts, 3% without a verdict": lambda rng: benchmark(rng, length_scores, missing=0.03),
    "12 prompts, skewed S_l": lambda rng: benchmark(
        rng, length_scores, prompts=[(length, 3) for length, _ in BUCKETS]
    ),
    "ruler, 8 instructions × 6 lengths": ruler,
}


def claims(population: str, trials: int) -> tuple[float, int]:
    """The share (0-1) of comparisons that claim a difference, and the number of contradictions."""
    rng = np.random.default_rng([thresholds.SEED, len(population)])
    claimed = contradictions = 0
    for _ in range(trials):
        rows = corrected(list(metric_differences(POPULATIONS[population](rng))))
        claimed += any(row.winner for row in rows)
        for row in rows:
            limits = row.difference
            if math.isnan(limits.low):
                contradictions += row.winner is not None
            else:
                contradictions += (row.p < 0.05) == (limits.low <= 0 <= limits.high)
    return claimed / trials, contradictions


def against_bootstrap(prompts: int, trials: int) -> tuple[float, float]:
    """How often the permutation test and the paired percentile bootstrap reject, for equal S̄."""
    rng = np.random.default_rng([thresholds.SEED, prompts])
    scores = np.array(
        [(rare_failures(rng, prompts) + judge_scores(rng, prompts)) / 2 for _ in range(2 * trials)]
    )
    differences = scores[:trials] - scores[trials:]
    tested = [paired_test(row)[0] < 0.05 for row in differences.tolist()]
    weights = rng.multinomial(prompts, [1 / prompts] * prompts, 4000) / prompts
    low, high = np.quantile(differences @ weights.T, (0.025, 0.975), axis=1)
    return float(np.mean(tested)), float(np.mean((low > 0) | (high < 0)))


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=500, help="comparisons per row")
    parser.add_argument("--bootstrap", action="store_true", help="compare two tests of S̄ instead")
    trials, is_bootstrap = (options := parser.parse_args()).trials, options.bootstrap
    if is_bootstrap:
        print("| prompts | permutation test | bootstrap |\n|--:|--:|--:|")
        for prompts in (8, 12, 27, 120):
            shares = against_bootstrap(prompts, trials)
            print(f"| {prompts} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)
        return
    with ProcessPoolExecutor(2) as pool:
        found = pool.map(claims, POPULATIONS, [trials] * len(POPULATIONS))
        print("| two runs of one model | any difference claimed | contradictions |\n|---|--:|--:|")
        for population, (share, contradictions) in zip(POPULATIONS, found, strict=True):
            print(f"| {population} | {share:.1%} | {contradictions} |", flush=True)


if __name__ == "__main__":
    main()
