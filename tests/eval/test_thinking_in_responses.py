"""Thinking in a response, through a task's whole path: it is not counted, judged or hidden."""

import re
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from support.logs import Answer, Log, answers

from longwriter_core.text.diagnostics import diagnose
from longwriter_eval.scoring import clean_response, score_samples

pytestmark = [pytest.mark.lm_eval, pytest.mark.usefixtures("upstream")]

STORY = "Once upon a time.\n\nThe end."  # six words
OSS = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>{}"
THOUGHTS = ("Hm.", "Well, it wants a story.\n\nI write one.\n", "好的，用户要一个故事。")
FORMATS = {
    "think": "<think>{}</think>{}",
    "think-lines": "<think>\n{}\n</think>\n\n{}",
    "thinking": "<thinking>{}</thinking>\n{}",
    "Magistral": "[THINK]{}[/THINK]{}",
    "Kimi": "◁think▷{}◁/think▷{}",
    "gpt-oss": OSS,
    "gpt-oss-with-end": OSS + "<|return|>",
    "gpt-oss-without-special-tokens": "analysis{}assistantfinal{}",
    "closing-think-alone": "{}\n</think>\n\n{}",
    "closing-think-on-the-line": "{}</think>\n{}",
    "closing-think-between-sentences": "{}</think>{}",
    "closing-think-between-blanks": "{} </think> {}",
    "closing-thinking-alone": "{}\n</thinking>\n{}",
    "closing-Magistral-alone": "{}[/THINK]{}",
    "closing-Kimi-alone": "{}◁/think▷{}",
    "after-a-special-token": "<|assistant|>\n<think>{}</think>{}<|user|>",
    "after-a-header": "<|start_header_id|>assistant<|end_header_id|>\n\n<think>{}</think>{}",
}
CUT = {
    "think": "<think>{}",
    "thinking": "<thinking>\n{}",
    "Magistral": "[THINK]{}",
    "Kimi": "◁think▷{}",
    "gpt-oss": "<|channel|>analysis<|message|>{}",
    "gpt-oss-with-a-start": "<|start|>assistant<|channel|>analysis<|message|>{}",
    "after-a-special-token": "<|assistant|><think>{}",
}


@pytest.mark.parametrize("thought", THOUGHTS, ids=["short", "lines", "Chinese"])
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_text_to_count_and_judge_has_no_thinking(form: str, thought: str) -> None:
    assert clean_response(form.format(thought, STORY)) == STORY


@pytest.mark.parametrize("thought", THOUGHTS, ids=["short", "lines", "Chinese"])
@pytest.mark.parametrize("form", CUT.values(), ids=CUT)
def test_a_response_cut_while_thinking_is_empty(form: str, thought: str) -> None:
    assert clean_response(form.format(thought)) == ""


def test_a_response_of_gpt_oss_cut_while_thinking_without_special_tokens_is_empty() -> None:
    assert clean_response("analysisWe need a story. Let us") == ""


@pytest.mark.parametrize(
    "text",
    [
        "The model writes </think> when it is done.",
        "A reply begins with <think> and ends after </think>, as a rule.",
        "Analysis of the final act.\n\nIt ends.",
        "analysis of the assistant's final words",
        "Use the tag `</think>`. It ends the thinking.",
        "He said [/THINK] and left.",
    ],
)
def test_a_text_about_tags_is_kept(text: str) -> None:
    assert clean_response(text) == text
    assert not diagnose("Write.", text).leftover_thinking


@pytest.mark.parametrize(
    "text",
    [
        f"{STORY}\n<think>\nHm.\n</think>\nMore.",
        f"{STORY}\n\n[THINK]Hm.",
        f"<think>Hm.</think>{STORY}\n</think>\nMore.",
        f"{STORY}\n◁think▷Hm.",
        f"{STORY}<|start|>assistant<|channel|>analysis<|message|>Hm.",
    ],
)
def test_thinking_within_a_response_is_kept_and_reported(text: str) -> None:
    cleaned = clean_response(text)
    assert "The end." in cleaned
    assert diagnose("Write.", cleaned).leftover_thinking


class Thinker(LM):  # type: ignore[misc]
    """Thinks 50 words before its story; each response has as many tokens as words."""

    tokenizer = object()
    max_length = 10**6

    def __init__(self, form: str) -> None:
        super().__init__()
        self.text = form.format("hm " * 50, STORY)

    def tok_encode(self, text: str) -> list[int]:
        return [0] * len(re.findall(r"\w+", text))

    def generate_until(self, requests: Any, **_: Any) -> list[str]:
        return [self.text] * len(requests)

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize(("limit", "cut"), [(10**4, 0), (57, 1)], ids=["ended", "at-the-limit"])
def test_the_length_score_counts_no_thinking_but_the_token_limit_does(
    limit: int, cut: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda _: None)
    results = simple_evaluate(
        Thinker("<think>{}</think>\n\n{}"), tasks=["longbench_write_length"],
        task_manager=TaskManager(include_defaults=False), gen_kwargs={"max_gen_toks": limit},
        limit=3,
    )["results"]["longbench_write_length"]  # fmt: skip
    assert results["output_words,none"] == 6
    assert results["leftover_thinking,none"] == 0
    assert results["cut_off,none"] == cut


@pytest.mark.parametrize(("version", "words"), [(1.0, 9), (1.1, 6)])
def test_runs_of_version_1_0_are_scored_by_their_own_rule(
    tmp_path: Path, version: float, words: int
) -> None:
    log = Log(answers(1, lambda _: Answer(f"<think>Hm</think>{STORY}", None)), version=version)
    (score,) = score_samples(log.load(tmp_path).samples)
    assert score.words == words
