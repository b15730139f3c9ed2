"""Names that could be mistaken for others are refused or marked."""

from pathlib import Path

import pytest
from support.submissions import repacked, submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_eval.leaderboard.board_page import stated_by
from longwriter_eval.submission.names import marked_scripts, name_problem
from longwriter_eval.submission.verification import verify_file

GOOD = (
    "glm-4-9b",
    "zai-org/LongWriter-9B (DPO)",
    "通义千问-72B",
    "Qwen 2.5 写作",
    "ミストラル",
    "é-model",
)


@pytest.mark.parametrize("name", GOOD)
def test_ordinary_names_are_accepted_without_a_mark(name: str) -> None:
    assert name_problem(name) is None
    assert marked_scripts(name) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("gpt\u200b-4o", id="zero-width-space"),
        pytest.param("gpt\u00ad-4o", id="soft-hyphen"),
        pytest.param("\u202eo4-tpg", id="right-to-left-override"),
        pytest.param("gpt\u2066-4o", id="isolate"),
        pytest.param("gpt\ufe0f-4o", id="variation-selector"),
        pytest.param("gpt\u034f-4o", id="grapheme-joiner"),
        pytest.param("gpt\U000e0041-4o", id="tag"),
        pytest.param("gpt\u3164-4o", id="hangul-filler"),
        pytest.param("ｇｐｔ-4o", id="full-width"),
        pytest.param("𝗀𝗉𝗍-4o", id="mathematical-letters"),
        pytest.param("gpt‑4o", id="other-hyphen"),
        pytest.param("e\u0301-model", id="decomposed"),
        pytest.param("gpt  4o", id="two-blanks"),
        pytest.param("gpt\u00a04o", id="no-break-space"),
        pytest.param(" gpt", id="leading-blank"),
        pytest.param("gpt\n4o", id="line-break"),
    ],
)
def test_names_that_look_like_others_are_refused(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize(
    ("name", "scripts"),
    [
        ("gрt-4o", ["Cyrillic"]),  # the second letter
        ("сора", ["Cyrillic"]),  # every letter
        ("gpt-4ο", ["Greek"]),
        ("ԁeepseek", ["Cyrillic"]),
        ("Ꮃriter", ["Cherokee"]),
        ("نموذج", ["Arabic"]),
    ],
)
def test_letters_that_look_like_latin_ones_are_marked(name: str, scripts: list[str]) -> None:
    assert name_problem(name) is None
    assert marked_scripts(name) == scripts


def test_a_submission_with_such_a_name_is_not_verified(tmp_path: Path) -> None:
    path = submitted(tmp_path, "mine")
    manifest, samples = unpacked(path)
    for place, name in (("submitter", "a  b"), ("model", "ｇｐｔ"), ("judge", "ｊ")):
        changed = {**manifest}
        if place == "submitter":
            changed["submitter"] = name
        elif place == "model":
            changed["model"] = {**manifest["model"], "id": {"value": name, "source": "submitter"}}
        else:
            (judge,) = manifest["judge"]["judges"]
            named = {**judge, "returned": name, "requested": name}
            changed["judge"] = {**manifest["judge"], "judges": [named]}
        path.write_bytes(repacked(changed, samples))
        try:
            problems = " ".join(verify_file(path).problems)
        except InputError as error:
            problems = str(error)
        assert "could be mistaken for another" in problems


@pytest.mark.parametrize(
    ("source", "endpoint", "expected"),
    [
        ("run", None, ""),
        ("run", "api.openai.com", ""),
        ("run", "private", "a private endpoint"),
        ("submitter", "private", "the submitter"),
        ("submitter", None, "the submitter"),
    ],
)
def test_a_name_from_a_private_endpoint_is_stated(
    source: str, endpoint: str | None, expected: str
) -> None:
    entry = {"model": {"id": {"value": "m", "source": source}}, "backend": {"endpoint": endpoint}}
    assert stated_by(entry) == expected
