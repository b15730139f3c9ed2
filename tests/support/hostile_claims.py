"""Hostile submissions of the newest schema: forged claims, spoofed names, and heavy panels."""

import copy
import json
from collections.abc import Callable
from typing import Any

from support.submissions import Json

from longwriter_core import files
from longwriter_eval.judge.verdict import DIMENSIONS

Forge = Callable[[Json, list[Json]], None]
BEST = json.dumps(dict.fromkeys(DIMENSIONS.values(), 5))
_FIVES = dict.fromkeys(DIMENSIONS, 5)


def _judge(**values: Any) -> Forge:
    return lambda m, _: m["judge"]["judges"][0].update(values)


def _block(**values: Any) -> Forge:
    return lambda m, _: m["judge"].update(values)


def _manifest(**values: Any) -> Forge:
    return lambda m, _: m.update(values)


def _model(**values: Any) -> Forge:
    return lambda m, _: m["model"].update(values)


def _verdict(**values: Any) -> Forge:
    return lambda _, s: s[0]["verdicts"][0].update(values)


def _verdicts(**values: Any) -> Forge:
    def forge(_: Json, samples: list[Json]) -> None:
        for sample in samples:
            for verdict in sample["verdicts"]:
                verdict.update(values)

    return forge


def _sample(**values: Any) -> Forge:
    return lambda _, s: s[0].update(values)


def _metric(name: str, **values: Any) -> Forge:
    return lambda m, _: m["scores"][0]["metrics"][name].update(values)


def _panel(size: int, repeats: int, reply: str, max_tokens: int = 100_000) -> Forge:
    """A panel of many judges with this reply to every response."""

    def forge(manifest: Json, samples: list[Json]) -> None:
        (judge,) = manifest["judge"]["judges"]
        manifest["judge"]["repeats"] = repeats
        manifest["judge"]["judges"] = [
            {**judge, "requested": f"j{n}", "returned": f"j{n}", "max_tokens": max_tokens}
            for n in range(size)
        ]
        for sample in samples:
            (verdict,) = sample["verdicts"]
            sample["verdicts"] = [
                {**verdict, "judge": n, "repeat": r, "model": f"j{n}", "raw": reply}
                for n in range(size)
                for r in range(repeats)
            ]

    return forge


def _own_response(text: str) -> Forge:
    """A response of the submitter's own, with every hash that the response alone determines."""

    def forge(_: Json, samples: list[Json]) -> None:
        samples[0].update(response=text, response_sha256=files.sha256(text))

    return forge


def _dropped(share: float) -> Forge:
    """The worst verdicts declared as failed."""

    def forge(_: Json, samples: list[Json]) -> None:
        ordered = sorted(samples, key=lambda s: s["scores"]["quality_score"])
        for sample in ordered[: max(1, round(share * len(samples)))]:
            sample["verdicts"][0].update(scores=None, raw="", model=None, reason="refused")
            sample["scores"].update({n: None for n in sample["scores"] if "quality" in n})

    return forge


def _kept_best(manifest: Json, samples: list[Json]) -> None:
    """One verdict of 64 on each response, the others declared as cut."""
    manifest["judge"]["repeats"] = 64
    for sample in samples:
        (kind,) = sample["verdicts"]
        cut = {**kind, "scores": None, "reason": "cut", "completion_tokens": 1024}
        sample["verdicts"] = [kind, *({**cut, "repeat": n} for n in range(1, 64))]


def _nested(depth: int) -> Json:
    inner: Json = {"a": 1}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def _wide(manifest: Json, _: list[Json]) -> None:
    manifest["judge"]["judges"][0]["request"] = {
        f"f{n}": {f"g{k}": list(range(20)) for k in range(20)} for n in range(20)
    }


def _copied_verdicts(_: Json, samples: list[Json]) -> None:
    best = max(samples, key=lambda s: s["scores"]["quality_score"])["verdicts"]
    for sample in samples:
        sample["verdicts"] = copy.deepcopy(best)


def _another_order(_: Json, samples: list[Json]) -> None:
    for one, other in zip(samples, [*samples[1:], samples[0]], strict=True):
        one["task"], one["sent_sha256"] = other["task"], other["sent_sha256"]
        one["words"] = other["words"]


SPOOFED_NAMES = {
    "invisible": "gpt\u200b-4o",
    "reversed": "o4-\u202etpg",
    "full-width": "ｇｐｔ",
    "two-blanks": "gpt  4o",
    "soft-hyphen": "gpt\u00ad4o",
    "other-hyphen": "gpt‑4o",
    "joiner": "gpt\u034f4o",
}

# name -> what it changes in an honest submission of one judge
CLAIMS: dict[str, Forge] = {
    **{f"submitter-{n}": _manifest(submitter=text) for n, text in SPOOFED_NAMES.items()},
    **{
        f"model-{n}": _model(id={"value": text, "source": "submitter"})
        for n, text in SPOOFED_NAMES.items()
    },
    **{f"judge-{n}": _judge(requested=text, returned=text) for n, text in SPOOFED_NAMES.items()},
    **{
        f"request-{n}": _judge(request={"reasoning_effort": text})
        for n, text in SPOOFED_NAMES.items()
    },
    "request-key-with-blank": _judge(request={"a b": 1}),
    "request-of-text": _judge(request="low"),
    "request-of-list": _judge(request=[]),
    "request-deep": _judge(request=_nested(15)),
    "request-very-deep": _judge(request=_nested(400)),
    "request-wide": _wide,
    "request-long-text": _judge(request={"a": "x" * 201}),
    "temperature-text": _judge(temperature="0.5"),
    "temperature-negative": _judge(temperature=-1),
    "max-tokens-zero": _judge(max_tokens=0),
    "max-tokens-huge": _judge(max_tokens=10**12),
    "max-tokens-fraction": _judge(max_tokens=1024.5),
    "max-tokens-below-reply": _judge(max_tokens=1),
    "endpoint-null": _judge(endpoint=None),
    "endpoint-object": _judge(endpoint={}),
    "judge-claims-another": _judge(requested="gpt-4o-2024-11-20", returned="gpt-4o-2024-11-20"),
    "judge-of-nothing": _block(judges=[]),
    "judge-twice": lambda m, _: m["judge"]["judges"].append(m["judge"]["judges"][0]),
    "judge-silent": lambda m, _: m["judge"]["judges"].append(
        {**m["judge"]["judges"][0], "requested": "j", "returned": "j"}
    ),
    "judge-null": _manifest(judge=None),
    "judge-list": _manifest(judge=[]),
    "repeats-zero": _block(repeats=0),
    "repeats-more": _block(repeats=2),
    "repeats-many": _block(repeats=10**6),
    "prompt-own": _block(prompt="kind.txt"),
    "prompt-other-hash": _block(prompt_sha256="0" * 64),
    "verdict-judge-1": _verdict(judge=1),
    "verdict-judge-negative": _verdict(judge=-1),
    "verdict-judge-true": _verdict(judge=True),
    "verdict-better": _verdict(raw=BEST, scores=_FIVES),
    "verdict-all-better": _verdicts(raw=BEST, scores=_FIVES),
    "verdict-unread": _verdict(scores=None, reason="parse_error"),
    "verdict-said-cut": _verdict(scores=None, reason="cut", completion_tokens=1023),
    "verdict-without-reason": _verdict(scores=None, raw="", reason=None),
    "verdict-by-other": _verdict(model="kinder"),
    "verdict-of-other": _verdict(asked_sha256="0" * 64),
    "verdict-of-too-many-tokens": _verdict(completion_tokens=10**6),
    "verdict-copied": _copied_verdicts,
    "verdicts-dropped": _dropped(0.05),
    "verdicts-dropped-more": _dropped(0.3),
    "verdicts-only-best": _kept_best,
    "scores-above-5": _verdict(scores=dict.fromkeys(DIMENSIONS, 6)),
    "scores-of-two": _verdict(scores={"relevance": 5, "accuracy": 5}),
    "response-own": _own_response("I wrote this myself. " * 40),
    "response-empty": _own_response(""),
    "response-of-another": lambda _, s: s[0].update(response=s[1]["response"]),
    "response-surrogate": _own_response("a\ufffd"),
    "words-more": _sample(words=10**9),
    "id-of-another": lambda _, s: s[0].update(id=s[1]["id"]),
    "id-unknown": _sample(id="longwrite_demo/999"),
    "task-of-another": _sample(task="longbench_write_en"),
    "words-of-another": _another_order,
    "sample-null": lambda _, s: s.__setitem__(0, None),  # type: ignore[call-overload]
    "mean-raised": _metric("overall_score", mean=99.0),
    "mean-null": _metric("overall_score", mean=None),
    "bounds-narrow": lambda m, _: m["scores"][0]["metrics"]["overall_score"].update(
        low=m["scores"][0]["metrics"]["overall_score"]["mean"] - 0.1
    ),
    "benchmark-other": _manifest(benchmark="longbench_write"),
    "benchmark-ruler": _manifest(benchmark="longwrite_ruler"),
    "version-old": _manifest(task_version=1.0),
    "version-new": _manifest(task_version=9.9),
    "date-future": _manifest(date="2999-01-01T00:00:00Z"),
    "schema-older": _manifest(schema="longwriter-submission/1"),
    "schema-newer": _manifest(schema="longwriter-submission/3"),
    "example-text": _manifest(example="no"),
    "size-zero": _model(parameters={"value": 0, "source": "submitter"}),
    "size-text": _model(parameters={"value": "9B", "source": "submitter"}),
    "licence-markup": _model(licence={"value": "<b>mit</b>", "source": "submitter"}),
    "licence-of-run": _model(licence={"value": "mit", "source": "run"}),
    "cost-negative": _manifest(stated={"cost_usd": -1, "minutes": None}),
    "cost-zero": _manifest(stated={"cost_usd": 0, "minutes": None}),
    "minutes-missing": _manifest(stated={"cost_usd": 1}),
    "few-shot": lambda m, _: m["generation"].update(num_fewshot=3),
}

# Small files that are slow to verify.
HEAVY_PANELS: dict[str, Forge] = {
    "panel-of-braces": _panel(8, 8, "{" * 190_000),
    "panel-of-thinking": _panel(8, 8, "<think>" * 28_000),
    "panel-of-ends-of-thinking": _panel(8, 8, "</think>" * 24_000),
    "panel-of-commas": _panel(8, 8, ", " * 95_000),
    "panel-of-entities": _panel(8, 8, "&amp;" * 9_000 + BEST),
    "panel-of-escapes": _panel(8, 8, "\\u0041" * 8_000 + BEST),
    "panel-of-objects": _panel(8, 8, '{"Relevance":5}' * 3_300),
    "panel-of-channels": _panel(8, 8, "<|channel|>" * 17_000),
}
