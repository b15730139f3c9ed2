"""Measure the search for benchmark prompts in training data: recall, false hits, and speed.

    longwriter assets --fetch
    python scripts/measure_overlap.py [--texts DIR] [--goal 0.95] [--rows 186000] [--show]

Each benchmark prompt is changed in six ways and put into a message. Half of the prompts are the
seen half, which the thresholds were chosen on; the unseen half has other seeds, and other words as
replacements. A half of a prompt counts only if it has 14 Chinese characters, or 7 words: a shorter
one is a common phrase.

False hits are counted in two kinds of texts. Prompts that have the sentence of a benchmark prompt
and another topic (tests/data/overlap) are the hardest. With --texts, every .txt file below DIR is
cut into passages of about 400 words, and each line of a .jsonl file with the field "prompt" is one
text. They are not in the repository: recipes/README.md names those of the published numbers.

With --rows, measures the time to check that many rows, on two processes, with user messages made of
the --texts: 3 turns of 200 characters on average.

Prints Markdown. With --goal, exits with 1 if a recall of the unseen half is below it, or if a text
of --texts is a hit.
"""

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from bench_table import machine
from measure_cleaning import sections

from longwriter_core.overlap import PromptIndex, benchmark_prompts

OTHER_PROMPTS = Path(__file__).parents[1] / "tests" / "data" / "overlap" / "other_prompts.jsonl"
HAN = re.compile("[\u4e00-\u9fff]")
LOOK_ALIKES = str.maketrans("aceopxyiABCEHKMOPTXsj", "асеорхуіАВСЕНКМОРТХѕј")
# The words that replace others: (Chinese, English) of the seen and of the unseen half.
WORDS = {
    "seen": (
        "时间 问题 公司 工作 市场 孩子 方法 生活 经济 社会 技术 音乐 天气 故事 老师",
        "time company window garden simple market quickly teacher river often school",
    ),
    "unseen": (
        "医院 朋友 颜色 飞机 冬天 价格 海洋 农民 安静 突然 早晨 努力 桥梁 温度 邻居",
        "hospital friend colour plane winter price ocean farmer quiet sudden morning",
    ),
}
CHATTER = {True: "你好，我下周一要交作业，可是完全没有思路，请帮帮我。", False: "Hi! I am stuck. "}
SHORTEST_HALF = {True: 14, False: 7}  # Chinese characters, words
WORKERS = 2


def is_chinese(text: str) -> bool:
    """Return whether a prompt has more Chinese characters than Latin words."""
    return len(HAN.findall(text)) > len(re.findall("[A-Za-z]+", text))


def replace_words(text: str, dice: random.Random, half: str) -> str:
    """A fifth of the words replaced. A Chinese word is taken to have two characters."""
    chinese = is_chinese(text)
    pattern = r"[\u4e00-\u9fff]{1,2}|[^\u4e00-\u9fff]" if chinese else r"\S+|\s+"
    parts = re.findall(pattern, text)
    words = [at for at, part in enumerate(parts) if (HAN.match(part) if chinese else part.strip())]
    for at in dice.sample(words, round(len(words) / 5)):
        parts[at] = dice.choice(WORDS[half][0 if chinese else 1].split())
    return "".join(parts)


def cut(start: float) -> Callable[[str, random.Random, str], str]:
    """Half of the prompt, from that share of its length on."""
    return lambda text, _dice, _half: text[int(len(text) * start) :][: (len(text) + 1) // 2]


CHANGES: dict[str, Callable[[str, random.Random, str], str]] = {
    "whole, inside a message": lambda text, _dice, _half: text,
    "a fifth of the words replaced": replace_words,
    "first half": cut(0),
    "middle half": cut(0.25),
    "second half": cut(0.5),
    "Cyrillic look-alikes": lambda text, _dice, _half: text.translate(LOOK_ALIKES),
}


def measure_recall(index: PromptIndex, *, show: bool) -> dict[tuple[str, str, str], list[int]]:
    """Map (change, language, half) to [found, total]."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for number, prompt in enumerate(benchmark_prompts().values()):
        half = ("seen", "unseen")[number % 2]
        dice = random.Random(f"{half} {number}")
        chinese = is_chinese(prompt)
        for name, change in CHANGES.items():
            text = change(prompt, dice, half)
            size = len(HAN.findall(text)) if chinese else len(text.split())
            if name.endswith("half") and size < SHORTEST_HALF[chinese]:
                continue
            found = index.find(f"{CHATTER[chinese] * 4}\n{text}\n{CHATTER[chinese]}", number)
            tally = counts.setdefault((name, "Chinese" if chinese else "English", half), [0, 0])
            tally[0] += found is not None
            tally[1] += 1
            if show and found is None:
                print(f"missed, {half}, {name}: {text!r}")
    return counts


def read_texts(folder: Path) -> Iterator[str]:
    """The passages of the .txt files and the prompts of the .jsonl files below `folder`."""
    for path in sorted(folder.rglob("*.txt")):
        yield from sections(path.read_text(encoding="utf-8", errors="replace"))
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["prompt"]


@cache
def _index() -> PromptIndex:
    return PromptIndex(benchmark_prompts())


def _search(rows: Sequence[str]) -> float:
    """Search `rows`, and return the seconds of processor time."""
    start = time.process_time()
    for row in rows:
        _index().find(row, None)
    return time.process_time() - start


def measure_speed(texts: Sequence[str], number: int) -> tuple[float, float, float]:
    """The seconds to check `number` rows, the processor time of each process, and the rows' mean
    length in characters.
    """
    dice = random.Random(1)
    rows = []
    for _ in range(number):
        turns = []
        for _ in range(3):
            text, length = dice.choice(texts), min(2000, int(dice.expovariate(1 / 200)) + 1)
            start = dice.randrange(max(1, len(text) - length))
            turns.append(text[start : start + length])
        rows.append("\n".join(turns))
    parts = [rows[start : start + 1000] for start in range(0, number, 1000)]
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(_search, [[""]] * WORKERS))  # start the processes
        start_time = time.perf_counter()
        busy = sum(pool.map(_search, parts))
        seconds = time.perf_counter() - start_time
        return seconds, busy / WORKERS, sum(map(len, rows)) / number


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=Path, help="folder with legitimate texts")
    parser.add_argument("--goal", type=float, help="least recall in the unseen half")
    parser.add_argument("--rows", type=int, default=0, help="rows to measure the speed with")
    parser.add_argument("--show", action="store_true", help="print what is missed or wrong")
    args = parser.parse_args()
    index = _index()
    counts = measure_recall(index, show=args.show)
    halves = ("seen", "unseen")
    print("| change | language | found, seen half | found, unseen half |\n|---|---|--:|--:|")
    for name in CHANGES:
        for language in ("English", "Chinese"):
            cells = [
                "{} of {}".format(*counts.get((name, language, half), [0, 0])) for half in halves
            ]
            print(f"| {name} | {language} | {cells[0]} | {cells[1]} |")
    failed = args.goal is not None and any(
        found < args.goal * total
        for (_, _, half), (found, total) in counts.items()
        if half == "unseen"
    )
    rows = [json.loads(line) for line in OTHER_PROMPTS.read_text(encoding="utf-8").splitlines()]
    hits = {
        half: sum(
            index.find(row["prompt"], None) is not None for row in rows if row["half"] == half
        )
        for half in halves
    }
    print(
        f"\nThe sentence of a benchmark prompt with another topic: {hits['seen']} of "
        f"{sum(row['half'] == 'seen' for row in rows)} hits in the seen half, {hits['unseen']} of "
        f"{sum(row['half'] == 'unseen' for row in rows)} in the unseen half."
    )
    if args.texts:
        texts = list(read_texts(args.texts))
        wrong = [(text, found) for text in texts if (found := index.find(text, None))]
        print(f"\nFalse hits in {len(texts):,} texts of {args.texts.name}: {len(wrong)}.")
        failed = failed or (args.goal is not None and bool(wrong))
        for text, found in wrong if args.show else []:
            print(f"wrong: {found.kind} {found.similarity:.2f} {found.prompt_id} in {text!r}")
        if args.rows:
            seconds, busy, length = measure_speed(texts, args.rows)
            print(
                f"\n{args.rows:,} rows of {length:.0f} characters on {WORKERS} processes: "
                f"{seconds:.1f} s, {busy:.1f} s of processor time each ({machine()})."
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
