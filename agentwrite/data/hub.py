"""Push a finished data set to the hub, with its card. The token is the hub library's own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agentwrite.data.mix import beside
from longwriter_core.errors import InputError

_T = TypeVar("_T")


class HubDataset:
    """A dataset repository, which is created, private by default, before any work is done."""

    def __init__(self, name: str, *, public: bool = False) -> None:
        """Create the repository if it does not exist. Raises InputError if that fails."""
        from huggingface_hub import HfApi

        self.name = name
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        url = self._try(
            "create",
            lambda: self._api.create_repo(
                name, repo_type="dataset", private=not public, exist_ok=True
            ),
        )
        self.url = str(url)

    def push(self, output: Path) -> None:
        """Upload the rows, the card and the histogram in one commit. The rejects stay here.

        Raises InputError if that fails; the files stay where they are.
        """
        from huggingface_hub import CommitOperationAdd

        card, picture = beside(output, ".md"), beside(output, ".png")
        files = {output.name: output, "README.md": card, picture.name: picture}
        operations = [
            CommitOperationAdd(name, path) for name, path in files.items() if path.exists()
        ]
        self._try(
            "push to",
            lambda: self._api.create_commit(
                self.name, operations, commit_message=f"Add {output.name}", repo_type="dataset"
            ),
        )

    def _try(self, verb: str, call: Callable[[], _T]) -> _T:
        import httpx
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            return call()
        except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError, ValueError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"cannot {verb} the dataset {self.name!r} on the hub ({line}): check the name "
                "OWNER/NAME and the token (hf auth login, or HF_TOKEN)"
            ) from error
