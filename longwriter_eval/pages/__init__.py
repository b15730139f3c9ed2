"""Self-contained HTML pages: one file, no request to others, and only this package's script.

A page is a template in this folder that extends base.html, and scripts. Values come from models
and from other people, so jinja2's autoescape is on, and the content security policy allows only
our scripts, identified by their hash, and forbids requests to other servers.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from longwriter_core.text.printable import printable

# Colour -> its value in the light and in the dark theme. Against `page` and `panel`, text has a
# contrast of at least 4.5 and marks of at least 3 (WCAG 2.1 AA). Runs also differ in shape. Scores
# run from orange over grey to blue, which colour-blind readers can tell apart.
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

_FOLDER = Path(__file__).parent


def label(text: object) -> str:
    """A name for display: printable, and at most 120 characters."""
    return printable(text, 120)


def json_for_script(value: Any) -> str:
    """JSON that is safe inside a script element: it contains no character that could end one."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render(
    template: str, scripts: Sequence[str], values: Mapping[str, Any], *, is_served: bool = False
) -> str:
    """The page from `template` and `scripts`, files in this folder, filled with `values`.

    A page that `is_served` may ask its own server; others make no request.
    """
    code = "".join(map(_read, ("theme.js", *scripts)))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            script=Markup(code),
            style=Markup(_colours() + _read("page.css")),
            policy="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            f"form-action 'none'; script-src 'sha256-{digest}'"
            + ("; connect-src 'self'" if is_served else ""),
        )
    )


def _read(name: str) -> str:
    # use the browser's line endings, or the script's hash would not match
    return (_FOLDER / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _colours() -> str:
    """The palette as CSS custom properties: the system's theme, or the one chosen by button."""
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
