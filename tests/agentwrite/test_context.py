"""What prompts show of a long text: its plan by chapters, and its older parts as summaries."""

import random
from itertools import pairwise

import pytest

from agentwrite.writing.context import TextSoFar, estimate_tokens
from agentwrite.writing.plan import MAX_STEPS, Plan, Step


def plan_of(chapters: int, steps: int, first: int = 1) -> Plan:
    """`chapters` of `steps` steps each; the first chapter begins with step `first`."""
    count = first - 1 + chapters * steps
    starts = range(first, count + 1, steps)
    headings = tuple(
        (Step(n, f"part {n}", 100, "Chapter"), start) for n, start in enumerate(starts, 1)
    )
    return Plan(tuple(Step(n, f"point {n}", 400) for n in range(1, count + 1)), chapters=headings)


def words(count: int) -> str:
    return "word " * count


def fold_all(so_far: TextSoFar, summary: str) -> list[str]:
    """Summarise what is due; returns what was summarised."""
    contents = []
    for fold in so_far.folds():
        contents.append(so_far.content(fold))
        so_far.replace(fold, summary)
    return contents


def test_a_prompt_shows_all_chapters_and_the_steps_of_its_own() -> None:
    plan = plan_of(3, 2)
    chapters = [chapter.line for chapter, _ in plan.chapters]
    steps = [step.line for step in plan.steps]
    assert plan.shown(3).split("\n") == [
        chapters[0], "", chapters[1], steps[2], steps[3], "", chapters[2],
    ]  # fmt: skip
    assert plan.shown(1).split("\n")[:3] == [chapters[0], *steps[:2]]
    assert plan.shown(6).split("\n")[-3:] == [chapters[2], *steps[4:]]


def test_steps_before_the_first_chapter_are_a_group_of_their_own() -> None:
    plan = plan_of(2, 2, first=3)
    assert plan.shown(1).startswith(f"{plan.steps[0].line}\n{plan.steps[1].line}\n")
    assert plan.steps[0].line not in plan.shown(3)


def test_a_plan_without_chapters_is_shown_whole() -> None:
    plan = Plan(plan_of(1, MAX_STEPS).steps)
    assert plan.shown(7) == plan.text


def test_of_a_plan_with_thousands_of_steps_the_surrounding_ones_are_shown() -> None:
    plan = Plan(plan_of(1, 2_510).steps)
    shown = plan.shown(75).split("\n")
    assert shown[0] == "[Steps 51 to 100 of 2510]"
    assert shown[1:] == [step.line for step in plan.steps[50:100]]
    assert plan.shown(2_510).split("\n")[0] == "[Steps 2501 to 2510 of 2510]"


def test_whole_chapters_are_summarised_one_by_one() -> None:
    so_far = TextSoFar(plan_of(5, 4), tuple(f"{n} {words(300)}" for n in range(1, 18)))
    first, second = fold_all(so_far, "In short.")
    assert [first[0], second[0]] == ["1", "5"]
    assert so_far.folded == 8
    shown = so_far.shown()
    assert shown.startswith("[Steps 1 to 4 of the plan are written, and given here as a summary.]")
    assert shown.count("In short.") == 2
    assert "[From here on, the text itself.]\n\n9 word" in shown
    assert so_far.text.startswith("1 word")


def test_a_chapter_longer_than_half_the_text_is_summarised_whole() -> None:
    so_far = TextSoFar(plan_of(2, 9), tuple(words(300) for _ in range(11)))
    assert [fold.size for fold in so_far.folds()] == [9]


def test_without_a_finished_chapter_the_older_half_is_summarised() -> None:
    so_far = TextSoFar(Plan(plan_of(1, 20).steps), tuple(words(300) for _ in range(10)))
    assert [fold.size for fold in so_far.folds()] == [5]


def test_the_last_section_is_never_summarised() -> None:
    so_far = TextSoFar(plan_of(2, 1), (words(9),))
    assert so_far.folds() == []
    so_far.add(words(9_000))
    fold_all(so_far, "In short.")
    assert so_far.folded == 1
    assert so_far.folds() == []


def test_many_summaries_are_summarised_in_turn() -> None:
    so_far = TextSoFar(plan_of(12, 1))
    for _ in range(12):
        so_far.add(words(100))
        while so_far.folded < len(so_far.sections) - 2 and so_far.folds():
            fold_all(so_far, words(60))
    shown = so_far.shown()
    assert shown.count("as a summary") < 8
    assert "[Steps 1 to 1 of" not in shown
    assert so_far.text.count("word") == 1_200


@pytest.mark.parametrize("seed", range(20))
def test_repeated_folding_ends_and_keeps_every_step_in_order(seed: int) -> None:
    dice = random.Random(seed)
    so_far = TextSoFar(plan_of(dice.randint(1, 30), dice.randint(1, 9)))
    for _ in so_far.plan.steps:
        so_far.add(words(dice.randint(1, 800)))
        limit = dice.randint(200, 5_000)
        for _ in range(1_000):
            folds = so_far.folds()
            if estimate_tokens(so_far.shown()) <= limit or not folds:
                break
            for fold in folds:
                part = dice.choice([fold, fold.half or fold])
                so_far.replace(part, words(dice.randint(1, 400)))
                if part != fold:
                    break
        else:
            pytest.fail("folding does not end")
        ranges = [(part.first, part.last) for part in so_far._parts]
        assert ranges[0][0] == 1
        assert ranges[-1][1] == len(so_far.sections)
        assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges))
        assert so_far.folded < len(so_far.sections)
