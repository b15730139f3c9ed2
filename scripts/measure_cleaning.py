"""Measure AgentWrite's cleaning: what junk it removes, and what it damages.

    python scripts/measure_cleaning.py [--labelled DIR] [--texts DIR] [--goal 0.95] [--show]

The labelled set (tests/data/cleaning) has rows {"kind", "language", "raw", "text"}, and "before"
if the text before the section matters. `text` is what must be left of the reply `raw`. Rows of the
kind "prose" contain no junk: `raw` and `text` are the same. A file's name says which half it is.

With --texts, every .txt file below DIR is treated as legitimate prose, such as novels, contracts,
recipes and screenplays. It is cut into sections of about 400 words, and each is cleaned after the
text before it: every change is damage. Every .jsonl file below DIR has rows {"raw"} with replies of
models, for which the script reports how often each rule removed something. The texts are not in the
repository: docs/write.md names those that the published numbers were measured on.

Prints Markdown tables. With --goal, exits with 1 if the recall in the unseen half is below it, or
if any prose was changed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from agentwrite.writing.clean import clean
from longwriter_core.text.length import count_words

LABELLED = Path(__file__).parents[1] / "tests" / "data" / "cleaning"
SECTION_WORDS = 400
BEFORE = 30_000  # characters of the preceding text that a section is cleaned after


def measure_labelled(folder: Path, *, show: bool = False) -> dict[tuple[str, str, str], list[int]]:
    """Map (half, "junk" or "prose", language) to [exact, total]; prints failures with `show`."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for row in _rows(path):
            kind = "prose" if row["kind"] == "prose" else "junk"
            key = path.stem, kind, row["language"]
            tally = counts.setdefault(key, [0, 0])
            cleaned = clean(row["raw"], row.get("before", ""))
            is_exact = cleaned.text == row["text"]
            tally[0] += is_exact
            tally[1] += 1
            if show and not is_exact:
                print(f"{path.stem} {row['kind']} {row['raw']!r}\n    -> {cleaned.text!r}")
    return counts


def sections(text: str) -> Iterator[str]:
    """Cut a text at line ends into sections of at least SECTION_WORDS words."""
    part: list[str] = []
    words = 0
    for line in text.splitlines():
        part.append(line)
        words += count_words(line)
        if words >= SECTION_WORDS:
            yield "\n".join(part).strip()
            part, words = [], 0
    if words:
        yield "\n".join(part).strip()


def measure_prose(path: Path, *, show: bool = False) -> Counter[str]:
    """Count the sections of a text under "", and those that a rule changed under its name."""
    counts: Counter[str] = Counter()
    before = ""
    for section in sections(path.read_text(encoding="utf-8")):
        cleaned = clean(section, before)
        counts[""] += 1
        counts.update(cleaned.counts.keys())
        if show:
            for rule, removed in cleaned.removed:
                print(f"{path.parent.name}/{path.name} {rule}: {removed[:200]!r}")
        before = f"{before}\n\n{section}"[-BEFORE:]
    return counts


def measure_replies(path: Path) -> Counter[str]:
    """Count the replies of a file under "", and those that a rule changed under its name."""
    counts: Counter[str] = Counter()
    for row in _rows(path):
        counts[""] += 1
        counts.update(clean(row["raw"]).counts.keys())
    return counts


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def by_folder(counts: dict[Path, Counter[str]], root: Path) -> dict[str, Counter[str]]:
    """Add up the counts of the files in each folder."""
    sums: dict[str, Counter[str]] = {}
    for path, count in counts.items():
        sums.setdefault(str(path.parent.relative_to(root)), Counter()).update(count)
    return sums


def main() -> int:
    """Print the tables; returns 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labelled", type=Path, default=LABELLED, metavar="DIR")
    parser.add_argument("--texts", type=Path, metavar="DIR")
    parser.add_argument("--goal", type=float, help="least recall of junk in the unseen half, 0-1")
    parser.add_argument("--show", action="store_true", help="print every failure")
    arguments = parser.parse_args()

    labelled = measure_labelled(arguments.labelled, show=arguments.show)
    if not labelled:
        sys.exit(f"no labelled replies (*.jsonl) in {arguments.labelled}")
    print("| half | kind | language | exact | replies |\n|---|---|---|---|---|")
    for (half, kind, language), (exact, total) in sorted(labelled.items()):
        print(f"| {half} | {kind} | {language} | {exact / total:.1%} | {total} |")
    damage = sum(total - exact for key, (exact, total) in labelled.items() if key[1] == "prose")
    unseen = [tally for key, tally in labelled.items() if key[:2] == ("unseen", "junk")]
    recall = sum(exact for exact, _ in unseen) / max(1, sum(total for _, total in unseen))
    if arguments.texts:
        files = sorted(arguments.texts.rglob("*.txt")), sorted(arguments.texts.rglob("*.jsonl"))
        prose = {path: measure_prose(path, show=arguments.show) for path in files[0]}
        replies = {path: measure_replies(path) for path in files[1]}
        print("\n| texts | sections | changed by |\n|---|---|---|")
        for name, count in sorted(by_folder({**prose, **replies}, arguments.texts).items()):
            changed = ", ".join(f"{rule} {n}" for rule, n in sorted(count.items()) if rule)
            print(f"| {name} | {count['']:,} | {changed or '–'} |")
        damage += sum(n for count in prose.values() for rule, n in count.items() if rule)
    if arguments.goal is None:
        return 0
    print(f"\nRecall in the unseen half: {recall:.1%}; prose damaged: {damage}")
    return int(recall < arguments.goal or damage > 0)


if __name__ == "__main__":
    sys.exit(main())
