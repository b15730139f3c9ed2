"""Every threshold and seed of the statistics, each defined once. Imports nothing."""

# Share of responses (0-1) that need a verdict before a quality score is reported. Missing verdicts
# are rarely missing at random (long responses overflow the judge's context, odd ones are refused),
# so a mean over the rest would describe a different set of responses.
MIN_COVERAGE = 0.95

# Confidence level of every interval.
CONFIDENCE = 0.95

# Family-wise error rate of `longwriter compare`, after correction.
COMPARISON_ALPHA = 0.05

# Significance level of `longwriter verify --rejudge`. A rejected submission is an accusation, so
# only one honest submission in a hundred may fail.
REJUDGE_ALPHA = 0.01

# Fewer pairs cannot reach REJUDGE_ALPHA: with n pairs the smallest two-sided p-value is 2 / 2**n,
# which falls below 0.01 at n = 8. Two pairs are kept in reserve for failed calls.
MIN_REJUDGED_PAIRS = 10

# `longwriter verify` recommends the number of responses for --rejudge that finds claims this many
# points of S_q above the judge's own verdicts, with this probability.
REJUDGE_GAIN = 5.0
REJUDGE_POWER = 0.9

# Standard deviation of one verdict on the same text (points of S_q) where a submission does not
# show it by repeats. An assumption: one to two grades of six differ by one step, 4.2 points each.
# `longwriter judge-exam` measures it for a judge, and --rejudge reports what it found.
ASSUMED_RETEST_SD = 6.0

# Responses that two judges must share before `longwriter calibrate` links their scales: half of
# LongBench-Write. With 60, the simulated interval of the slope is about ±0.2.
MIN_BRIDGE_RESPONSES = 60

# Mean absolute error (points of S_q, per response) of the link on held-out prompts above which it
# is refused. One step of one of the six grades is 4.2 points.
MAX_BRIDGE_ERROR = 10.0

# Parts into which the prompts are split for the held-out check.
BRIDGE_FOLDS = 5

# Values below which mean_interval uses Student's t instead of the bootstrap for numbers without an
# upper end, such as words. Resampling so few values makes intervals too narrow.
MIN_BOOTSTRAP_VALUES = 20

# Responses below which agreement is reported without an interval.
MIN_AGREEMENT_RESPONSES = 10

# Bootstrap draws for a mean. BCa needs about 2,000 (Efron, 1987), and a table has hundreds of
# intervals.
BOOTSTRAP_RESAMPLES = 2000

# Bootstrap draws for an alpha, where each draw takes a third of a millisecond.
AGREEMENT_RESAMPLES = 1000

# Random permutations of the paired test. Up to 13 pairs, all 2**n sign flips fit into this number
# and the test is exact.
PERMUTATIONS = 9999

# A fixed seed gives the same data the same interval and p-value on every machine.
SEED = 20240813

# With fewer prompts, a table warns about failures that so small a sample can miss.
FEW_PROMPTS = 60


def unseen_share(n: int) -> float:
    """The largest failure rate (0-1) of which `n` responses show no case with 5% probability.

    The rule of three. Such a failure, as a loop in one text of twenty, does not lower the score;
    only the interval allows for it.
    """
    return float(1 - (1 - CONFIDENCE) ** (1 / n))


def unseen_note(n: int) -> str:
    """What a table whose smallest bucket has `n` prompts cannot show; "" for many prompts."""
    if n >= FEW_PROMPTS:
        return ""
    return (
        f"With {n} prompts, a failure that strikes up to {unseen_share(n):.0%} of a model's "
        "responses may not show at all."
    )
