"""Strict JSON from others: no NaN, no infinity, no duplicate keys, no endless numbers. Pure."""

import json
import math
import re
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.text.printable import printable

_MAX_SIZE = 16 << 20  # bytes
_MAX_DIGITS = 18
_MAX_DEPTH = 16
# JSON outside of strings. This limits the number of values, since each takes a hundred times its
# length in memory. A line with 64 verdicts has 9,000 bytes outside of strings.
_MAX_STRUCTURE = 64 << 10
# An unterminated string matches up to the end of the data: otherwise the search would start again
# at every quote inside it, which takes quadratic time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def parse(data: bytes, where: str) -> Any:
    """The value of strict JSON text. Raises InputError, which names `where` it stands."""
    if len(data) > _MAX_SIZE:
        raise InputError(f"{where} has {len(data)} bytes; the limit is {_MAX_SIZE}")
    if len(data) > _MAX_STRUCTURE and len(_STRINGS.sub(b"", data)) > _MAX_STRUCTURE:
        raise InputError(f"{where} has far too many values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
            object_pairs_hook=_no_duplicates,
        )
        # JSON can escape a lone surrogate, which cannot be encoded
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        _check_depth(value)
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{where} contains a lone surrogate") from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({printable(error)})") from error
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"duplicate key {printable(name)!r}")
        value[name] = item
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (
                outer.values() if isinstance(outer, dict)
                else outer if isinstance(outer, list) else ()
            )
        ]  # fmt: skip
    raise RecursionError
