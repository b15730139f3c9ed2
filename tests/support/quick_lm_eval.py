"""The `lm_eval` command, restricted to this project's tasks.

lm-eval takes ten seconds per start to index the thousands of tasks that it includes. Everything
else is unchanged. tests/eval/test_tasks.py and tests/test_documents.py start the real command.
"""

import sys
from typing import Any

import lm_eval.tasks
from lm_eval.__main__ import cli_evaluate

_init = lm_eval.tasks.TaskManager.__init__


def _index_ours(self: Any, *arguments: Any, **options: Any) -> None:
    _init(self, *arguments, **{**options, "include_defaults": False})


if __name__ == "__main__":
    lm_eval.tasks.TaskManager.__init__ = _index_ours
    sys.argv[0] = "lm_eval"
    cli_evaluate()
