"""The chat template that a recipe gives its model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longwriter_train import recipes


def chat_template(recipe: Mapping[str, Any]) -> str:
    """Return the text of a recipe's template: a file of the recipes, or one of axolotl's own."""
    if file := recipe.get("chat_template_jinja"):
        return Path(recipes.folder().parent / file).read_text(encoding="utf-8")
    from axolotl.utils.chat_templates import get_chat_template

    template: str = get_chat_template(recipe["chat_template"])
    return template
