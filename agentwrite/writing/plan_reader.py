"""Read a plan from the text of a model's reply. Pure.

The paper's format (arXiv 2408.07055, section 3.1) has one line per step:

    Paragraph 1 - Main Point: Why harbours silt up - Word Count: 400 words

Models also return numbered, translated, bulleted, bold or multi-line steps, tables, JSON and YAML;
this module reads all of these. Ambiguous plans are rejected with a reason, because a misread plan
costs a whole text and a retry costs one call.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from agentwrite.writing.plan import Level, Plan, fit_plan
from agentwrite.writing.plan_lines import MERGED, plain_line, read_lines
from agentwrite.writing.plan_targets import TOTAL, Steps, Unclear, read_cell, shortened
from longwriter_core.llm import Rejected
from longwriter_core.text.numbers import narrow
from longwriter_core.text.thinking import without_thinking

_FINAL = re.compile(
    r"\b(?:final|revised|updated|improved|corrected)\b[^.\n]{0,30}:\W*$"
    r"|(?:最终|修订|修改后|调整后)[^。\n]{0,12}:\W*$",
    re.IGNORECASE,
)
# Names of a step's fields in tables, JSON and YAML, without spaces and punctuation.
_POINT_NAMES = re.compile(
    r"mainpoints?|mainideas?|maincontent|points?|content|description|topic|summary|主要内容|主要观点"
    r"|中心思想|主旨|要点|核心内容|内容要点|内容|主题"
)
_WORDS_NAMES = re.compile(
    r"wordcounts?|words?|(?:target)?wordcount|targetwords|wordtarget|targetlength|target|length"
    r"|字数|字数要求|目标字数|篇幅"
)


def read_plan(
    reply: str, required: int | None = None, level: Level = "Paragraph"
) -> Plan | Rejected:
    """Read the plan in a reply and fit it to the required length with `fit_plan`.

    Returns Rejected with "no_plan" if there is no plan, and with "unclear_plan" if its steps or
    their targets are ambiguous.
    """
    text = _after_draft(without_thinking(reply))
    try:
        steps = _read_data(text)
        if steps is None:
            steps = _read_table(text)
        if steps is None:
            steps = [step for step in read_lines(text, level) if step[0] or step[1]]
    except Unclear as unclear:
        return Rejected("unclear_plan", str(unclear))
    if not steps:
        return Rejected("no_plan", f"no steps in {shortened(text)}")
    return fit_plan(steps, required, level)


def _after_draft(text: str) -> str:
    """Return the text after the last line such as "Final plan:", or the whole text."""
    lines = text.splitlines()
    finals = [n for n, line in enumerate(lines) if _FINAL.search(narrow(plain_line(line)))]
    rest = "\n".join(lines[finals[-1] + 1 :]) if finals else ""
    return rest if rest.strip() else text


# JSON and YAML


def _read_data(text: str) -> Steps | None:
    """Return the steps of a plan in JSON or YAML; None if the reply is neither."""
    import yaml

    fenced = re.findall(r"```[ \t]*(\w*)[ \t]*\n(.*?)(?:\n```|\Z)", text, re.DOTALL)
    kind, body = fenced[0] if len(fenced) == 1 else ("", text)
    body = body.strip()
    if body.startswith(("{", "[{", "[\n")) or kind == "json":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            if body.startswith("{") or kind == "json" or '"' in body[:80]:
                raise Unclear(f"broken JSON ({error})") from error
            return None
        return _steps_of(data)
    first = body.partition("\n")[0]
    looks_like_yaml = re.fullmatch(r"[\w ]+:\s*|-\s+[\w ]+:\s.*", first) and re.search(
        r"^\s+[\w ]+:\s", body, re.MULTILINE
    )
    if kind not in ("yaml", "yml") and not looks_like_yaml:
        return None
    try:
        return _steps_of(yaml.safe_load(body))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if not kind:
            return None  # lines that begin like YAML: "Here is the plan:"
        raise Unclear("broken YAML") from error


def _steps_of(data: Any) -> Steps:
    """Return the steps in a list of objects, or in the only such list of an object."""
    if isinstance(data, Mapping):
        lists = [value for value in data.values() if _is_rows(value)]
        inner = [value for value in data.values() if isinstance(value, Mapping)]
        if not lists and len(inner) == 1:  # {"plan": {"steps": […]}}
            return _steps_of(inner[0])
        if len(lists) != 1:
            raise Unclear(f"{len(lists)} lists of steps in the data")
        data = lists[0]
    if not _is_rows(data):
        raise Unclear("data without a list of steps")
    steps: Steps = []
    for row in data:
        names = {re.sub(r"[\W_]", "", str(name)).lower(): value for name, value in row.items()}
        points = [value for name, value in names.items() if _POINT_NAMES.fullmatch(name)]
        words = [value for name, value in names.items() if _WORDS_NAMES.fullmatch(name)]
        if len(points) != 1 or not isinstance(points[0], str) or len(words) > 1:
            raise Unclear("a step without one main point and one word count")
        if any(_is_rows(value) for value in row.values()):
            raise Unclear("steps within steps")
        steps.append((" ".join(points[0].split()), read_cell(str(words[0])) if words else None))
    if len({words is None for _, words in steps}) > 1:
        raise Unclear("only some steps have a word count")
    return steps


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, Mapping) for x in value)


# Tables


def _read_table(text: str) -> Steps | None:
    """Return the steps in a Markdown table, by its column names; None if there is no table."""
    lines = text.splitlines()
    rules = [n for n, line in enumerate(lines) if "-" in line and re.fullmatch(r"[\s|:\-]+", line)]
    rules = [n for n in rules if n and "|" in lines[n]]
    if not rules:
        return None
    if len(rules) > 1:
        raise Unclear("more than one table")
    names = [re.sub(r"[\W_]", "", name).lower() for name in _cells(lines[rules[0] - 1])]
    points = [n for n, name in enumerate(names) if _POINT_NAMES.fullmatch(name)]
    words = [n for n, name in enumerate(names) if _WORDS_NAMES.fullmatch(name)]
    if len(points) != 1 or len(words) != 1:
        raise Unclear(f"a table with the columns {', '.join(names)}")
    steps: Steps = []
    for line in lines[rules[0] + 1 :]:
        if "|" not in line:
            break
        cells = _cells(line)
        if any(TOTAL.match(narrow(cell)) for cell in cells):
            continue
        if len(cells) != len(names) or any(MERGED.match(f"{narrow(c)}.") for c in cells):
            raise Unclear(f"a row with other columns: {shortened(line)}")
        steps.append((cells[points[0]], read_cell(cells[words[0]])))
    return steps


def _cells(line: str) -> list[str]:
    return [cell.strip(" \t*`[]") for cell in line.strip().strip("|").split("|")]
