"""Special tokens are removed wherever a backend leaves them; the text itself is unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.text.length import count_words
from longwriter_core.text.special_tokens import strip_special_tokens


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("Once.<|eot_id|>", id="Llama-3"),
        pytest.param("<|start_header_id|>assistant<|end_header_id|>\n\nOnce.", id="Llama-3-header"),
        pytest.param("<|begin_of_text|>Once.<|end_of_text|>", id="Llama-3-base"),
        pytest.param("[gMASK]<sop>Once.<|user|>", id="GLM-4"),
        pytest.param("Once.<|im_end|>\n<|endoftext|>", id="Qwen"),
        pytest.param("<｜begin▁of▁sentence｜>Once.<｜end▁of▁sentence｜>", id="DeepSeek"),
        pytest.param("<s> Once.</s>", id="Llama-2"),
        pytest.param("<bos>Once.<end_of_turn>\n<eos>", id="Gemma"),
        pytest.param("Once.</s><pad><pad> <pad>", id="padding"),
        pytest.param("<|user|> <s> <|eot_id|> Once. </s>\n<|eot_id|>", id="mixed"),
        pytest.param("  Once.\n", id="none"),
    ],
)
def test_special_tokens_and_outer_blanks_are_removed(raw: str) -> None:
    assert strip_special_tokens(raw) == "Once."


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("A tag <s>struck</s> through.", id="HTML-inside"),
        pytest.param("Set <pad> and <eos> first.", id="padding-named-in-prose"),
        pytest.param("if a <| b and c |> d", id="operators"),
        pytest.param("a < b | c > d", id="comparison"),
        pytest.param("<b>Bold</b>", id="other-tags"),
        pytest.param("[MASK] and [INST]", id="brackets"),
        pytest.param("第一段。\n\n　　第二段。", id="Chinese-indents"),
    ],
)
def test_similar_looking_text_is_kept(text: str) -> None:
    assert strip_special_tokens(text) == text


def test_a_token_in_the_middle_is_removed_without_its_blanks() -> None:
    assert strip_special_tokens("One. <|eot_id|> Two.") == "One.  Two."


def test_the_names_in_special_tokens_do_not_count_as_words() -> None:
    assert count_words("Once upon a time.<|user|>") == 5
    assert count_words(strip_special_tokens("Once upon a time.<|user|>")) == 4


@given(st.text(alphabet=st.characters(exclude_characters="<[")))
def test_text_without_special_tokens_only_loses_outer_blanks(text: str) -> None:
    assert strip_special_tokens(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" + "</s> " * 50_000 + "x", "x" + "</s> " * 50_000 + "x"),
        ("<|" * 100_000, "<|" * 100_000),
        ("<s>" + " " * 200_000 + "x", "x"),
    ],
    ids=["long-run-inside", "openings-only", "blanks"],
)
def test_long_runs_are_read_to_the_end(text: str, expected: str) -> None:
    assert strip_special_tokens(text) == expected  # scripts/bench_text.py measures the time
