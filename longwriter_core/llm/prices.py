"""What calls cost, by the list prices in prices.toml. Other prices: LONGWRITER_PRICES=FILE.

The file has the form of ours; what it names wins, and all else stays:

    [mine.models]
    "my-model" = [0.10, 0.40]    # USD per million tokens: prompt, completion
"""

import os
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError

# gpt-4.1-2025-04-14 and claude-haiku-4-5-20251001 cost what their model costs, unless listed.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$|-\d{8}$")


def cost(model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """USD for so many tokens of `model`, by its name at the endpoint; None where no price is known.

    Raises InputError where LONGWRITER_PRICES names a file that cannot be used.
    """
    prices = _prices(os.environ.get("LONGWRITER_PRICES", ""))
    price = prices.get(model) or prices.get(_SNAPSHOT.sub("", model))
    if price is None:
        return None
    return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6


def money(usd: float | None) -> str:
    """An amount for people to read, such as $1,234.50 or $0.0042; "" where it is unknown."""
    if usd is None:
        return ""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.1 else f"${usd:.2g}"


@cache
def _prices(path: str) -> dict[str, tuple[float, float]]:
    prices = _read((files("longwriter_core.llm") / "prices.toml").read_text(encoding="utf-8"))
    if path:
        try:
            prices |= _read(Path(path).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read LONGWRITER_PRICES={path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(
                f"LONGWRITER_PRICES={path}: {error}; it must look like\n"
                '[mine.models]\n"my-model" = [0.10, 0.40]'
            ) from error
    return prices


def _read(text: str) -> dict[str, tuple[float, float]]:
    """Raises ValueError for what is not a price list."""
    prices: dict[str, tuple[float, float]] = {}
    for provider, table in tomllib.loads(text).items():
        models: Any = table.get("models") if isinstance(table, dict) else None
        if not isinstance(models, dict):
            raise ValueError(f"there is no table [{provider}.models]")
        for model, price in models.items():
            match price:
                case [int() | float() as prompt, int() | float() as completion] if (
                    prompt >= 0 and completion >= 0
                ):
                    prices[model] = (prompt, completion)
                case _:
                    raise ValueError(f"the price of {model!r} is not two numbers from 0")
    return prices
