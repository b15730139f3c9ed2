"""What an editable install copies: the .pth file alone. Recipes are read from the checkout."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableHook(BuildHookInterface):  # type: ignore[type-arg]
    """Keeps everything else that a wheel force-includes out of site-packages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        if version == "editable":
            hook = "longwriter_tasks.pth"
            build_data["force_include_editable"] = {f"harness_tasks/{hook}": hook}
