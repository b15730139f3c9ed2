"""Whether two runs may be compared: the same data, prompts, tasks and judge."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score

Scores = Mapping[str, Score]  # by prompt id


def is_same_prompt(a: Score, b: Score) -> bool:
    """Whether two runs asked for the same thing."""
    return (a.sample.prompt, a.sample.required) == (b.sample.prompt, b.sample.required)


def differing(a: Run, b: Run, mine: Scores, other: Scores) -> Iterator[str]:
    """What makes their scores incomparable, in words, over the benchmarks that both runs have."""
    for benchmark in sorted(_benchmarks(mine) & _benchmarks(other)):
        for what, identity in _IDENTITIES.items():
            found = _found(identity, a, mine, benchmark), _found(identity, b, other, benchmark)
            # where one run has no judge, lengths are compared, and nothing is at odds
            if found[0] != found[1] and all(found):
                yield f"{benchmark}: {what} {_against(*found)}"
    changed = sum(id in other and not is_same_prompt(mine[id], other[id]) for id in mine)
    if changed:
        yield f"{changed} prompts of the same name ask for different things"


def noteworthy(a: Run, b: Run, mine: Scores, other: Scores) -> Iterator[str]:
    """What a reader should know of the two runs, and is no reason not to compare them."""
    for benchmark in sorted(_benchmarks(mine) ^ _benchmarks(other)):
        yield f"{benchmark} is in {'A' if benchmark in _benchmarks(mine) else 'B'} only"
    for benchmark in sorted(_benchmarks(mine) & _benchmarks(other)):
        judges = _found(_judge, a, mine, benchmark), _found(_judge, b, other, benchmark)
        if not all(judges) and any(judges):
            yield f"{benchmark} has a judge in {'A' if judges[0] else 'B'} only: no quality"
        for what, identity in _NOTED.items():
            found = _found(identity, a, mine, benchmark), _found(identity, b, other, benchmark)
            if found[0] != found[1] and all(found):
                yield f"{benchmark}: {what} {_against(*found)}"


_Identity = Callable[[Score, Mapping[str, Any]], Iterable[Any]]  # of a score and its task's config


def _judge(score: Score, config: Mapping[str, Any]) -> list[Any]:
    return [_record(score, config).get("judge", {}).get("model")]


def _generation(_: Score, config: Mapping[str, Any]) -> list[Any]:
    return [config.get("generation_kwargs") or "none"]


def _endpoint(score: Score, config: Mapping[str, Any]) -> list[Any]:
    judge = _record(score, config).get("judge")
    return [judge.get("base_url") or "OpenAI's own"] if judge else []


def _record(_: Score, config: Mapping[str, Any]) -> Mapping[str, Any]:
    record: Mapping[str, Any] = config["metadata"]["longwriter"]
    return record


def _answered(score: Score, _: Mapping[str, Any]) -> Iterator[Any]:
    for verdict in score.judgement.verdicts if score.judgement else ():
        if verdict.scores:
            yield verdict.model


# What two runs must have in common. Hashes are cut short.
_IDENTITIES: dict[str, _Identity] = {
    "data": lambda *of: [_record(*of).get("data_sha256", "")[:12] or None],
    "task version": lambda _, config: [config["metadata"].get("version")],
    "judge": _judge,
    "judge that answered": _answered,
    "judge prompt": lambda *of: [_record(*of).get("judge_prompt_sha256", "")[:12] or None],
    "judge's temperature": lambda *of: [_record(*of).get("judge", {}).get("temperature")],
    "judge's token limit": lambda *of: [_record(*of).get("judge", {}).get("max_tokens")],
}


# What may differ, and is said: one name may stand for other models at other endpoints.
_NOTED: dict[str, _Identity] = {
    "generation settings": _generation,
    "judge's endpoint": _endpoint,
    "verdicts per response": lambda *of: [_record(*of).get("judge", {}).get("repeats")],
}


def _found(identity: _Identity, run: Run, scores: Scores, benchmark: str) -> list[str]:
    """The different values that the scores of a benchmark have, in words."""
    return sorted(
        {
            str(each)
            for score in scores.values()
            if score.benchmark == benchmark
            for each in identity(score, run.results["configs"][score.sample.task])
            if each is not None
        }
    )


def _against(mine: list[str], other: list[str]) -> str:
    return f"{' and '.join(mine)} against {' and '.join(other)}"


def _benchmarks(scores: Scores) -> set[str]:
    return {score.benchmark for score in scores.values()}
