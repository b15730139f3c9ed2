"""Every threshold of `select`, `sft` and `dpo`, each with the reason for its value.

The rules, the defaults of the command-line options and the documentation take their numbers from
here. This module imports nothing heavy, so that `--help` stays fast.
"""

from dataclasses import dataclass
from typing import Literal

SEED = 42  # of every random draw
# Tokens of prompt and answer together: what the LongWriter models were trained with, arXiv
# 2408.07055, section 4.1. Estimated, since every model has its own tokenizer.
SEQUENCE_LEN = 32_768

# select: the least length of an answer for which AgentWrite is used, arXiv 2408.07055, section 3.
MIN_ANSWER_WORDS = 2_000
# A shorter instruction does not say what to write; a longer one is a text to be worked on. The
# limit on characters catches digits, code and other scripts, which count as no words but cost
# tokens.
MIN_INSTRUCTION_WORDS = {"en": 4, "zh": 6}
MAX_INSTRUCTION_WORDS = 2_000
MAX_INSTRUCTION_CHARACTERS = 20_000
# Prompts made from one template begin alike: this many may share their first characters.
MAX_SAME_OPENINGS = 3
OPENING_CHARACTERS = {"en": 60, "zh": 30}


@dataclass(frozen=True)
class SftLimits:
    """What a text must meet to become an SFT row. Lengths are in words.

    min_words         the shortest instruction that `select` accepts asks for 2,000 words; its
                      text may come out a quarter shorter
    max_words         the longest texts in LongWriter-6k, arXiv 2408.07055, section 4.1
    sequence_len      tokens of prompt and answer together, estimated
    min_length_score  S_l, where a length is required; the bound of arXiv 2410.10210
    max_repetition    share of words in repeated runs of ten; the bound for duplicate 10-grams of
                      arXiv 2112.11446 (Gopher), table A1
    """

    min_words: int = 1_500
    max_words: int = 32_000
    sequence_len: int = SEQUENCE_LEN
    min_length_score: float = 80.0
    max_repetition: float = 0.10


# A section with less than a quarter of its planned words counts as missing. A text with a third of
# its sections missing has collapsed, as happens with plans of very many steps.
MISSING_SECTION_SHARE = 0.25
COLLAPSED_TEXT_SHARE = 1 / 3

SAMPLES = 4  # answers per prompt, arXiv 2408.07055, section 4.2
# Higher than the 0.5 of the evaluation, so that the answers to a prompt differ more. The paper
# does not name its value.
SAMPLING_TEMPERATURE = 0.8
SAMPLING_MAX_TOKENS = 32_768


@dataclass(frozen=True)
class PairOptions:
    """How the chosen and the rejected answer of a DPO pair are picked.

    rejected      a random worse answer, as in arXiv 2408.07055, section 4.2, or the worst one
    min_margin    points by which the chosen answer must score higher. The paper names none. One
                  step in one of the six quality dimensions moves the score by 2.1 points, so 5
                  points are more than two steps
    sequence_len  tokens of prompt and answer together; longer answers are not used
    seed          of the random draw
    """

    rejected: Literal["random", "worst"] = "random"
    min_margin: float = 5.0
    sequence_len: int = SEQUENCE_LEN
    seed: int = SEED
