"""The power of judging again: how many responses show that claims are too high. Pure.

The paired permutation test has nearly the power of Student's paired t-test, whose power is exact
for normal differences (a noncentral t distribution).
"""

import math

import scipy.stats

from longwriter_eval.stats.thresholds import MIN_REJUDGED_PAIRS, REJUDGE_GAIN

_MAX_PAIRS = 10_000


def paired_power(pairs: int, gain: float, sd: float, level: float) -> float:
    """The probability (0-1) that the two-sided test rejects at `level`.

    `gain` is the true mean difference, and `sd` the standard deviation of the differences between
    pairs, in the same unit.
    """
    if pairs < 2:
        return 0.0
    if sd <= 0:  # every pair differs by the gain; the smallest possible p-value is 2 / 2**pairs
        return float(gain != 0 and 2 / 2**pairs < level)
    freedom, shift = pairs - 1, abs(gain) / sd * math.sqrt(pairs)
    critical = scipy.stats.t.ppf(1 - level / 2, freedom)
    both = scipy.stats.nct.sf(critical, freedom, shift)
    # the other tail is tiny, and its distribution function may underflow to NaN
    other = float(scipy.stats.nct.cdf(-critical, freedom, shift))
    return min(1.0, float(both) + (0.0 if math.isnan(other) else other))


def difference_sd(retest_sd: float, verdicts: int) -> float:
    """The expected standard deviation of claimed minus new scores, each a mean of `verdicts`.

    Verdicts on the same text vary by `retest_sd`, and false claims vary too: who raises single
    grades by a step raises some responses by nothing and others by twice the mean. So the gain is
    taken to vary by as much as its mean, REJUDGE_GAIN.
    """
    return math.sqrt(2 * retest_sd**2 / verdicts + REJUDGE_GAIN**2)


def pairs_needed(gain: float, sd: float, level: float, power: float) -> int:
    """The smallest number of pairs, at least MIN_REJUDGED_PAIRS, with at least this power."""
    low, high = MIN_REJUDGED_PAIRS, _MAX_PAIRS
    while low < high:  # the power grows with the number of pairs
        middle = (low + high) // 2
        if paired_power(middle, gain, sd, level) >= power:
            high = middle
        else:
            low = middle + 1
    return low
