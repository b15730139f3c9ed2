"""The mock models' answers: plans, texts, verdicts and decisions, chosen at random.

An answer depends only on the model's name, the user messages, the seed and the requested JSON
schema. A judge's scores are random and say nothing about a text.
"""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from longwriter_core.mock_server.prose import TOKEN, sentence, sentences

# Repeated here instead of imported from the judge: if both used one list, tests would not notice a
# mistake in it.
_DIMENSIONS = (
    "Relevance",
    "Accuracy",
    "Coherence",
    "Clarity",
    "Breadth and Depth",
    "Reading Experience",
)
_REQUIRED_LENGTH = re.compile(r"(\d[\d,]{0,9})\s*(?:-?\s*words?\b|个?字)", re.IGNORECASE)
_HAN = re.compile(r"[\u4e00-\u9fff]")
# How AgentWrite's prompts show a plan's format, state the total length, and identify one step.
_PLAN_FORM = re.compile(r"^(Paragraph|Chapter) 1 - Main Point: \[", re.MULTILINE)
_TOTAL = re.compile(r"^Total length: (\d+) words", re.MULTILINE)
_STEP = re.compile(r"Main Point: (.*?) - Word Count: \d+ words")
_TAGS = re.compile(r"^- Put the text between <section_text>", re.MULTILINE)
_YES_OR_NO = re.compile(r"^Answer: \[yes or no\]", re.MULTILINE)
_TWO_TEXTS = re.compile(r"^<Second Text>$", re.MULTILINE)
_CHOICES = ("first", "second", "tie")
_STEP_WORDS = {"Paragraph": 400, "Chapter": 5_000}
_MAX_STEPS = 50
_MAX_WORDS = 50_000  # per text, even if the prompt asks for more
_WORD_FIELD = re.compile("word|length|target", re.IGNORECASE)
_QUOTED, _QUOTED_FROM = 0.75, 3_000  # share of quotes that are verbatim; characters
_NUMBER_FIELD = re.compile("number|index|^id$|^step$", re.IGNORECASE)


def asks_for_plan(prompt: str) -> bool:
    """Whether a prompt of AgentWrite asks for a plan."""
    return bool(_PLAN_FORM.search(prompt))


def required_length(prompt: str) -> int:
    """The last length that the prompt names, in words (Chinese: characters); 300 without one."""
    named = _REQUIRED_LENGTH.findall(prompt)
    return int(named[-1].replace(",", "")) if named else 300


def write(prompt: str, dice: random.Random) -> str:
    """A plan or a yes/no decision if the prompt asks for one; otherwise prose.

    The text for a step of a plan has 0.8 to 1.2 times the step's length. Any other text has 0.5 to
    1.3 times the length that the prompt names.
    """
    if _YES_OR_NO.search(prompt):
        return f"Reason: a throw of dice.\nAnswer: {dice.choice(('yes', 'no'))}"
    if form := _PLAN_FORM.search(prompt):
        return "\n\n".join(
            f"{form[1]} {number} - Main Point: {point} - Word Count: {words} words"
            for number, (point, words) in enumerate(_plan(prompt, form[1], dice), 1)
        )
    steps = _STEP.findall(prompt)
    shortest, longest = (0.8, 1.2) if steps else (0.5, 1.3)
    words = min(required_length(prompt), _MAX_WORDS) * dice.uniform(shortest, longest)
    text = sentences(round(words), dice, _language(steps[-1] if steps else prompt))
    return f"<section_text>\n{text}\n</section_text>" if _TAGS.search(prompt) else text


def judge(prompt: str, dice: random.Random) -> str:
    """A verdict in the format of LongWriter's judge, or a choice between two texts.

    It repeats no text from the prompt.
    """
    if _TWO_TEXTS.search(prompt):
        choice = {"Analysis": "A mock choice: dice.", "Better": dice.choice(_CHOICES)}
        return f"Both texts were read from beginning to end.\n\n{json.dumps(choice)}"
    scores = {dimension: dice.randint(1, 5) for dimension in _DIMENSIONS}
    verdict = json.dumps({"Analysis": "A mock verdict: the scores are dice.", **scores})
    return f"The response was read from beginning to end.\n\n{verdict}"


def fill_schema(schema: Mapping[str, Any], prompt: str, dice: random.Random) -> str:
    """JSON that fits a JSON schema.

    A list of objects with an integer property is treated as the steps of a plan: it gets as many
    items as the plan needs, and the integers add up to the required length. A string named `quote`
    is mostly a sentence from the end of the prompt, and sometimes an invented one, as models quote.
    All other values are random; an integer without limits is from 1 to 5.
    """
    return json.dumps(_Schema(schema, prompt, dice).value(schema), ensure_ascii=False)


class _Schema:
    """Draws values for one JSON schema."""

    def __init__(self, root: Mapping[str, Any], prompt: str, dice: random.Random) -> None:
        self._root, self._prompt, self._dice = root, prompt, dice

    def value(self, schema: Mapping[str, Any], name: str = "") -> Any:
        """A value of the property `name` that fits `schema`."""
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._dice.choice(schema["enum"])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        match kind if isinstance(kind, str) else kind[0]:
            case "object":
                properties = schema.get("properties", {})
                return {key: self.value(inner, key) for key, inner in properties.items()}
            case "array":
                return self._array(schema, name)
            case "integer" | "number":
                lowest = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
                return self._dice.randint(lowest, max(lowest, schema.get("maximum", 5)))
            case "boolean":
                return self._dice.random() < 0.5
            case "null":
                return None
        text = sentence(self._dice, _language_of_instruction(self._prompt)).rstrip(".。")
        if name == "quote" and self._dice.random() < _QUOTED:
            text = _quote(self._prompt, self._dice) or text
        return text[: schema.get("maxLength", len(text))]

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Resolve references; of alternatives, use the first that is not null."""
        while True:
            if reference := schema.get("$ref"):
                schema = self._root
                for key in reference.removeprefix("#/").split("/"):
                    schema = schema[key]
            elif choices := next(filter(None, map(schema.get, ("anyOf", "oneOf", "allOf"))), None):
                schema = next((c for c in choices if c.get("type") != "null"), choices[0])
            else:
                return schema

    def _array(self, schema: Mapping[str, Any], name: str) -> list[Any]:
        items = self._resolve(schema.get("items", {}))
        numbers = [
            key
            for key, inner in items.get("properties", {}).items()
            if self._resolve(inner).get("type") in ("integer", "number")
        ]
        words_key = next(filter(_WORD_FIELD.search, numbers), None)
        if not words_key:
            count = max(schema.get("minItems", 1), min(3, schema.get("maxItems", 3)))
            return [self.value(items, name) for _ in range(count)]
        form = _PLAN_FORM.search(self._prompt)
        label = "Chapter" if "chapter" in (form[1] if form else name).lower() else "Paragraph"
        steps = []
        for number, (_, words) in enumerate(_plan(self._prompt, label, self._dice), 1):
            step = self.value(items, name)
            step |= {key: number for key in numbers if _NUMBER_FIELD.search(key)}
            steps.append({**step, words_key: words})
        return steps


def _plan(prompt: str, label: str, dice: random.Random) -> list[tuple[str, int]]:
    """The main point and words of each step; the words add up to the required length.

    The required length is the total length if the prompt names one, else the largest length that
    it names, as in upstream's prompt.
    """
    total = _TOTAL.search(prompt)
    named = [int(length.replace(",", "")) for length in _REQUIRED_LENGTH.findall(prompt)]
    required = min(int(total[1]) if total else max(named, default=2_000), 1_000_000)
    steps = min(max(1, round(required / _STEP_WORDS[label])), _MAX_STEPS)
    language = _language_of_instruction(prompt)
    return [
        (
            sentence(dice, language).rstrip(".。"),
            required // steps + (required % steps if number == steps else 0),
        )
        for number in range(1, steps + 1)
    ]


def _quote(prompt: str, dice: random.Random) -> str:
    """A sentence from the end of the prompt; "" if it has none."""
    found = re.findall(r"[^.。\n<>]{12,}[.。]", prompt[-_QUOTED_FROM:])
    return dice.choice(found).strip() if found else ""


def _language(text: str) -> str:
    """The language that most of `text` is in: "en" or "zh"."""
    han = len(_HAN.findall(text))
    return "zh" if han > len(TOKEN.findall(text)) - han else "en"


def _language_of_instruction(prompt: str) -> str:
    """The instruction's language: AgentWrite's prompts are English, so Chinese is from it."""
    return "zh" if _HAN.search(prompt) else "en"
