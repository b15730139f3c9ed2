"""Self-contained HTML pages: one file, no network, nothing in it runs but our own script.

A page is a template beside this file that extends base.html, and a script. Values come from models
and from other people: autoescape makes them text, and the content security policy names the one
script that may run, by its hash, and forbids every request.
"""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

# Colour -> its value on a light and on a dark page. Text has a contrast of 4.5 or more against
# `page` and `panel`, marks of 3 or more; runs differ in shape too. Scores run from orange over grey
# to blue, which the colour-blind can tell apart.
PALETTE = {
    "page": ("#ffffff", "#15171a"),
    "panel": ("#f5f5f3", "#1e2125"),
    "ink": ("#1b1c1e", "#e9e7e3"),
    "muted": ("#5c6166", "#a4a9af"),
    "rule": ("#dcdcd9", "#373b41"),
    "accent": ("#0a5cab", "#7fb8f2"),
    "warning": ("#9a3b00", "#f5a25d"),
    "highlight": ("#ffe7a3", "#574300"),
    "run-1": ("#0a6ab0", "#5fb2ea"),
    "run-2": ("#c04a0c", "#f08c4f"),
    "run-3": ("#0b7a5c", "#3fc198"),
    "run-4": ("#8a4a9e", "#cf9be0"),
    "run-5": ("#7a6200", "#d9bb45"),
    "run-6": ("#55595e", "#b9bec4"),
    "score-1": ("#a83c00", "#ff7a33"),
    "score-2": ("#c17433", "#dcb48c"),
    "score-3": ("#87898c", "#999c9f"),
    "score-4": ("#4d86b8", "#9cc3e6"),
    "score-5": ("#0b4a8f", "#3d9bff"),
}

_HERE = Path(__file__).parent
_LABEL = 120  # characters


def plain(text: object) -> str:
    """`text` on one line: whatever would break it, hide in it or turn it around is shown as �.

    For names and settings, which stand among our own words; a response stays as it is.
    """
    return "".join(
        "�" if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else each
        for each in str(text)
    )


def label(text: object) -> str:
    """`plain` and short: no name fills the page."""
    shown = plain(text)
    return shown if len(shown) <= _LABEL else shown[: _LABEL - 1] + "…"


def json_for_script(value: Any) -> str:
    """JSON that may stand inside a script element: no character in it can end one."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render(template: str, script: str, values: Mapping[str, Any]) -> str:
    """The page that `template` makes of `values`, with `script`; both are files beside this one."""
    code = read("theme.js") + read(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            script=Markup(code),
            style=Markup(_colours() + read("page.css")),
            policy="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            f"form-action 'none'; script-src 'sha256-{digest}'",
        )
    )


def read(name: str) -> str:
    """A file beside this one, with line ends as a browser sees them."""
    return (_HERE / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _colours() -> str:
    """The palette as custom properties: the reader's theme, unless the page's button says else."""
    light, dark = (
        "".join(f"--{name}:{values[theme]};" for name, values in PALETTE.items())
        for theme in (0, 1)
    )
    return (
        f":root{{color-scheme:light;{light}}}\n"
        "@media (prefers-color-scheme:dark){"
        f":root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )
