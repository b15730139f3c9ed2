"""Habits of real writers, on demand: thinking, remarks, wrong lengths, refusals, loops.

A habit in TALK leaves a usable reply and shows in about half of them. A habit in FAULTY spoils
about a third of the replies, but only the first to each prompt, so that a retry succeeds. All
depend on the request alone, not on the time or the order of calls.
"""

import random
import re
from collections.abc import Collection

from longwriter_core.mock_server.prose import TOKEN, sentences

TALK = ("think", "thinking", "magistral", "kimi", "gpt-oss", "preamble", "closing", "count")
LENGTH = ("long", "short")  # 1.4 and 0.6 times the length, in every reply
FAULTY = ("refusal", "loop", "half_plan")
HABITS = (*TALK, *LENGTH, *FAULTY)

_THOUGHT = "The reader expects an outline first. I keep to the length."
_THINKING = {
    "think": f"<think>\n{_THOUGHT}\n</think>\n\n",
    "thinking": f"<thinking>\n{_THOUGHT}\n</thinking>\n\n",
    "magistral": f"[THINK]{_THOUGHT}[/THINK]",
    "kimi": f"◁think▷{_THOUGHT}◁/think▷",
    "gpt-oss": f"<|channel|>analysis<|message|>{_THOUGHT}<|end|>"
    "<|start|>assistant<|channel|>final<|message|>",
}
_TAGGED = re.compile(r"\A<section_text>\n(.*)\n</section_text>\Z", re.DOTALL)
_REFUSAL = "I'm sorry, but I can't help with that."


def with_habits(
    answer: str, habits: Collection[str], *, is_plan: bool, is_first: bool, seed: str
) -> str:
    """The answer of a mock writer with these habits; `is_first` if the prompt is new."""
    dice = {name: random.Random(f"{name} {seed}") for name in HABITS}
    spoils = [name for name in FAULTY if name in habits and dice[name].random() < 1 / 3]
    if is_first and "refusal" in spoils:
        return _REFUSAL
    if is_plan:
        if is_first and "half_plan" in spoils:
            return _half(answer)
    else:
        tagged = _TAGGED.fullmatch(answer)
        text = tagged[1] if tagged else answer
        for name, factor in zip(LENGTH, (1.4, 0.6), strict=True):
            text = _resized(text, factor, dice[name]) if name in habits else text
        if is_first and "loop" in spoils:
            text = "\n\n".join([text] * 4)
        answer = f"<section_text>\n{text}\n</section_text>" if tagged else text
    return _with_talk(answer, {name for name in TALK if name in habits}, dice, is_plan=is_plan)


def _with_talk(
    answer: str, habits: Collection[str], dice: dict[str, random.Random], *, is_plan: bool
) -> str:
    shown = {name for name in habits if dice[name].random() < 1 / 2}
    what = "plan" if is_plan else "section"
    if "count" in shown and not is_plan:
        answer += f"\n\n(Word count: {len(TOKEN.findall(answer))})"
    if "closing" in shown:
        answer += f"\n\nLet me know if you'd like me to revise this {what}!"
    if "preamble" in shown:
        answer = f"Sure! Here is the {what} you asked for:\n\n{answer}"
    thinking = [name for name in _THINKING if name in shown]
    return _THINKING[thinking[0]] + answer if thinking else answer


def _half(plan: str) -> str:
    """The first half of a plan, which ends within a line."""
    return plan[: len(plan) // 2].rstrip() + " - Word Count: "


def _resized(text: str, factor: float, dice: random.Random) -> str:
    """`text` at `factor` times its words, in whole sentences."""
    words = round(len(TOKEN.findall(text)) * factor)
    language = "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"
    if factor < 1:
        return sentences(words, dice, language)
    return f"{text}\n\n{sentences(words - len(TOKEN.findall(text)), dice, language)}"
