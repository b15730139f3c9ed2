"""A panel of judges: several judges read the same responses, and S_q is the mean of theirs.

A panel of one judge is that judge. The identity of a panel is the set of its judges' identities.
The stored verdicts are those of the single judges, so a judge that has already judged a response is
not paid again for the panel.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from longwriter_core import files
from longwriter_core.errors import InputError
from longwriter_core.llm import Budget, run_async
from longwriter_core.llm.profiles import find_profile
from longwriter_core.redact import public_url
from longwriter_eval.judge.judge import PREFLIGHT, Judge, report_cost, run_with_progress
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item, Judgement, Verdict

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows only its own loggers

# Settings that describe one judge, so that a panel cannot take them.
_OF_ONE_JUDGE = ("model", "temperature", "max_tokens", "extra")
_KEY = "LONGWRITER_JUDGE_API_KEY"

# The judge (None in a run of one judge), the repeat, and the part (None: the whole text).
VerdictKey = tuple[str | None, int, int | None]


@dataclass(frozen=True)
class PanelSettings:
    """The settings of each judge, by name. All share prompt, repeats, concurrency and max_cost."""

    judges: tuple[JudgeSettings, ...]
    base_url: str | None = None  # of those judges whose profiles have no endpoint

    @classmethod
    def resolve(
        cls, metadata: Mapping[str, Any], environment: Mapping[str, str], **defaults: str
    ) -> "PanelSettings":
        """Settings as JudgeSettings.resolve gives them, where `judge` may name several profiles.

        Names are separated by commas or plus signs, or are a list. Raises InputError.
        """
        named = metadata.get("judge")
        if not named and not metadata.get("judge_model"):
            named = environment.get("LONGWRITER_JUDGE")
        names = judge_names(named)
        if len(names) < 2:
            if named and names != [named]:  # a list, or a separator too many
                if not names:
                    raise InputError(f"judge: {named!r} names no profile (`longwriter judges`)")
                metadata = {**metadata, "judge": names[0]}
            return cls((JudgeSettings.resolve(metadata, environment, **defaults),))
        _refuse_settings_of_one(metadata, environment)
        return cls._of(sorted(names), metadata, environment, **defaults)

    @classmethod
    def _of(
        cls,
        names: Sequence[str],
        metadata: Mapping[str, Any],
        environment: Mapping[str, str],
        **defaults: str,
    ) -> "PanelSettings":
        judges, served = [], None
        for name in names:
            given, variables = {**metadata, "judge": name}, dict(environment)
            if find_profile(name).endpoint:
                given.pop("judge_base_url", None)
                variables.pop("LONGWRITER_JUDGE_BASE_URL", None)
            judges.append(JudgeSettings.resolve(given, variables, **defaults))
            if not find_profile(name).endpoint:
                served = judges[-1].base_url
        if not served and metadata.get("judge_base_url"):
            raise InputError(
                "judge_base_url: every judge of the panel has an endpoint in its profile; leave it "
                "out, or give a profile of your own another endpoint (LONGWRITER_PROFILES)"
            )
        identities: dict[str, str] = {}
        for judge in judges:
            identity = f"{judge.model} {judge.protocol}"
            if other := identities.get(identity):
                raise InputError(
                    f"judge: {other} and {judge.label} are the same judge (same model, same "
                    "request): a panel needs different ones; judge_repeats asks one several times"
                )
            identities[identity] = judge.label
        return cls(tuple(judges), served)

    @property
    def is_panel(self) -> bool:
        """Whether there are several judges."""
        return len(self.judges) > 1

    @property
    def first(self) -> JudgeSettings:
        """The first judge, for the settings that all share."""
        return self.judges[0]

    @property
    def label(self) -> str:
        """The names of the judges, as `judge` takes them."""
        return ",".join(judge.label for judge in self.judges)

    @property
    def departures(self) -> dict[str, Any]:
        """Deviations from the paper's protocol, by judge if there are several."""
        if not self.is_panel:
            return self.first.departures
        return {"judges": {judge.label: judge.departures for judge in self.judges}}

    def record(self) -> dict[str, Any]:
        """The record in results; that of a panel has the records of its `judges`."""
        if not self.is_panel:
            return self.first.record()
        return {
            "profile": self.label,
            "model": self.label,
            "base_url": public_url(self.base_url) if self.base_url else None,
            **{
                name: value
                for name, value in self.first.record().items()
                if name in ("repeats", "prompt", "segments")
            },
            "judges": [judge.record() for judge in self.judges],
            "departures": self.departures,
        }


class Panel:
    """One judge or several, which judge the same responses."""

    def __init__(
        self,
        settings: PanelSettings,
        environment: Mapping[str, str],
        budget: Budget | None = None,
    ) -> None:
        """`budget` is shared with other panels; by default it is the settings' max_cost.

        Raises InputError if a judge's key is missing.
        """
        self.settings = settings
        self.budget = budget or settings.first.budget()
        self.judges = [
            Judge(
                judge,
                api_key(judge, _with_own_key(settings, judge, environment)),
                segments=judge.segments,
                budget=self.budget,
            )
            for judge in settings.judges
        ]

    @cached_property
    def prompt_sha256(self) -> str:
        """The hash of the prompt that all judges are asked with."""
        return self.judges[0].prompt.sha256

    @contextmanager
    def only_one(self, items: Iterable[Item]) -> Iterator[bool]:
        """Hold a lock on judging these items; yields whether it was free.

        All ranks of a tensor-parallel model have the same responses at the same time. The first
        judges them. The others wait, and then find its verdicts in the store.
        """
        keys = [judge.key(item) for item in items for judge in self.judges]
        lock = files.cache_dir() / "locks" / files.sha256("".join(sorted(keys)))
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(lock, wait=True) as has_waited:
            yield not has_waited
        if not has_waited:
            lock.unlink(missing_ok=True)

    def check_once(self) -> None:
        """Preflight every judge; processes that do so at the same time make one request together.

        Raises InputError.
        """
        with self.only_one([PREFLIGHT]) as is_first:
            for judge in self.judges:
                run_async(judge.check(may_reuse=not is_first))

    async def check(self, items: Iterable[Item] | None = None) -> bool:
        """Preflight every judge, or those that have to judge some of `items`.

        Returns whether the settings changed, because an endpoint refused what they say. Raises
        InputError.
        """
        items = None if items is None else list(items)
        for judge in self.judges:
            if items is None or not all(map(judge.has_verdicts, self._items_of(judge, items))):
                await judge.check()
        before = self.settings
        judges = tuple(judge.settings for judge in self.judges)
        self.settings = replace(self.settings, judges=judges)
        return self.settings != before

    def check_context(self, items: Iterable[Item]) -> None:
        """Raise InputError if the longest unjudged response does not fit some judge's context."""
        items = list(items)
        for judge in self.judges:
            judge.check_context(
                item for item in self._items_of(judge, items) if not judge.has_verdicts(item)
            )

    def judge_with_progress(
        self, items: Sequence[Item], concurrency: int | None = None, *, may_ask: bool = True
    ) -> dict[str, Judgement]:
        """Judge `items` under a progress bar per judge; item id -> judgement.

        Judges follow each other, so that no more than `concurrency` calls are in flight; batches
        run at the same time, since each may take a day. Judges share `max_cost`. Ctrl-C ends the
        judging without an error, and missing verdicts get a reason. If the longest response does
        not fit the context of a judge, no call is made. Without `may_ask` there are no calls
        either, only stored verdicts.
        """
        verdicts: dict[str, list[Verdict]] = {item.id: list(item.verdicts) for item in items}
        try:
            self.check_context(items)
        except InputError as error:
            _log.error("%s", error)
            return {item.id: self.judgement(item) for item in items}
        for judge in self.judges:
            if may_ask:
                report_cost(judge, self._items_of(judge, items))
        work = []
        for judge in self.judges:
            to_judge = self._items_of(judge, items)
            if not may_ask:
                to_judge = [item for item in to_judge if judge.has_verdicts(item)]
            work.append((judge, to_judge))
        is_batch = self.settings.first.batch
        for together in [work] if is_batch else [[one] for one in work]:
            results, is_stopped = run_with_progress(together, concurrency)
            for (judge, _), found in zip(together, results, strict=True):
                for id, judgement in found.items():
                    made = (*judgement.verdicts, *judgement.segments)
                    verdicts[id] += self._labelled(judge, made)
            if is_stopped:
                _log.warning("judging stopped by Ctrl-C: the results follow without the rest")
                break
        return {item.id: self.judgement(item, verdicts[item.id]) for item in items}

    def judgement(self, item: Item, verdicts: Iterable[Verdict] = ()) -> Judgement:
        """The judgement from `verdicts`, or from the item's own verdicts if none are given."""
        known = {verdict.place: verdict for verdict in verdicts or item.verdicts}
        places = self.judges[0].places(item)
        return Judgement.of(
            [
                known.get((name, repeat, part)) or Verdict(repeat, judge=name, segment=part)
                for name in map(self._name, self.judges)
                for repeat, part in places
            ],
            self.prompt_sha256,
            item.response,
            self.settings.departures,
        )

    def recorded_verdicts(self, item: Item, record: Mapping[str, Any]) -> dict[VerdictKey, Verdict]:
        """The usable verdicts in the `record` of a sample log, whichever panel it was made by.

        Raises KeyError, TypeError or ValueError for a malformed record.
        """
        return {
            (self._name(judge), *place): replace(verdict, judge=self._name(judge))
            for judge in self.judges
            for place, verdict in judge.recorded_verdicts(item, record).items()
        }

    def has_verdicts(self, item: Item) -> bool:
        """Whether no judge has to be asked about `item`."""
        return all(
            judge.has_verdicts(of_judge)
            for judge in self.judges
            for of_judge in self._items_of(judge, [item])
        )

    def _name(self, judge: Judge) -> str | None:
        """The name in the verdicts of a judge: none if it is the only one."""
        return judge.settings.label if self.settings.is_panel else None

    def _items_of(self, judge: Judge, items: Iterable[Item]) -> list[Item]:
        name = self._name(judge)
        return [
            replace(item, verdicts=tuple(v for v in item.verdicts if v.judge == name))
            for item in items
        ]

    def _labelled(self, judge: Judge, verdicts: Iterable[Verdict]) -> list[Verdict]:
        return [replace(verdict, judge=self._name(judge)) for verdict in verdicts]


def judge_names(named: Any) -> list[str]:
    """The names in a setting. Raises InputError if one is named twice."""
    if isinstance(named, str):
        named = re.split(r"[,+]", named)
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        return []
    names = [name.strip() for name in named if name.strip()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"judge names {twice[0]} twice; judge_repeats asks one judge several times"
        )
    return names


def _refuse_settings_of_one(metadata: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    given = [f"judge_{name}" for name in _OF_ONE_JUDGE if metadata.get(f"judge_{name}") is not None]
    variables = (f"LONGWRITER_JUDGE_{name.upper()}" for name in _OF_ONE_JUDGE)
    given += [variable for variable in variables if environment.get(variable)]
    if given:
        raise InputError(
            f"judge names several judges, and {', '.join(given)} would change one: give such "
            "settings in profiles of your own (LONGWRITER_PROFILES)"
        )


def _with_own_key(
    settings: PanelSettings, judge: JudgeSettings, environment: Mapping[str, str]
) -> Mapping[str, str]:
    """The environment without the general key, if it might belong to another judge's provider."""
    is_shared = len({each.base_url for each in settings.judges}) == 1
    is_served = bool(judge.profile) and not find_profile(str(judge.profile)).endpoint
    if is_shared or is_served:
        return environment
    return {name: value for name, value in environment.items() if name != _KEY}
