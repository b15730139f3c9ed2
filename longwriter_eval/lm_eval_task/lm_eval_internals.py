"""Everything that touches lm-eval's internals.

lm-eval (0.4.11 to 0.4.13) has no public way to tell a task which model will run it or where the
results go, to exit on an error without a traceback, to aggregate a group exactly, or to write valid
JSON for an unknown value. So this module reads local variables of lm-eval's functions, and extends
five of its functions. `check_internals` checks that the installed version has all of them.
"""

import atexit
import contextlib
import functools
import importlib
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.redact import redact_arguments
from longwriter_eval.lm_eval_task.aggregation import (
    Mean,
    Pooled,
    StandardError,
    pool_optional,
)
from longwriter_eval.lm_eval_task.compact_table import compact_table
from longwriter_eval.stats.estimates import DocumentValue

# Functions that this module extends or calls, and the parameters that they must have.
# 0.4.11 has the first three in evaluator_utils, later versions in metrics.
_MODULES = ("lm_eval.api.metrics", "lm_eval.evaluator_utils")
_AGGREGATING = {
    "aggregate_subtask_metrics": ("metrics", "sizes"),
    "pooled_sample_stderr": ("stderrs", "sizes"),
    "stderr_for_metric": ("metric", "bootstrap_iters"),
}
_CALLED = {
    "lm_eval.utils:make_table": ("result_dict", "column"),
    "lm_eval.loggers:EvaluationTracker.save_results_aggregated": ("results", "samples"),
    "lm_eval.loggers:EvaluationTracker.save_results_samples": ("task_name", "samples"),
    "lm_eval.tasks:TaskManager": ("metadata",),
    "lm_eval.api.task:ConfigurableTask": ("config",),
    "lm_eval.api.task:ConfigurableTask.download": (),
    "lm_eval.api.task:ConfigurableTask.build_all_requests": ("rank", "world_size"),
    "lm_eval.api.task:ConfigurableTask.override_metric": ("metric_name",),
    "lm_eval.api.task:ConfigurableTask.apply_filters": (),
    "lm_eval.api.task:ConfigurableTask.process_results": ("doc", "results"),
    "lm_eval.api.task:ConfigurableTask.aggregation": (),
    "lm_eval.api.task:ConfigurableTask.higher_is_better": (),
}
# Function of lm_eval.evaluator -> its local variables that this module reads.
_READ = {
    "evaluate": ("lm", "log_samples"),
    "simple_evaluate": ("model", "model_args", "gen_kwargs", "evaluation_tracker"),
}


def pinned_internals() -> dict[str, bool]:
    """Required lm-eval internals -> whether the installed version has them."""
    modules = [importlib.import_module(name) for name in _MODULES]
    is_present = {
        name: any(_takes(getattr(module, name, None), parameters) for module in modules)
        for name, parameters in _AGGREGATING.items()
    }
    for path, parameters in _CALLED.items():
        is_present[path.partition(":")[2]] = _takes(_resolve(path), parameters)
    evaluator = importlib.import_module("lm_eval.evaluator")
    for function, names in _READ.items():
        extended: Any = getattr(evaluator, function, None)
        code = getattr(extended and inspect.unwrap(extended), "__code__", None)
        for name in names:
            known = (*code.co_varnames, *code.co_cellvars) if code else ()
            is_present[f"{function}: {name}"] = name in known
    return is_present


def _resolve(path: str) -> Any:
    """The object at "module:name.name", or None."""
    module, _, names = path.partition(":")
    try:
        resolved: Any = importlib.import_module(module)
    except ImportError:
        return None
    for name in names.split("."):
        resolved = getattr(resolved, name, None)
    return resolved


def _takes(function: Any, parameters: Sequence[str]) -> bool:
    """Whether `function` can be called with these parameters by name."""
    if not callable(function):
        return False
    known = inspect.signature(function).parameters.values()
    return set(parameters) <= {parameter.name for parameter in known} or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in known
    )


def check_internals() -> None:
    """Raise InputError if lm-eval lacks an internal that this package needs."""
    if missing := [name for name, is_there in pinned_internals().items() if not is_there]:
        raise InputError(
            f"lm_eval {version('lm_eval')} is not supported, it lacks {', '.join(missing)}: "
            'pip install "lm_eval>=0.4.11,<=0.4.13"'
        )


def patch_lm_eval() -> None:
    """Make lm-eval aggregate groups exactly, write valid JSON, and print the paper's table last.

    lm-eval weights a group's tasks by size, counting unjudged documents. Its group standard error
    ignores differences between tasks, and it computes a task's standard error only for its own
    `mean`. None of this is configurable (0.4.13 ignores a group's `aggregation`), so three
    functions get a special case for this package's types. Two more functions write null for this
    package's unknown values, where lm-eval writes NaN, which is not valid JSON. One of them also
    prepares the paper's table. Values of other tasks are not affected.

    Raises InputError if lm-eval lacks an internal that this package needs.
    """
    check_internals()
    for module in map(importlib.import_module, _MODULES):
        _extend(module, "aggregate_subtask_metrics", _pool)
        _extend(module, "pooled_sample_stderr", _pool)
        _extend(module, "stderr_for_metric", _stderr_for_mean)
    tracker = importlib.import_module("lm_eval.loggers").EvaluationTracker
    _extend(tracker, "save_results_aggregated", _save_results)
    _extend(tracker, "save_results_samples", _save_samples)


def _pool(known: Callable[..., Any], values: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
    kind = type(values[0])
    if not issubclass(kind, Pooled) or any(type(value) is not kind for value in values):
        return known(values, *args, **kwargs)
    return kind([document for value in values for document in value.documents])


def _stderr_for_mean(known: Callable[..., Any], metric: Any, bootstrap_iters: int) -> Any:
    if metric is not Mean:
        return known(metric=metric, bootstrap_iters=bootstrap_iters)
    return StandardError if bootstrap_iters > 0 else None


def _save_results(
    known: Callable[..., Any], tracker: Any, results: Any, *args: Any, **kwargs: Any
) -> Any:
    for name, tasks in (results.get("group_subtasks") or {}).items():
        of_tasks = [results["results"][task] for task in tasks if task in results["results"]]
        if of_tasks and len(of_tasks) == len(tasks):
            optional = pool_optional(of_tasks)
            for key in ("results", "groups"):
                (results.get(key) or {}).get(name, {}).update(optional)
    rows = {
        key: {name: _with_null(row) for name, row in results[key].items()}
        for key in ("results", "groups")
        if isinstance(results.get(key), dict)
    }
    written = {**results, **rows}
    saved = known(tracker, written, *args, **kwargs)
    results.update({key: written[key] for key in written if key not in rows})
    if _is_lm_eval_command() and (lines := compact_table(results)):
        # lm-eval prints its tables next, using a function that it has already imported
        atexit.register(print, *lines, sep="\n")
    return saved


def _save_samples(known: Callable[..., Any], tracker: Any, task_name: str, samples: Any) -> Any:
    return known(tracker, task_name, [_with_null(sample) for sample in samples])


def _with_null(row: Any) -> Any:
    """A row with None for each NaN of this package's types."""
    if not isinstance(row, dict):
        return row
    return {
        key: None if isinstance(v, Pooled | DocumentValue) and math.isnan(v) else v
        for key, v in row.items()
    }


class CutText(str):
    """A response that the backend's token limit ended.

    It is a plain string for everybody else, and in caches and other processes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def note_cut_texts() -> None:
    """Make lm-eval's endpoint models return CutText where a reply has finish_reason "length".

    lm-eval reads the texts out of a reply and drops the rest. Nothing is done unless such a model
    has been imported. If a later lm-eval reads replies elsewhere, `cut_off` falls back on the text.
    """
    module = sys.modules.get("lm_eval.models.openai_completions")
    for name in ("LocalCompletionsAPI", "LocalChatCompletion"):
        if owner := getattr(module, name, None):
            _extend(owner, "parse_generations", _parse_generations)


def _parse_generations(known: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    texts = known(*args, **kwargs)
    replies = kwargs.get("outputs", args[-1] if args else ())
    try:
        reasons = [
            choice.get("finish_reason")
            for reply in (replies if isinstance(replies, list) else [replies])
            for choice in sorted(reply["choices"], key=lambda choice: choice["index"])
        ]
    except (AttributeError, KeyError, TypeError):
        return texts  # lm-eval has logged that the reply cannot be parsed
    if len(reasons) != len(texts):
        return texts
    return [
        CutText(text) if reason == "length" and isinstance(text, str) else text
        for text, reason in zip(texts, reasons, strict=True)
    ]


def _extend(owner: Any, name: str, case: Callable[..., Any]) -> None:
    """Make a function of a module or class call `case` first. Repeated calls have no effect."""
    known = getattr(owner, name, None)
    if known is None or getattr(known, "longwriter_case", None) is case:
        return
    is_static = isinstance(vars(owner).get(name), staticmethod)

    @functools.wraps(known)
    def extended(*args: Any, **kwargs: Any) -> Any:
        return case(known, *args, **kwargs)

    extended.longwriter_case = case  # type: ignore[attr-defined]
    setattr(owner, name, staticmethod(extended) if is_static else extended)


def find_in_lm_eval_stack(name: str, kind: type = object) -> Any:
    """The local variable `name` of the nearest lm-eval function among the callers, or None."""
    frame = sys._getframe(1)
    while frame := frame.f_back:  # type: ignore[assignment]
        if str(frame.f_globals.get("__name__")).startswith("lm_eval."):
            value = frame.f_locals.get(name)
            if value is not None and isinstance(value, kind):
                return value
    return None


def metadata_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The task's metadata, overridden by the user's --metadata.

    lm-eval 0.4.11 does not pass --metadata to class-based tasks, but its TaskManager has it.
    """
    manager = find_in_lm_eval_stack("self", importlib.import_module("lm_eval.tasks").TaskManager)
    return {**(config.get("metadata") or {}), **(getattr(manager, "metadata", None) or {})}


@contextlib.contextmanager
def one_clear_line() -> Iterator[None]:
    """Make the lm_eval command exit with an InputError's message and code 2, not a traceback."""
    try:
        yield
    except InputError as error:
        if not _is_lm_eval_command():
            raise
        print(f"longwriter: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _is_lm_eval_command() -> bool:
    program = Path(sys.argv[0])  # …/bin/lm_eval, or …/lm_eval/__main__.py
    return bool({"lm_eval", "lm-eval"} & {program.stem, program.parent.name})


def output_folder() -> Path | None:
    """The folder to which lm-eval will write this run's samples, or None if it will not."""
    tracker = find_in_lm_eval_stack("evaluation_tracker")
    if not find_in_lm_eval_stack("log_samples") or not getattr(tracker, "output_path", None):
        return None
    path = Path(tracker.output_path)
    if path.suffix == ".json":
        return path.parent
    return path / str(tracker.general_config_tracker.model_name_sanitized)


def model_record() -> dict[str, Any]:
    """The model's record as lm-eval will write it into this run's results, without secrets.

    This copy stays in the user's cache, where a user would not expect to find a key.
    """
    model, tracker = find_in_lm_eval_stack("model"), find_in_lm_eval_stack("evaluation_tracker")
    general = getattr(tracker, "general_config_tracker", None)
    return {
        "config": {
            "model": model if isinstance(model, str) else type(model).__name__,
            "model_args": redact_arguments(find_in_lm_eval_stack("model_args") or {}),
            "gen_kwargs": redact_arguments(find_in_lm_eval_stack("gen_kwargs")),
        },
        "model_name": getattr(general, "model_name", None),
        "date": time.time(),
    }


def shared_number(lm: Any, number: int) -> int:
    """The `number` of the first rank, on every rank of a data-parallel model.

    All ranks must call it. Uses the operation by which lm-eval itself counts requests.
    """
    if lm is None or lm.world_size == 1:
        return number
    import torch  # lm-eval has imported it for the same purpose

    gather = lm.all_gather if hasattr(lm, "all_gather") else lm.accelerator.gather  # 0.4.11
    return int(gather(torch.tensor([number], device=lm.device))[0])


def count_tokens(lm: Any, text: Any) -> int | None:
    """The number of tokens by the backend's own tokenizer; None if it has none."""
    if not isinstance(text, str) or getattr(lm, "tokenizer", None) is None:
        return None
    encoded = lm.tok_encode(text)
    return len(encoded) if isinstance(encoded, list) else None


def tables(results: Mapping[str, Any]) -> str:
    """lm-eval's tables of tasks and groups for `results`, followed by the paper's table."""
    make_table = importlib.import_module("lm_eval.utils").make_table
    columns = ["results", *(["groups"] if results.get("groups") else [])]
    # make_table removes the rows' names from its argument
    tables = [make_table(deepcopy(dict(results)), column) for column in columns]
    return "\n".join([*tables, *compact_table(results)])
