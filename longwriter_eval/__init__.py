"""Measure very long writing: LongBench-Write and LongWrite-Ruler for lm-evaluation-harness.

    from longwriter_eval import load_run, score_samples, value

    for score in score_samples(load_run(Path("runs/mine")).samples):
        print(score.sample.id, value(score, "overall_score"))

Importing this package does no work: names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from longwriter_eval.version import __version__

if TYPE_CHECKING:
    from longwriter_core.text.length import count_words, length_score
    from longwriter_eval.judge.judge import Judge
    from longwriter_eval.judge.settings import JudgeSettings
    from longwriter_eval.judge.verdict import quality_scores, read_verdict
    from longwriter_eval.pairwise.comparison import compare
    from longwriter_eval.report import write_report
    from longwriter_eval.rescoring import score
    from longwriter_eval.runs import load_run, load_runs
    from longwriter_eval.scoring import score_samples, value

_MODULES = {
    "Judge": "longwriter_eval.judge.judge",
    "JudgeSettings": "longwriter_eval.judge.settings",
    "compare": "longwriter_eval.pairwise.comparison",
    "count_words": "longwriter_core.text.length",
    "length_score": "longwriter_core.text.length",
    "load_run": "longwriter_eval.runs",
    "load_runs": "longwriter_eval.runs",
    "quality_scores": "longwriter_eval.judge.verdict",
    "read_verdict": "longwriter_eval.judge.verdict",
    "score": "longwriter_eval.rescoring",
    "score_samples": "longwriter_eval.scoring",
    "value": "longwriter_eval.scoring",
    "write_report": "longwriter_eval.report",
}

__all__ = [
    "Judge",
    "JudgeSettings",
    "__version__",
    "compare",
    "count_words",
    "length_score",
    "load_run",
    "load_runs",
    "quality_scores",
    "read_verdict",
    "score",
    "score_samples",
    "value",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
