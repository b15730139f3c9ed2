"""Findings of a critic on a section: each quotes the text verbatim. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from longwriter_core.llm import Rejected, Structured
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import without_thinking

MAX_FINDINGS = 5  # of one section; a rewrite of more places is another section
_MIN_QUOTE = 3  # words (Chinese: characters); a shorter quote may stand in any text
_TYPOGRAPHY = str.maketrans("“”„‘’", '"""\'\'')


class Finding(BaseModel):
    """A problem at one place of a section, as structured output."""

    model_config = ConfigDict(extra="forbid")

    quote: str
    problem: str
    suggestion: str


class Findings(BaseModel):
    """A critic's reply as structured output."""

    model_config = ConfigDict(extra="forbid")

    findings: list[Finding]


@dataclass(frozen=True)
class Reviewed:
    """A critic's findings on a section: those whose quote is in the text, and the others."""

    accepted: tuple[Finding, ...]
    rejected: tuple[Finding, ...]

    @property
    def note(self) -> str:
        """The author's note for a rewrite that changes only the quoted places."""
        places = "\n".join(
            f'- "{finding.quote.strip()}": {finding.problem.strip()} {finding.suggestion.strip()}'
            for finding in self.accepted
        )
        return (
            "Change only the places quoted here, and give everything else back word for word.\n"
            f"{places}"
        )


def review(section: str, findings: Sequence[Finding]) -> Reviewed:
    """Accept the findings whose quote is in `section`, apart from white space and quotation marks.

    Models quote from memory. A finding whose quote is not in the text is about another text.
    """
    text = _plain(section)
    accepted: list[Finding] = []
    rejected: list[Finding] = []
    for finding in findings:
        quote = _plain(finding.quote.strip().strip("\"“”'"))
        is_verbatim = count_words(quote) >= _MIN_QUOTE and quote in text
        is_complete = bool(finding.problem.strip())
        is_accepted = is_verbatim and is_complete and len(accepted) < MAX_FINDINGS
        (accepted if is_accepted else rejected).append(finding)
    return Reviewed(tuple(accepted), tuple(rejected))


def _plain(text: str) -> str:
    return " ".join(text.translate(_TYPOGRAPHY).split())


def structured_findings() -> Structured[Findings]:
    """The JSON schema and reader of a critic's reply."""
    return Structured(Findings, lambda findings: findings)


def read_findings(reply: str) -> Findings | Rejected:
    """The findings in a reply of an endpoint without structured output."""
    answer = without_thinking(reply)
    start, end = answer.find("{"), answer.rfind("}")
    parsed = structured_findings().parse(answer[start : end + 1]) if start >= 0 else None
    return Rejected("no_findings", "no JSON of the form asked for") if parsed is None else parsed
