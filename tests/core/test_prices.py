"""What calls cost: the list, snapshots of a model, unknown models, and a list of one's own."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from longwriter_core.errors import InputError
from longwriter_core.llm.prices import cost, money

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o", 12.50),
        ("gpt-4o-2024-05-13", 20.00),
        ("gpt-4o-2024-08-06", 12.50),
        ("gpt-4o-mini-2024-07-18", 0.75),
        ("claude-haiku-4-5-20251001", 6.00),
        ("gpt-4o-audio-preview", None),
        ("my-own-model", None),
        ("gpt-4", 90.00),
    ],
)
def test_a_model_and_its_dated_snapshots_have_a_price_and_others_none(
    model: str, usd: float | None
) -> None:
    assert cost(model, MILLION, MILLION) == usd


def test_prompt_and_completion_are_priced_apart() -> None:
    assert cost("gpt-4o-2024-05-13", 2_000, 100) == pytest.approx(0.0115)


def test_every_list_has_its_source_and_date() -> None:
    lists = tomllib.loads(
        (files("longwriter_core.llm") / "prices.toml").read_text(encoding="utf-8")
    )
    assert lists
    for provider in lists.values():
        assert provider["source"].startswith("https://")
        assert provider["as_of"].year >= 2026
        assert provider["models"]


def test_a_list_of_ones_own_wins_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('[mine.models]\n"gpt-4o" = [1, 2]\n"my-own-model" = [0, 0.5]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
    assert cost("gpt-4o", MILLION, MILLION) == 3
    assert cost("my-own-model", MILLION, MILLION) == 0.5
    assert cost("gpt-4.1", MILLION, MILLION) == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read"),
        ("[mine", "Expected"),
        ('"my-model" = [1, 2]', "no table"),
        ('[mine.models]\n"my-model" = 1', "not two numbers"),
        ('[mine.models]\n"my-model" = [1, -2]', "not two numbers"),
    ],
)
def test_a_list_that_cannot_be_used_is_bad_input(
    text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
    with pytest.raises(InputError, match=says):
        cost("gpt-4o", 1, 1)


def test_money_is_readable_from_fractions_of_a_cent_to_thousands() -> None:
    assert [money(usd) for usd in (0, 0.00421, 0.5, 1234.5, None)] == [
        "$0.00", "$0.0042", "$0.50", "$1,234.50", "",
    ]  # fmt: skip
