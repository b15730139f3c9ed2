"""The sentences at the top of a report are true, whatever the runs hold."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.logs import Answer, Grades, Log, answers

from longwriter_eval.cli.main import main
from longwriter_eval.report.headline import against_first, headline
from longwriter_eval.report.metadata import score_runs
from longwriter_eval.report.tables import difference_tables

REQUIRED = (300, 1000, 3000, 6000)


def prose(number: int) -> str:
    """`number` different words, so that nothing repeats."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join(f"w{letters[i // 676]}{letters[i // 26 % 26]}{letters[i % 26]}"
                    for i in range(number)) + "."  # fmt: skip


def bench(
    limit: int = 10**6,
    grades: Callable[[int], Grades | None] = lambda n: (3 + n % 2,),
    number: int = 12,
    required: tuple[int, ...] = REQUIRED,
    language: str = "en",
) -> Log:
    """`number` prompts, each answered with the required words, but at most `limit`."""

    def answer(n: int) -> Answer:
        asked = required[n % len(required)]
        produced = min(asked, limit)
        text = prose(produced) if produced else ""
        if language == "zh":
            text = "".join(chr(0x4E00 + 7919 * i % 20000) for i in range(produced)) + "。"
        return Answer(text, grades(n), required=asked, language=language)

    return Log(answers(number, answer))


def ruler(limit: int, lengths: tuple[int, ...] = (1000, 2000, 5000)) -> Log:
    def answer(n: int) -> Answer:
        return Answer(prose(min(lengths[n % len(lengths)], limit)), None,
                      required=lengths[n % len(lengths)])  # fmt: skip

    return Log(answers(2 * len(lengths), answer, "longwrite_ruler"), task="longwrite_ruler_01000")


def only(log: Log, keep: Callable[[int], bool]) -> Log:
    """The log with the prompts whose number `keep` accepts."""
    kept = {id: a for id, a in log.answers.items() if keep(int(id.rpartition("/")[2]))}
    return log.change(answers=kept)


GOOD, BAD = bench(grades=lambda n: (4 + n % 2,)), bench(grades=lambda n: (2 + n % 2,))

# Logs -> the sentences, with the runs named a, b …
CASES: dict[str, tuple[list[list[Log]], list[str]]] = {
    "up to a limit": (
        [[bench(1200)]],
        ["a writes to the length asked up to about 1,000 words; quality 62."],
    ),
    "at every length": (
        [[bench()]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 62."],
    ),
    "at no length": (
        [[bench(60)]],
        ["a does not write to the length asked (mean length score 0); its longest output has 60 "
         "words; quality 62."],
    ),
    "too long for short requests": (
        [[bench().change(answers={
            id: replace(a, text=prose(1200)) if a.required == 300 else a
            for id, a in bench().answers.items()
        })]],
        ["a writes to the length asked up to about 6,000 words, but not at 300; quality 62."],
    ),
    "one bucket": (
        [[bench(required=(1000,))]],
        ["a writes to the length asked, about 1,000 words; quality 62."],
    ),
    "the longest request of a bucket is missed": (
        [[bench(8000, required=(5000, 6000, 7000, 20000), number=40)]],
        ["a writes to the length asked up to about 5,000 words; quality 62."],
    ),
    "the ruler decides the length": (
        [[bench(), ruler(2100)]],
        ["a writes to the length asked up to about 2,000 words; quality 62."],
    ),
    "the ruler alone": (
        [[ruler(2100)]],
        ["a writes to the length asked up to about 2,000 words."],
    ),
    "no judge": (
        [[bench(grades=lambda _: None)]],
        ["a writes to the length asked at every length, up to 6,000 words; its quality was not "
         "judged."],
    ),
    "missing verdicts": (
        [[bench(grades=lambda n: "refused" if n < 3 else (4,))]],
        ["a writes to the length asked at every length, up to 6,000 words; its quality is unknown, "
         "because 3 of 12 responses lack a verdict."],
    ),
    "empty": (
        [[bench(0)]],
        ["a wrote nothing: all 12 responses are empty."],
    ),
    "frequent faults": (
        [[bench().change(answers={
            id: replace(a, text=a.text.removesuffix(".") + " and the") if int(id[-1]) % 4 else a
            for id, a in bench().answers.items()
        })]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 62. Frequent "
         "faults: cut off 67%."],
    ),
    "Chinese only": (
        [[bench(language="zh")]],
        ["a writes to the length asked at every length, up to 6,000 characters; quality 62. "
         "Frequent faults: wrong language 100%."],
    ),
    "a clear difference": (
        [[BAD], [GOOD]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 38.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88, above a's "
         "38."],
    ),
    "a difference over the shared prompts": (
        [[BAD], [only(GOOD, lambda n: n < 10)]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 38.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88, above a's "
         "38 where both answer."],
    ),
    "a tie": (
        [[GOOD], [bench(grades=lambda n: (4 + (n // 2) % 2,))]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 88.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88, not "
         "distinguishable from a's 88 (+0.0, 95% interval −12.5 to +12.5)."],
    ),
    "twice the same": (
        [[GOOD], [GOOD]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 88.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88, the same "
         "as a's."],
    ),
    "too few prompts for an interval": (
        [[bench(number=2)], [bench(number=2, grades=lambda _: (1,))]],
        ["a writes to the length asked at every length, up to 1,000 words; quality 62.",
         "b writes to the length asked at every length, up to 1,000 words; quality 0, not "
         "distinguishable from a's 62 (−62.5, too few prompts for an interval)."],
    ),
    "another judge": (
        [[GOOD], [BAD.change(judge="another")]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 88.",
         "b writes to the length asked at every length, up to 6,000 words; quality 38, which is "
         "not comparable with a's."],
    ),
    "no prompt in common": (
        [[only(GOOD, lambda n: n < 6)], [only(BAD, lambda n: n >= 6)]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 88.",
         "b writes to the length asked at every length, up to 6,000 words; quality 38, which "
         "cannot be compared with a's: too few shared verdicts."],
    ),
    "only one was judged": (
        [[bench(grades=lambda _: None)], [GOOD]],
        ["a writes to the length asked at every length, up to 6,000 words; its quality was not "
         "judged.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88, which "
         "cannot be compared with a's: too few shared verdicts."],
    ),
    "only one has the ruler": (
        [[ruler(10**6)], [GOOD]],
        ["a writes to the length asked at every length, up to 5,000 words.",
         "b writes to the length asked at every length, up to 6,000 words; quality 88."],
    ),
    "three runs, one empty": (
        [[GOOD], [bench(0)], [BAD]],
        ["a writes to the length asked at every length, up to 6,000 words; quality 88.",
         "b wrote nothing: all 12 responses are empty.",
         "c writes to the length asked at every length, up to 6,000 words; quality 38, below a's "
         "88."],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("logs", "expected"), CASES.values(), ids=CASES)
def test_the_headline_is_true(logs: list[list[Log]], expected: list[str], tmp_path: Path) -> None:
    runs = [
        first.load(tmp_path / name, *others)
        for name, (first, *others) in zip("abc", logs, strict=False)
    ]
    scored = score_runs(runs)
    versus = against_first(scored)
    assert headline(scored, versus) == expected
    for table in difference_tables(scored, versus):  # one aligned table, whatever the runs hold
        assert {len(row["means"]) for row in table["rows"]} == {len(runs)}
        assert {len(row["differences"]) for row in table["rows"]} == {len(runs) - 1}


def test_compare_writes_a_page_that_claims_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = BAD.write(tmp_path / "a"), GOOD.write(tmp_path / "b")
    page = tmp_path / "compare.html"
    assert main(["compare", str(a), str(b), "-o", str(page)]) == 0
    captured = capsys.readouterr()
    assert f"wrote {page}" in captured.err
    html = page.read_text(encoding="utf-8")
    printed = next(x for x in captured.out.splitlines() if x.strip().startswith("quality_score"))
    assert "B higher" in printed
    assert re.search(r'<td class="significant">\+50\.0', html)
    assert "+50.00" in printed


def test_compare_refuses_an_output_that_is_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = str(GOOD.write(tmp_path / "a"))
    assert main(["compare", a, a, "-o", str(tmp_path / "x.pdf")]) == 2
    assert "must name an .html file" in capsys.readouterr().err
