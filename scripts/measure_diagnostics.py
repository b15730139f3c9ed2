"""Measure the diagnostics on labelled texts: precision and recall of each, by language.

    python scripts/measure_diagnostics.py [--texts DIR] [--goal 0.9] [--show] [--output FILE.md]

Reads every .jsonl file in DIR, by default the labelled set of the tests. A row is
{"text", "language", "kind", "labels", "prompt"}: `labels` names the faults of the text, `kind` is
any text, and `prompt` is needed only if it asks for a language by name. The part of a file's name
before the first underscore is the half that the file belongs to ("seen", "unseen").

Prints a Markdown table. With --goal, exits with 1 if a number in the unseen half (in any half, for
your own texts) is below it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_table import machine

from longwriter_core.text.diagnostics import diagnose

LABELLED = Path(__file__).parents[1] / "tests" / "data" / "diagnostics"
FAULTS = ("cut_off", "refusal", "to_be_continued", "wrong_language")
PROMPTS = {"en": "Write a long text about this.", "zh": "请就此写一篇长文。"}
Key = tuple[str, str, str]  # diagnostic, language, half


def count(texts: Path, *, show: bool = False) -> Counter[tuple[Key, str]]:
    """How many texts are "hit", "missed", "wrong" (found without a label) or "clear", by key.

    With `show`, prints every text that is missed or wrong. Raises SystemExit if there are no texts.
    """
    counts: Counter[tuple[Key, str]] = Counter()
    for half, row in _rows(texts):
        prompt = row.get("prompt") or PROMPTS[row["language"]]
        metrics = diagnose(prompt, row["text"]).as_dict()
        for fault in FAULTS:
            is_labelled, is_found = fault in row["labels"], metrics[fault] > 0
            outcome = ("clear", "wrong", "missed", "hit")[2 * is_labelled + is_found]
            counts[(fault, row["language"], half), outcome] += 1
            if show and outcome in ("missed", "wrong"):
                print(f"{half} {fault} {outcome} [{row['kind']}] …{row['text'][-150:]!r}")
    if not counts:
        sys.exit(f"no labelled texts (*.jsonl) in {texts}")
    return counts


def rates(counts: Counter[tuple[Key, str]], key: Key) -> tuple[float, float]:
    """Precision and recall; NaN if no text is detected or labelled, respectively."""
    hit, missed, wrong = (counts[key, outcome] for outcome in ("hit", "missed", "wrong"))
    return (
        hit / (hit + wrong) if hit + wrong else float("nan"),
        hit / (hit + missed) if hit + missed else float("nan"),
    )


def _rows(texts: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(texts.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield path.stem.partition("_")[0], json.loads(line)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path, default=LABELLED, help="folder of labelled .jsonl")
    parser.add_argument("--goal", type=float, help="exit with 1 if a number is below this")
    parser.add_argument("--show", action="store_true", help="print every text that is judged wrong")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    args = parser.parse_args()
    counts = count(args.texts, show=args.show)
    keys = sorted({key for key, _ in counts})
    lines = [
        "| diagnostic | language | half | texts | with the fault | precision | recall |",
        "|---|---|---|---|---|---|---|",
    ]
    is_below = False
    for key in keys:
        precision, recall = rates(counts, key)
        texts = sum(counts[key, outcome] for outcome in ("hit", "missed", "wrong", "clear"))
        faults = counts[key, "hit"] + counts[key, "missed"]
        lines.append(f"| {' | '.join(key)} | {texts} | {faults} | {precision:.2f} | {recall:.2f} |")
        if args.goal and (key[2] == "unseen" or args.texts != LABELLED):
            is_below |= precision < args.goal or recall < args.goal
    table = "\n".join(lines)
    print(table)
    if args.output:
        args.output.write_text(f"{machine()}\n\n{table}\n", encoding="utf-8")
    return int(is_below)


if __name__ == "__main__":
    sys.exit(main())
