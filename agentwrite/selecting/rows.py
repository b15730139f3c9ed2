"""Apply the rules to the rows of a source, and estimate what asking about the others costs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from agentwrite.data.sources import Source, open_source
from agentwrite.selecting.candidates import language_of, read_candidate
from agentwrite.selecting.log import EXCERPT_CHARACTERS, CheckedRow, Selection, checked_quota
from agentwrite.selecting.rules import LANGUAGES, Rules
from agentwrite.selecting.screening import question
from agentwrite.writing.context import estimate_tokens
from longwriter_core.errors import InputError
from longwriter_core.llm import Rejected
from longwriter_core.overlap import benchmark_prompts

_GIVE_UP_AFTER = 1_000  # rows without an instruction; the format of the source is then unknown
_ESTIMATE_ROWS = 2_000  # rows that an estimate reads
_REPLY_TOKENS = 40  # estimated tokens of a decision


def check_rows(
    source: Source, rules: Rules, selection: Selection, limit: int | None
) -> Iterator[CheckedRow]:
    """Apply the rules to every row. Raises InputError if the source has no instructions."""
    wanted = selection.quota or dict.fromkeys(LANGUAGES)
    columns: list[str] = []
    instructions = number = 0
    for number, row in enumerate(islice(source.rows, limit), 1):
        columns = columns or sorted(row)
        candidate = read_candidate(row, number)
        if candidate is None:
            yield CheckedRow(number, None, None, Rejected("no_instruction"))
            if not instructions and number == _GIVE_UP_AFTER:
                break
            continue
        instructions += 1
        language = language_of(candidate)
        if language not in wanted:
            language = None
        if selection.has_enough(
            language
        ):  # skip the rules, so the row is not remembered as a duplicate
            yield CheckedRow(number, None, language, Rejected("quota"))
            continue
        if rejected := rules.check(candidate, language):
            # the row may wait in memory, so keep only the excerpt that the log shows
            candidate = replace(candidate, instruction=candidate.instruction[:EXCERPT_CHARACTERS])
        yield CheckedRow(number, candidate, language, rejected)
    if not instructions:
        raise InputError(
            f"{source.name}: no instruction in {number:,} rows; expected a column conversation, "
            f"conversations, messages, instruction or prompt, found {', '.join(columns) or 'none'}"
        )


@dataclass
class SelectionEstimate:
    """Rows that pass the rules among the first `read` rows, and the tokens to ask about them."""

    read: int = 0
    total: int | None = None  # rows to read; None if unknown
    left: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def scaled(self, rows: int) -> "SelectionEstimate":
        """Extrapolate the estimate to `rows` similar rows."""
        share = rows / self.read
        return SelectionEstimate(
            read=rows,
            total=self.total,
            left=round(self.left * share),
            prompt_tokens=round(self.prompt_tokens * share),
            completion_tokens=round(self.completion_tokens * share),
        )


def estimate(
    source: str,
    *,
    quota: Mapping[str, int] | None = None,
    split: str = "train",
    limit: int | None = None,
) -> SelectionEstimate:
    """Estimate a selection from the first rows of `source`.

    Makes no calls and writes no files. Raises InputError if the source cannot be used.
    """
    selection = Selection(checked_quota(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    sample = SelectionEstimate(total=min(filter(None, (opened.total, limit)), default=None))
    for row in check_rows(opened, rules, selection, min(limit or _ESTIMATE_ROWS, _ESTIMATE_ROWS)):
        sample.read += 1
        if row.rejected:
            sample.rejected[row.rejected.reason] += 1
        elif row.candidate:
            sample.left += 1
            sample.prompt_tokens += estimate_tokens(question(row.candidate.instruction))
            sample.completion_tokens += _REPLY_TOKENS
    return sample
