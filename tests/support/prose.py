"""Prose of exactly so many words, and rows of a run folder that hold it."""

import json
import random
from pathlib import Path
from typing import Any

_ENGLISH = [a + b + c for a in ("ka", "lo", "mi", "tu", "re") for b in "bdfgls" for c in ("an", "o", "ip", "es")]  # fmt: skip # noqa: E501
_CHINESE = (
    "山谷灯塔书信木匠老师河流花园集市小桥邻居车站村庄船长草地钟楼水手旅人安静遥远明亮古老温柔拥挤"
)


def prose(words: int, seed: int = 0, language: str = "en") -> str:
    """Sentences without sense, and hardly any repetition, of exactly `words` words."""
    dice, sentences = random.Random(f"{words} {seed} {language}"), []
    while words > 0:
        length = min(words, dice.randint(8, 16))
        words -= length
        if language == "zh":
            sentences.append("".join(dice.choices(_CHINESE, k=length)) + "。")
        else:
            sentences.append(" ".join(dice.choices(_ENGLISH, k=length)).capitalize() + ".")
    return "\n\n".join(
        ("" if language == "zh" else " ").join(sentences[n : n + 8])
        for n in range(0, len(sentences), 8)
    )


def text_row(id: str, text: str, required: int | None = 2_000, **fields: Any) -> dict[str, Any]:
    """A row of texts.jsonl, with what `sft` reads."""
    row = {"id": id, "instruction": f"Write about {id}.", "required": required, "text": text}
    return {**row, "models": ["m-1"], "sections": [], **fields}


def write_rows(path: Path, *rows: Any) -> Path:
    """Write a JSONL file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
