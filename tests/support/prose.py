"""Prose, and run folder rows that contain it."""

import json
from pathlib import Path
from typing import Any

from longwriter_core.mock_server.prose import prose


def text_row(id: str, text: str, required: int | None = 2_000, **fields: Any) -> dict[str, Any]:
    """A row of texts.jsonl, with the fields that `sft` reads."""
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


__all__ = ["prose", "read_jsonl", "text_row", "write_rows"]
