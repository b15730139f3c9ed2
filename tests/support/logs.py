"""Logs of runs with chosen responses and verdicts, written to disk as lm-eval writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.endpoint import DIMENSIONS

from longwriter_eval.judge.verdict import Judgement, Verdict, read_verdict
from longwriter_eval.runs import Run, load_run, save_run
from longwriter_eval.version import TASK_VERSION

Grades = Sequence[int] | str  # one per repeat, for all six dimensions; or why there are none


@dataclass(frozen=True)
class Answer:
    """One response in a log. Without `grades` no judge was asked."""

    text: str
    grades: Grades | None = (3,)
    prompt: str = "Write of tea."
    required: int = 100
    type: str = "News Report"
    language: str = "en"


@dataclass(frozen=True)
class Log:
    """A run to write: `answers` by prompt id, and `judge` as recorded in the judge's settings."""

    answers: Mapping[str, Answer]
    task: str = "longwrite_demo"
    judge: str = "gpt-judge"
    answered: str = ""  # the model that answered as judge; "" means the requested model
    judge_prompt: str = "p" * 64
    judge_url: str | None = None
    data: str = "d" * 64
    version: float = TASK_VERSION
    generation: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0.5})

    def change(self, **changes: Any) -> "Log":
        return replace(self, **changes)

    def write(self, folder: Path, *others: "Log") -> Path:
        """Write this log, and `others` of other tasks into the same results; returns `folder`."""
        logs = (self, *others)
        results = {
            "config": {"model": "local-chat-completions"},
            "model_name": folder.name,
            "configs": {log.task: log._config() for log in logs},
        }
        save_run(folder, results, {log.task: log._rows() for log in logs})
        return folder

    def load(self, folder: Path, *others: "Log") -> Run:
        return load_run(self.write(folder, *others))

    def _config(self) -> dict[str, Any]:
        record: dict[str, Any] = {"version": "0.1.0", "data_sha256": self.data}
        if any(answer.grades is not None for answer in self.answers.values()):
            judge: dict[str, Any] = {"model": self.judge, "base_url": self.judge_url}
            judge |= {"temperature": 0.5, "max_tokens": 1024}
            record |= {
                "judge": {**judge, "repeats": 1, "prompt": "longwriter"},
                "judge_prompt_sha256": self.judge_prompt,
            }
        metadata = {"version": self.version, "longwriter": record}
        return {"metadata": metadata, "generation_kwargs": self.generation}

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "doc_id": number,
                "doc": {
                    "id": id,
                    "prompt": answer.prompt,
                    "type": answer.type,
                    "length": answer.required,
                    "language": answer.language,
                    **({} if answer.grades is None else {"judgement": self._record(answer)}),
                },
                "resps": [[answer.text]],
            }
            for number, (id, answer) in enumerate(self.answers.items())
        ]

    def _record(self, answer: Answer) -> dict[str, Any]:
        model, grades = self.answered or self.judge, answer.grades
        verdicts = (
            [Verdict(0, reason=grades)]
            if isinstance(grades, str)
            else [_verdict(repeat, grade, model) for repeat, grade in enumerate(grades or ())]
        )
        return Judgement.of(verdicts, self.judge_prompt, answer.text).record()


def _verdict(repeat: int, grade: int, model: str) -> Verdict:
    raw = json.dumps({"Analysis": "Read.", **dict.fromkeys(DIMENSIONS, grade)})
    return Verdict(repeat, read_verdict(raw), None, raw=raw, model=model, asks=1)


def words(number: int) -> str:
    """A text of `number` words without any fault that the diagnostics detect."""
    return " ".join(f"{'abcdefghij'[i % 10]}{chr(97 + i // 10 % 26)}" for i in range(number)) + "."


def answers(
    number: int, answer: Callable[[int], Answer], benchmark: str = "longwrite_demo"
) -> dict[str, Answer]:
    """`number` answers by prompt id, each to a different prompt."""
    return {
        f"{benchmark}/{i:03d}": replace(answer(i), prompt=f"Write text {i}.") for i in range(number)
    }
