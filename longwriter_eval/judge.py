"""Judging responses: settings, prompt, and verdicts that are scores or a reason, never a guess."""

import difflib
import logging
import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from longwriter_eval import assets
from longwriter_eval.diagnostics import is_refusal
from longwriter_eval.errors import InputError
from longwriter_eval.llm import (
    CallError,
    Chat,
    EndpointError,
    Reply,
    Store,
    call_key,
    for_each,
    public_url,
)
from longwriter_eval.quality import DIMENSIONS, Scores, quality_scores, read_verdict

_log = logging.getLogger(__name__)

# The published protocol: evaluation/eval_quality.py of THUDM/LongWriter.
TEMPERATURE = 0.5
MAX_TOKENS = 1024
TRIES = 5  # asks per verdict and run, where the reply cannot be read

_ENVIRONMENT = "LONGWRITER_JUDGE_"
_INST, _RESPONSE = "$INST$", "$RESPONSE$"


@dataclass(frozen=True)
class JudgeSettings:
    """Who judges, and how.

    `prompt` is "official" (upstream's), "longwriter" (this project's own, which needs no
    download), or the path of a file.
    """

    model: str = "gpt-4o-2024-05-13"
    base_url: str | None = None
    concurrency: int = 32
    prompt: str = "official"
    repeats: int = 1

    @classmethod
    def resolve(
        cls, metadata: Mapping[str, Any], environment: Mapping[str, str], **defaults: str
    ) -> "JudgeSettings":
        """The settings given as `judge_*` metadata, else as LONGWRITER_JUDGE_*, else `defaults`.

        lm-eval merges the model's own arguments into the metadata, so other names are left alone.
        Raises InputError that lists every unknown name and unusable value at once.
        """
        given = {
            "judge_" + name.removeprefix(_ENVIRONMENT).lower(): (name, value)
            for name, value in environment.items()
            if name.startswith(_ENVIRONMENT) and name != _ENVIRONMENT + "API_KEY" and value
        }
        known = {f"judge_{name}": name for name in cls.__dataclass_fields__}
        for key, value in metadata.items():
            # a slip such as jugde_model must not silently mean the default judge
            if key.startswith("judge") or difflib.get_close_matches(key, known, 1, 0.85):
                given[key] = (key, value)
        problems: list[str] = []
        values: dict[str, Any] = dict(defaults)
        for key, (name, value) in given.items():
            try:
                if key == "judge_api_key":
                    raise ValueError(
                        "would be written to the results: set LONGWRITER_JUDGE_API_KEY instead"
                    )
                if key not in known:
                    close = difflib.get_close_matches(key, known, 1)
                    raise ValueError(f"is unknown (known: {', '.join(close or known)})")
                values[known[key]] = _checked(known[key], value)
            except ValueError as error:
                problems.append(f"{name} {error}")
        if problems:
            raise InputError(f"judge settings: {'; '.join(problems)}")
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """What a result must say of its judge; never a key, a password or a local path."""
        return {
            "model": self.model,
            "base_url": public_url(self.base_url) if self.base_url else None,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "repeats": self.repeats,
            "prompt": Path(self.prompt).name,
        }


def _checked(setting: str, value: Any) -> Any:
    """The value of a setting, or ValueError with the rest of a sentence that says why not."""
    if setting in ("concurrency", "repeats"):
        if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
            raise ValueError(f"must be a whole number from 1, not {value!r}")
        return int(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, not {value!r}")
    if setting == "base_url":
        if not re.match(r"https?://[^/]", value):
            raise ValueError(f"must be a URL like https://host/v1, not {value!r}")
        return value.strip().rstrip("/")
    return value.strip()


def api_key(settings: JudgeSettings, environment: Mapping[str, str]) -> str:
    """The judge's key: LONGWRITER_JUDGE_API_KEY, else OPENAI_API_KEY.

    A server of one's own often needs none. Raises InputError where OpenAI itself would judge.
    """
    key = environment.get(_ENVIRONMENT + "API_KEY") or environment.get("OPENAI_API_KEY")
    if key:
        return key
    if settings.base_url or environment.get("OPENAI_BASE_URL"):
        return "no-key-needed"
    raise InputError(
        f"no key for the judge {settings.model}: set LONGWRITER_JUDGE_API_KEY or OPENAI_API_KEY, "
        "or judge_base_url to a server of your own, or use longbench_write_length or "
        "--predict_only, which need no judge"
    )


@dataclass(frozen=True)
class JudgePrompt:
    """A judge's instructions with places for the request ($INST$) and the response ($RESPONSE$)."""

    template: str

    @classmethod
    def load(cls, prompt: str) -> "JudgePrompt":
        """The prompt that a setting names. Raises InputError where it is unusable."""
        if prompt == "official":
            return cls(assets.read("judge.txt"))
        if prompt == "longwriter":
            return cls((files("longwriter_eval") / "judge_prompt.txt").read_text(encoding="utf-8"))
        try:
            template = Path(prompt).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read judge_prompt {prompt!r}: {error}; it must be official, longwriter, or a file"
            ) from error
        missing = [place for place in (_INST, _RESPONSE) if template.count(place) != 1]
        if missing:
            raise InputError(f"judge_prompt {prompt}: must contain {' and '.join(missing)} once")
        return cls(template)

    @property
    def sha256(self) -> str:
        """Of the template."""
        return assets.sha256(self.template)

    def render(self, instruction: str, response: str) -> tuple[str, bool]:
        """The prompt for one response, and whether a tag in either text had to be defused.

        Both texts are put in at once, so that neither can hold a place for the other; a tag of
        the template's own, such as </Response>, gets its "<" written as "&lt;", so that it cannot
        end its section. Without such a tag the result is upstream's to the byte.
        """
        tags = {name for name in re.findall(r"</?\s*([A-Za-z][\w ]*?)\s*>", self.template)}
        fence = re.compile(
            r"<(?=\s*/?\s*(?:" + "|".join(r"\s+".join(tag.split()) for tag in tags) + r")\s*/?\s*>)",
            re.IGNORECASE,
        )
        texts = {_INST: instruction, _RESPONSE: response}
        if tags:
            texts = {place: fence.sub("&lt;", text) for place, text in texts.items()}
        prompt = re.sub(r"\$(?:INST|RESPONSE)\$", lambda place: texts[place[0]], self.template)
        return prompt, texts != {_INST: instruction, _RESPONSE: response}


@dataclass(frozen=True)
class Verdict:
    """One judge's reading of one response: scores, or the reason why there are none.

    Reasons: parse_error, refused, context_overflow, transport_error, not_asked. `asks` counts the
    calls that this verdict took in all, `retries` the failed tries below the last of them.
    """

    repeat: int
    scores: Scores | None = None
    reason: str | None = "not_asked"
    detail: str | None = None
    raw: str = ""
    model: str | None = None
    asks: int = 0
    retries: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    defused: bool = False
    call: str | None = None


@dataclass(frozen=True)
class Judgement:
    """All verdicts on one response. It counts as judged where at least one has scores."""

    verdicts: tuple[Verdict, ...]
    prompt_sha256: str
    response_sha256: str
    quality: dict[str, float] = field(default_factory=dict)
    spread: float | None = None

    @classmethod
    def of(cls, verdicts: Iterable[Verdict], prompt: str, response: str) -> "Judgement":
        """Average the verdicts that have scores; `spread` is the standard deviation of S_q."""
        verdicts = tuple(sorted(verdicts, key=lambda verdict: verdict.repeat))
        scored = [quality_scores(verdict.scores) for verdict in verdicts if verdict.scores]
        return cls(
            verdicts,
            prompt,
            assets.sha256(response),
            {name: statistics.fmean(each[name] for each in scored) for name in scored[0]}
            if scored
            else {},
            statistics.stdev(each["score"] for each in scored) if len(scored) > 1 else None,
        )

    @property
    def status(self) -> str:
        """ "judged", or the reason of the last verdict."""
        return "judged" if self.quality else str(self.verdicts[-1].reason)

    def record(self) -> dict[str, Any]:
        """What a sample log keeps: enough to recompute every score from it."""
        return {
            "status": self.status,
            "prompt_sha256": self.prompt_sha256,
            "response_sha256": self.response_sha256,
            "spread": self.spread,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
        }


@dataclass(frozen=True)
class Item:
    """A response to judge; `id` ties the verdict to it whatever order the calls finish in."""

    id: str
    instruction: str
    response: str


class Judge:
    """A judge at an endpoint, with everything that it needs resolved and checked."""

    def __init__(self, settings: JudgeSettings, key: str, store: Store | None = None) -> None:
        self.settings = settings
        self.prompt = JudgePrompt.load(settings.prompt)
        self._key = key
        self._store = store or Store()

    async def check(self) -> None:
        """Make one tiny call, and see that its result could be kept.

        Raises InputError where the key, the endpoint, the model or the store would fail the run.
        """
        self._store.check()
        request = self._request("Reply with the word ready.")
        async with self._chat(retries=2) as chat:
            try:
                await chat.ask(call_key(check=request), request)
            except CallError as error:
                where = public_url(self.settings.base_url or "the default OpenAI endpoint")
                raise InputError(
                    f"the judge {self.settings.model} at {where} cannot be used: {error}"
                ) from error

    async def judge(
        self,
        items: Iterable[Item],
        done: Callable[[Item, Judgement], None],
        concurrency: int | None = None,
    ) -> None:
        """Judge every item, and hand each judgement to `done` as soon as it is complete.

        Nothing is raised for what an endpoint does: a verdict without scores has a reason.
        """

        async def work(item: Item) -> None:
            verdicts = [
                await self._verdict(chat, item, repeat) for repeat in range(self.settings.repeats)
            ]
            done(item, self.judgement(item, verdicts))

        async with self._chat() as chat:
            await for_each(items, work, concurrency or self.settings.concurrency)

    def judgement(self, item: Item, verdicts: Iterable[Verdict] = ()) -> Judgement:
        """The judgement that `verdicts` make; without any, one that says that none was asked."""
        verdicts = tuple(verdicts) or (Verdict(repeat=0),)
        return Judgement.of(verdicts, self.prompt.sha256, item.response)

    def adopt(self, item: Item, record: Mapping[str, Any]) -> None:
        """Put the verdicts of an earlier log into the store, so that they are not paid for again.

        Only what this judge, with this prompt, said of this very response; scores are read anew.
        """
        for entry in record.get("verdicts", ()):
            repeat = entry["repeat"]
            if not entry["asks"] or not read_verdict(entry["raw"]):
                continue
            if entry["call"] != self._call_key(item, repeat, entry["asks"]):
                continue
            first = self._call_key(item, repeat, 1)
            if self._store.get(first) is None:
                self._store.put(
                    first,
                    Reply(
                        text=entry["raw"],
                        model=entry["model"],
                        finish_reason="stop",
                        refusal=None,
                        prompt_tokens=entry["prompt_tokens"],
                        completion_tokens=entry["completion_tokens"],
                    ),
                )

    def has_verdicts(self, item: Item) -> bool:
        """Whether the store holds a readable verdict for every repeat: judging would ask nothing."""
        return all(self._kept_verdict(item, repeat) for repeat in range(self.settings.repeats))

    def _kept_verdict(self, item: Item, repeat: int) -> bool:
        asks = 1
        while reply := self._store.get(self._call_key(item, repeat, asks)):
            if _read(Verdict(repeat), reply).scores:
                return True
            asks += 1
        return False

    async def _verdict(self, chat: Chat, item: Item, repeat: int) -> Verdict:
        """Ask until a reply can be read, at most TRIES times beyond what the store has."""
        prompt, defused = self.prompt.render(item.instruction, item.response)
        request = self._request(prompt)
        verdict = Verdict(repeat, defused=defused)
        asks = fresh = 0
        while fresh < TRIES:
            asks += 1
            key = self._call_key(item, repeat, asks)
            reply = chat.kept(key)
            if reply is None:
                fresh += 1
                try:
                    reply = await chat.ask(key, request)
                except CallError as error:
                    detail = f"{error}"
                    if isinstance(error, EndpointError):
                        _log.error("judge: %s", detail)
                    return replace(verdict, reason=error.reason, detail=detail, asks=asks)
            verdict = _read(replace(verdict, asks=asks, call=key), reply)
            if verdict.scores:
                break
        return verdict

    def _call_key(self, item: Item, repeat: int, ask: int) -> str:
        return call_key(
            judge=self.settings.model,
            base_url=self.settings.base_url,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            prompt=self.prompt.sha256,
            instruction=assets.sha256(item.instruction),
            response=assets.sha256(item.response),
            repeat=repeat,
            ask=ask,
        )

    def _request(self, prompt: str) -> dict[str, Any]:
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }

    def _chat(self, **options: Any) -> Chat:
        return Chat(self._store, base_url=self.settings.base_url, api_key=self._key, **options)


def _read(verdict: Verdict, reply: Reply) -> Verdict:
    """`verdict` with what the reply says. A reply cut at its token limit ends on no verdict."""
    scores = read_verdict(reply.text) if reply.finish_reason != "length" else None
    declined = reply.refusal or reply.finish_reason == "content_filter" or is_refusal(reply.text)
    return replace(
        verdict,
        scores=scores,
        reason=None if scores else "refused" if declined else "parse_error",
        raw=reply.refusal or reply.text,
        model=reply.model,
        retries=reply.retries,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


__all__ = ["DIMENSIONS", "Item", "Judge", "JudgePrompt", "JudgeSettings", "Judgement", "Verdict"]
