"""What the mock models answer: plans, texts, verdicts and decisions, chosen by dice.

An answer depends only on the model's name, the user messages, the seed and the JSON schema that
was asked for. A judge's scores say nothing about any text.
"""

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from longwriter_core.mock_server.prose import TOKEN, sentence, sentences

# Written out, not imported from the judge: a mistake in the judge's own list must not go unnoticed
# because the mock server shares it.
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
# How AgentWrite's prompts show the form of a plan, name the total length, and name one step.
_PLAN_FORM = re.compile(r"^(Paragraph|Chapter) 1 - Main Point: \[", re.MULTILINE)
_TOTAL = re.compile(r"^Total length: (\d+) words", re.MULTILINE)
_STEP = re.compile(r"Main Point: (.*?) - Word Count: \d+ words")
_YES_OR_NO = re.compile(r"^Answer: \[yes or no\]", re.MULTILINE)
_TWO_TEXTS = re.compile(r"^<Second Text>$", re.MULTILINE)
_CHOICES = ("first", "second", "tie")
_STEP_WORDS = {"Paragraph": 400, "Chapter": 5_000}
_MAX_STEPS = 50
_MAX_WORDS = 50_000  # of one text, however long the prompt asks it to be
_WORD_FIELD = re.compile("word|length|target", re.IGNORECASE)
_NUMBER_FIELD = re.compile("number|index|^id$|^step$", re.IGNORECASE)


def required_length(prompt: str) -> int:
    """The last length that the prompt names, in words or characters of Chinese; else 300."""
    named = _REQUIRED_LENGTH.findall(prompt)
    return int(named[-1].replace(",", "")) if named else 300


def write(prompt: str, dice: random.Random) -> str:
    """A plan or a yes or no where the prompt asks for one; else prose of about the right length.

    The text of one step of a plan has 0.8 to 1.2 times the words that the step names; any other
    text has 0.5 to 1.3 times the words that the prompt names.
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
    return sentences(round(words), dice, _language(steps[-1] if steps else prompt))


def judge(prompt: str, dice: random.Random) -> str:
    """A verdict in the form that LongWriter's judge gives, or a choice between two texts.

    Nothing of the prompt's text is repeated in it.
    """
    if _TWO_TEXTS.search(prompt):
        choice = {"Analysis": "A mock choice: dice.", "Better": dice.choice(_CHOICES)}
        return f"Both texts were read from beginning to end.\n\n{json.dumps(choice)}"
    scores = {dimension: dice.randint(1, 5) for dimension in _DIMENSIONS}
    verdict = json.dumps({"Analysis": "A mock verdict: the scores are dice.", **scores})
    return f"The response was read from beginning to end.\n\n{verdict}"


def fill_schema(schema: Mapping[str, Any], prompt: str, dice: random.Random) -> str:
    """JSON that fits a JSON schema.

    A list of objects that have a whole number is taken for the steps of a plan: it gets as many
    items as the plan needs, and the numbers add up to the required length. Every other value is
    drawn at random; a whole number without limits is from 1 to 5.
    """
    return json.dumps(_Schema(schema, prompt, dice).value(schema), ensure_ascii=False)


class _Schema:
    """Draws values for one JSON schema."""

    def __init__(self, root: Mapping[str, Any], prompt: str, dice: random.Random) -> None:
        self._root, self._prompt, self._dice = root, prompt, dice

    def value(self, schema: Mapping[str, Any], name: str = "") -> Any:
        """A value that fits `schema`, of the property `name`."""
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
        return text[: schema.get("maxLength", len(text))]

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema behind references and alternatives; the first that is not null."""
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
    """Main point and words of each step; the words add up to the length that the prompt asks for.

    That is the total length where the prompt names one, else the largest length that it names, as
    in upstream's prompt.
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


def _language(text: str) -> str:
    """The language that most of `text` is in: "en" or "zh"."""
    han = len(_HAN.findall(text))
    return "zh" if han > len(TOKEN.findall(text)) - han else "en"


def _language_of_instruction(prompt: str) -> str:
    """AgentWrite's own prompts are in English, so any Chinese comes from the instruction."""
    return "zh" if _HAN.search(prompt) else "en"
