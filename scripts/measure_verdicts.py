"""Measure how judges' replies are read: honest verdicts rejected, and planted ones accepted.

    python scripts/measure_verdicts.py [--list] [SET…]

`tests/data/verdict_replies.jsonl` holds labelled replies in two sets. The rules of
longwriter_eval/judge/verdict.py were mended on the first and not on the second.
"""

import argparse
import json
from pathlib import Path

from longwriter_eval.judge.verdict import read_verdict

REPLIES = Path(__file__).parents[1] / "tests" / "data" / "verdict_replies.jsonl"


def main() -> None:
    """Print a line per set; with --list, the ids of the errors too."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name every error")
    parser.add_argument("sets", nargs="*", metavar="SET", help="first, second [default: both]")
    options = parser.parse_args()
    rows = [json.loads(line) for line in REPLIES.read_text("utf-8").split("\n") if line]
    for name in options.sets or dict.fromkeys(row["set"] for row in rows):
        errors: dict[str, list[str]] = {"rejected": [], "misread": [], "accepted": []}
        of_set = [row for row in rows if row["set"] == name]
        for row in of_set:
            scores = read_verdict(row["reply"], row["response"])
            read = list(scores.values()) if scores else None
            if read != row["scores"]:
                kind = "rejected" if not read else "misread" if row["scores"] else "accepted"
                errors[kind].append(row["id"])
        honest = sum(row["scores"] is not None for row in of_set)
        print(
            f"{name}: {honest} honest, {len(errors['rejected'])} rejected and "
            f"{len(errors['misread'])} misread; {len(of_set) - honest} planted or without a "
            f"verdict, {len(errors['accepted'])} accepted"
        )
        if options.list:
            print(*(f"  {kind}: {id}" for kind, ids in errors.items() for id in ids), sep="\n")


if __name__ == "__main__":
    main()
