"""Where lm-eval does not hand a task what it needs: reading it, and leaving it, with care."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

from longwriter_core.errors import InputError


def find_in_lm_eval_stack(name: str, kind: type = object) -> Any:
    """The local variable `name` of the nearest lm-eval function below us on the stack, or None.

    lm-eval tells a task neither which model will run it nor, in 0.4.11, the --metadata; both are
    needed before the first token is generated.
    """
    frame = sys._getframe(1)
    while frame := frame.f_back:  # type: ignore[assignment]
        if str(frame.f_globals.get("__name__")).startswith("lm_eval."):
            value = frame.f_locals.get(name)
            if value is not None and isinstance(value, kind):
                return value
    return None


@contextlib.contextmanager
def one_clear_line() -> Iterator[None]:
    """Under the lm_eval command, end on an InputError's message and exit code 2, no traceback."""
    try:
        yield
    except InputError as error:
        program = Path(sys.argv[0])  # …/bin/lm_eval, or …/lm_eval/__main__.py
        if not {"lm_eval", "lm-eval"} & {program.stem, program.parent.name}:
            raise
        print(f"longwriter: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


class RecordedAnswers(LM):  # type: ignore[misc]
    """A model that gives the answers of an earlier run.

    `answers` and `cut_off` (those that the run found to be) go by task and prompt id.
    """

    def __init__(
        self, answers: Mapping[tuple[str, str], str], cut_off: Set[tuple[str, str]]
    ) -> None:
        super().__init__()
        self._answers = answers
        self.cut_off = cut_off

    def generate_until(self, requests: Any, **_: Any) -> list[str]:
        """The recorded answer to each request."""
        return [self._answers[request.task_name, request.doc["id"]] for request in requests]

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        """Not recorded."""
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def output_folder() -> Path | None:
    """Where lm-eval will write this run's samples, or None where it will not."""
    tracker = find_in_lm_eval_stack("evaluation_tracker")
    if not find_in_lm_eval_stack("log_samples") or not getattr(tracker, "output_path", None):
        return None
    path = Path(tracker.output_path)
    if path.suffix == ".json":
        return path.parent
    return path / str(tracker.general_config_tracker.model_name_sanitized)


def model_record() -> dict[str, Any]:
    """What lm-eval will write of the model into this run's results, under the same names."""
    model, tracker = find_in_lm_eval_stack("model"), find_in_lm_eval_stack("evaluation_tracker")
    general = getattr(tracker, "general_config_tracker", None)
    return {
        "config": {
            "model": model if isinstance(model, str) else type(model).__name__,
            "model_args": find_in_lm_eval_stack("model_args") or {},
            "gen_kwargs": find_in_lm_eval_stack("gen_kwargs"),
        },
        "model_name": getattr(general, "model_name", None),
        "date": time.time(),
    }


def count_tokens(lm: Any, text: Any) -> int | None:
    """How many tokens the backend's own tokenizer makes of `text`; None where it has none."""
    if not isinstance(text, str) or getattr(lm, "tokenizer", None) is None:
        return None
    encoded = lm.tok_encode(text)
    return len(encoded) if isinstance(encoded, list) else None
