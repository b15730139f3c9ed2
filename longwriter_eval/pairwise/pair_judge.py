"""A judge that says which of two responses is better, asked in both orders."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallId,
    ChatPool,
    Outcome,
    Rejected,
    Store,
    ask_until_valid,
    for_each,
    read_reply,
    run_async,
)
from longwriter_eval.judge.judge import PREFLIGHT_INSTRUCTION, PREFLIGHT_RESPONSE, Judge
from longwriter_eval.judge.prompt import fill
from longwriter_eval.judge.settings import JudgeSettings, api_key, request_of
from longwriter_eval.pairwise.comparison import Comparison
from longwriter_eval.pairwise.preference import PairVerdict, Position, Preference, read_choice


@dataclass(frozen=True)
class ResponsePair:
    """Two responses to one instruction."""

    id: str
    instruction: str
    a: str
    b: str


class PairJudge(Judge):
    """A judge of response pairs; calls the model like Judge, with a prompt of its own."""

    def __init__(self, settings: JudgeSettings, key: str, store: Store | None = None) -> None:
        # a profile's response schema describes a verdict on a single text
        extra = json.dumps({**json.loads(settings.extra), "response_format": None})
        own = settings.model_copy(update={"prompt": "longwriter", "extra": extra})
        super().__init__(own, key, store)
        self._template = (files("longwriter_eval.pairwise") / "prompt.txt").read_text("utf-8")

    async def compare(
        self,
        pairs: Iterable[ResponsePair],
        done: Callable[[Preference], None],
        show: Callable[[str], None] = lambda _state: None,
    ) -> None:
        """Judge every pair in both orders, and pass each finished preference to `done`.

        `show` gets the state of batches in words.

        Identical responses are ties and cost no call. Endpoint failures raise nothing: a missing
        verdict has a reason.
        """

        async def work(pair: ResponsePair) -> None:
            if pair.a == pair.b:
                choices = (PairVerdict("tie", None), PairVerdict("tie", None))
            else:
                first = partial(self._choice, chat, pair.instruction, pair.a, pair.b)
                second = partial(self._choice, chat, pair.instruction, pair.b, pair.a)
                if self.settings.batch:  # both in one batch
                    choices = await asyncio.gather(first(), second())
                else:
                    choices = (await first(), await second())
            done(Preference(pair.id, choices))

        async with self.chat() as chat:
            chat.batches.show = show
            await for_each(pairs, work, self.concurrency)

    def has_choices(self, pair: ResponsePair) -> bool:
        """Whether the store holds a readable verdict in both orders, so that no call is needed."""
        orders = ((pair.a, pair.b), (pair.b, pair.a))
        return pair.a == pair.b or all(
            any(
                not isinstance(read_reply(reply, _read_position, has_format=True), Rejected)
                for reply in self._store.replies(self._choice_id(pair.instruction, *texts))
            )
            for texts in orders
        )

    def _preflight(self) -> tuple[dict[str, Any], Callable[[str], object | Rejected]]:
        first, second = PREFLIGHT_RESPONSE, "The sun rises."
        texts = {"$INST$": PREFLIGHT_INSTRUCTION, "$FIRST$": first, "$SECOND$": second}
        return self.request(fill(self._template, texts)[0]), _read_position

    def _choice_id(self, instruction: str, first: str, second: str) -> CallId:
        return CallId(
            {
                "preference": self.settings.model,
                **self.settings.protocol,
                "prompt": sha256(self._template),
                "instruction": sha256(instruction),
                "first": sha256(first),
                "second": sha256(second),
            },
            legacy={"base_url": self.settings.base_url},
        )

    async def _choice(
        self, pool: ChatPool, instruction: str, first: str, second: str
    ) -> PairVerdict:
        texts = {"$INST$": instruction, "$FIRST$": first, "$SECOND$": second}
        prompt, escaped = fill(self._template, texts)
        outcome: Outcome[Position] = await ask_until_valid(
            pool,
            self.request(prompt),
            _read_position,
            self._choice_id(instruction, first, second),
            has_format=True,
        )
        return PairVerdict(
            better=outcome.value,
            reason=outcome.reason,
            detail=outcome.detail or None,
            raw=outcome.raw,
            model=outcome.reply.model if outcome.reply else None,
            asks=outcome.attempts,
            escaped=escaped,
        )


def prefer(comparison: Comparison, overrides: Mapping[str, Any]) -> list[Preference]:
    """A judge's preference for every pair of a comparison, in the order of its pairs.

    `overrides` are judge settings by metadata name. If neither they nor the environment name a
    judge, it is that of the runs, asked in the same way. Raises InputError if the judge cannot be
    used.
    """
    named = {"judge", "judge_model"} & overrides.keys()
    if not named and not any(map(os.environ.get, ("LONGWRITER_JUDGE", "LONGWRITER_JUDGE_MODEL"))):
        overrides = {**_judge_of_runs(comparison), **overrides}
    settings = JudgeSettings.resolve({**overrides, "judge_prompt": "longwriter"}, os.environ)
    judge = PairJudge(settings, api_key(settings, os.environ))
    pairs = [
        ResponsePair(a.sample.id, a.sample.prompt, a.text, b.text) for a, b in comparison.pairs
    ]
    if not all(map(judge.has_choices, pairs)):
        run_async(judge.check())
    preferences: dict[str, Preference] = {}
    with tqdm(total=len(pairs), desc=f"Comparing with {settings.label}") as bar:

        def done(preference: Preference) -> None:
            preferences[preference.id] = preference
            bar.update()

        run_async(judge.compare(pairs, done, bar.set_postfix_str))
    return [preferences[pair.id] for pair in pairs]


def _judge_of_runs(comparison: Comparison) -> dict[str, Any]:
    """The metadata that names the judge of the runs; empty if they have none."""
    recorded = [
        run.record(score.sample.task)["judge"]
        for pair in comparison.pairs
        for run, score in zip((comparison.a, comparison.b), pair, strict=True)
        if score.judgement
    ]
    if not recorded:
        return {}
    if "judges" in recorded[0]:
        raise InputError(
            f"the runs were judged by a panel ({recorded[0]['model']}), and --judge asks one: "
            "name it by --judge PROFILE or --judge-model"
        )
    metadata = {**request_of(recorded[0]), "judge_base_url": recorded[0]["base_url"]}
    return {name: value for name, value in metadata.items() if value is not None}


def _read_position(reply: str) -> Position | Rejected:
    """The place of the better text in a judge's reply."""
    return read_choice(reply) or Rejected("parse_error")
