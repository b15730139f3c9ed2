"""The rewards for GRPO, their data, and how they become advantages."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.judging import settings_at

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from longwriter_core.conversation import UnusableRowError
from longwriter_core.errors import InputError
from longwriter_core.llm import Store
from longwriter_core.mock_server import MockReply, MockRequest, MockServer
from longwriter_core.text.length import length_score
from longwriter_eval.judge.judge import Judge
from longwriter_train.checks.data import inspector
from longwriter_train.rewards import form, judging, length, quality
from longwriter_train.rewards.prompts import prompt_row
from longwriter_train.rewards.rules import answer_of, form_reward, length_reward
from longwriter_train.rewards.trainer import average_advantages

pytestmark = pytest.mark.axolotl


@pytest.mark.parametrize(
    ("words", "reward"),
    [(0, 0.0), (50, 0.5), (99, 0.99), (100, 1.0), (150, 1.0), (200, 1.0), (600, 0.5),
     (1000, 0.0), (5000, 0.0)],
)  # fmt: skip
def test_the_length_reward_is_1_inside_the_range_and_falls_on_both_sides(
    words: int, reward: float
) -> None:
    assert length_reward(words, 100, 200, 1000) == pytest.approx(reward)


def said(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


SEA = "The sea is calm today, and the keeper of the lighthouse writes down the weather."


def test_thinking_and_special_tokens_count_neither_as_words_nor_as_form() -> None:
    thought = f"<think>\nParagraph 1 - The sea - 15 words\n</think>\n\n{SEA}<|eot_id|>"
    opened_by_the_prompt = thought.removeprefix("<think>\n")
    for text in (SEA, thought, opened_by_the_prompt):
        assert answer_of(text) == SEA
    columns = {"low": [15] * 3, "high": [20] * 3, "max_words": [99] * 3}
    completions = said(SEA, thought, opened_by_the_prompt)
    assert length(completions=completions, **columns) == [1.0, 1.0, 1.0]
    asked = [[{"role": "user", "content": "Write about the sea."}]] * 3
    assert form(prompts=asked, completions=completions) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "answer",
    ["", "I'm sorry, but I can't help with that.", "大海今天很平静，守塔人写下了天气。",
     "The sea is calm. The keeper of the lighthouse writes down the",
     SEA + "\n\n[To be continued]"],
    ids=["empty", "refusal", "wrong language", "cut off", "to be continued"],
)  # fmt: skip
def test_an_answer_with_a_fault_has_no_form(answer: str) -> None:
    assert form_reward("Write a story about the sea in English.", answer) == 0.0


def test_repetition_lowers_the_form() -> None:
    repeated = " ".join([SEA] * 4)
    assert form_reward("Write about the sea.", repeated) == pytest.approx(0.25, abs=0.05)


ROWS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "a range": ({"instruction": "Write.", "low": 40, "high": 60}, (40, 60)),
    "a length": ({"prompt": "Write.", "length": 1000}, (900, 1100)),
    "named in the text": ({"prompt": "Write 2,000 words on tea."}, (1800, 2200)),
    "a conversation": (
        {"messages": [{"role": "user", "content": "写一篇500字的文章。"},
                      {"role": "assistant", "content": "好。"}]},
        (450, 550),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_an_instruction_becomes_a_prompt_with_a_range(name: str) -> None:
    row, wanted = ROWS[name]
    made = prompt_row(row, 14_000)
    assert (made["low"], made["high"], made["max_words"]) == (*wanted, 14_000)
    (message,) = made["prompt"]
    assert message["role"] == "user"
    assert message["content"] in json.dumps(row, ensure_ascii=False)


def test_the_range_of_a_length_keeps_the_length_score_above_94() -> None:
    made = prompt_row({"prompt": "Write.", "length": 1000}, 14_000)
    assert min(length_score(1000, made["low"]), length_score(1000, made["high"])) > 94


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": "Write about tea."}, "names no length"),
        ({"length": 100}, "has no text"),
        ({"prompt": "Write.", "low": 60, "high": 40}, "are not a range"),
        ({"prompt": "Write.", "low": 60}, "are not a range"),
        ({"prompt": "Write.", "low": 0, "high": 9}, "are not a range"),
        ({"prompt": "Write.", "length": "long"}, "not a number of words"),
        ({"prompt": "Write.", "length": True}, "not a number of words"),
        ({"prompt": "Write.", "length": 20_000}, "at most 14,000 tokens"),
        ({"prompt": "Write <|eot_id|>.", "length": 100}, r"has <|eot_id|> in its"),
    ],
)
def test_a_row_without_a_usable_range_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnusableRowError, match=complaint.replace("|", r"\|")):
        prompt_row(row, 14_000)


def test_check_reads_the_rows_of_grpo_as_training_does() -> None:
    recipe = {"rl": "grpo", "trl": {"max_completion_length": 500}, "benchmark_check": False}
    inspect = inspector(recipe)
    assert inspect({"prompt": "Write 200 words on tea."}) == {"wrong": ""}
    assert "at most 500 tokens" in inspect({"prompt": "Write 2,000 words on tea."})["wrong"]


def test_the_advantage_is_the_mean_of_rewards_normalised_within_their_group() -> None:
    torch.manual_seed(0)
    rewards = torch.rand(12, 3) * torch.tensor([1.0, 100.0, 0.01])  # very different scales
    wanted = []
    for group in rewards.split(4):
        mean, std = group.mean(dim=0), group.std(dim=0)
        wanted.append(((group - mean) / (std + 1e-4)).mean(dim=1))
    torch.testing.assert_close(average_advantages(rewards, 4), torch.cat(wanted))


def test_a_reward_of_weight_0_is_only_measured() -> None:
    rewards = torch.rand(8, 2)
    alone = average_advantages(rewards[:, 1:], 4)
    weights = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(average_advantages(rewards, 4, weights), alone)


def test_a_missing_reward_counts_nowhere() -> None:
    nan = float("nan")
    rewards = torch.tensor([[1.0, 0.2], [2.0, nan], [3.0, 0.4], [nan, nan]])
    first = (torch.tensor([1.0, 2.0, 3.0]) - 2) / (1 + 1e-4)
    second = 0.1 / (0.02**0.5 + 1e-4)
    wanted = torch.tensor([(first[0] - second) / 2, first[1], (first[2] + second) / 2, 0.0])
    torch.testing.assert_close(average_advantages(rewards, 4), wanted)


def test_a_group_whose_rewards_are_equal_teaches_nothing() -> None:
    assert average_advantages(torch.ones(8, 2), 4).tolist() == [0.0] * 8


NAMES = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth",
         "Reading Experience")  # fmt: skip
ASKED = [[{"role": "user", "content": "Write about the sea."}]]


def by_length(request: MockRequest) -> MockReply | str | None:
    """Five stars for the sea, one for anything else."""
    stars = 5 if SEA in request.prompt else 1
    return json.dumps({"Analysis": "", **dict.fromkeys(NAMES, stars)})


@pytest.fixture(autouse=True)
def _no_judge() -> Iterator[None]:
    yield
    judging._current = None


def use(server: MockServer, tmp_path: Any, max_wait: float = 100) -> judging.QualityJudge:
    store = Store(tmp_path / "calls")
    judge = judging.QualityJudge(Judge(settings_at(server), "any", store), max_wait)
    judging.use(judge)
    return judge


def test_quality_is_the_judges_score_and_is_paid_once(tmp_path: Any) -> None:
    metrics: dict[str, float] = {}
    with MockServer(on_request=by_length) as server:
        use(server, tmp_path)
        for _ in range(2):
            rewards = quality(
                prompts=ASKED * 3,
                completions=said(SEA, "Another text.", ""),
                log_metric=metrics.__setitem__,
            )
            assert rewards == [1.0, 0.0, 0.0]
        assert len(server.prompts) == 2
    assert metrics == {"judge_coverage": 1.0}
    assert judging.outage() is None


def test_an_unreadable_verdict_is_no_reward_and_no_outage(tmp_path: Any) -> None:
    def confused(request: MockRequest) -> MockReply | str | None:
        return by_length(request) if SEA in request.prompt else "A fine text!"

    with MockServer(on_request=confused) as server:
        use(server, tmp_path)
        assert quality(prompts=ASKED * 2, completions=said(SEA, "Another.")) == [1.0, None]
    assert judging.outage() is None


def test_a_judge_that_is_never_readable_is_an_outage(tmp_path: Any) -> None:
    with MockServer(on_request=lambda _: "A fine text!") as server:
        use(server, tmp_path)
        assert quality(prompts=ASKED, completions=said(SEA)) == [None]
    assert "no verdict on any of 1 completions" in str(judging.outage())


def test_a_judge_that_is_down_is_waited_for_and_never_rewards_0(tmp_path: Any) -> None:
    with MockServer(on_request=by_length) as server:
        use(server, tmp_path)
        assert quality(prompts=ASKED, completions=said(SEA)) == [1.0]
        use(server, tmp_path, max_wait=0.3)
    started = time.monotonic()
    rewards = quality(prompts=ASKED * 2, completions=said(SEA, "Another text."))
    assert time.monotonic() - started >= 0.3
    assert rewards == [1.0, None]  # the first is in the store
    assert "on 1 of 2 completions, and was waited for up to 0.3 s" in str(judging.outage())


def test_quality_without_a_judge_says_what_to_add() -> None:
    with pytest.raises(InputError, match="ChecksPlugin"):
        quality(prompts=ASKED, completions=said(SEA))
