"""The language of prompts and texts: English or Chinese by script, others by py3langid."""

import subprocess
import sys

import py3langid
import pytest

from longwriter_core.benchmarks import read_prompts
from longwriter_core.text.language import _identifier, is_written_in, main_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        pytest.param("", "en", id="empty"),
        pytest.param("1234", "en", id="no-words"),
        pytest.param("A tale of 长城.", "en", id="English-naming-Chinese"),
        pytest.param("介绍 Transformer 模型", "zh", id="Chinese-naming-English"),
        pytest.param("你好 hello world", "en", id="as-many-of-each"),
    ],
)
def test_main_language_is_that_of_most_words(text: str, language: str) -> None:
    assert main_language(text) == language


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    ("benchmark", "differing"),
    [
        # upstream counts a Chinese prompt that asks for English as English, and one that is mostly
        # a quotation in English as Chinese
        ("longbench_write", ["longbench_write/012", "longbench_write/093"]),
        ("longwrite_ruler", []),
        ("longwrite_demo", []),
    ],
)
def test_the_main_language_of_benchmark_prompts(benchmark: str, differing: list[str]) -> None:
    rows = read_prompts(benchmark)
    assert [r["id"] for r in rows if main_language(r["prompt"]) != r["language"]] == differing
    assert 2 * sum(main_language(row["prompt"]) == "zh" for row in rows) == len(rows)


@pytest.mark.usefixtures("upstream")
def test_every_ruler_and_demo_prompt_is_detected_as_its_own_language() -> None:
    for row in (*read_prompts("longwrite_ruler"), *read_prompts("longwrite_demo")):
        assert is_written_in(row["prompt"], row["language"]), row["id"]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Tea is a drink.", "en", True),
        ("茶是一种饮料。", "zh", True),
        ("茶是一种饮料。", "en", False),
        ("Le thé est une boisson.", "en", False),
        ("Der Tee ist ein Getränk, das man heiß trinkt.", "en", False),
        ("Чай — это напиток.", "en", False),
        ("灯台守の小説を5000字で書いてください。", "zh", False),
        ("海港의 등대", "zh", False),
        ("繁體中文的一段文字，描寫海港與燈塔。", "zh", True),
        ("Chá (茶, tea) is a drink.", "en", True),
        ("def f(x): return x + 1\n" * 20, "en", True),
        ("kaban lodo mies tufan " * 50, "en", True),
        ("1. 2. 3.", "zh", True),
        ("", "en", True),
    ],
)
def test_whether_a_text_is_written_in_a_language(text: str, language: str, expected: bool) -> None:
    assert is_written_in(text, "zh" if language == "zh" else "en") is expected


def test_the_detector_is_loaded_on_first_use() -> None:
    code = (
        "import sys, longwriter_core.text.diagnostics as d; assert 'py3langid' not in sys.modules;"
        "d.is_wrong_language('Write.', 'Tea is a drink.'); assert 'py3langid' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_MIXED = "Il était une fois, in a town by the sea, 一个小镇。 Жили-были 🦊 — naïve café. "


@pytest.mark.parametrize("bytes_more", [0, 1, 23, 24, 25])
@pytest.mark.parametrize("text", [_MIXED, "the sea was calm ", "海很平静。", "é", "1234 "])
def test_a_long_text_has_the_scores_that_py3langid_gives_it(text: str, bytes_more: int) -> None:
    long = text * (3000 // len(text.encode()) + 1) + "x" * bytes_more
    expected = dict(py3langid.rank(long))
    scores = dict(_identifier().rank(long))
    assert len(scores) > 30
    assert scores == pytest.approx({code: expected[code] for code in scores}, rel=1e-4)
