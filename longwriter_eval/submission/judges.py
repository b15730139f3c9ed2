"""The judge in a submission's manifest: one or a panel, how each was asked, and how it is shown.

The manifest's `judge` holds what all share (prompt and repeats) and the `judges`, each with the
model that was requested, the model that answered, its endpoint, and what was sent. Verdicts name
their judge by its number. Pure, except that profiles are read.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_core.llm import profiles
from longwriter_eval.judge.settings import (
    MAX_TOKENS,
    PAPERS_PROTOCOL,
    TEMPERATURE,
    JudgeSettings,
    protocol_text,
)
from longwriter_eval.judge.verdict import verdict_schema
from longwriter_eval.submission.public import (
    OWN,
    PRIVATE,
    PUBLIC,
    endpoint_class,
    public_endpoint,
    public_model,
    public_request,
)

Json = Mapping[str, Any]

# Departures from the paper's protocol that are not fields of the request.
_NOT_SENT = ("model", "prompt", "repeats", "temperature", "max_tokens")
MAX_REQUEST = 4000  # characters of the other fields of a request, as JSON
_PLACES = {
    OWN: "the provider's own endpoint",
    PUBLIC: "another public endpoint",
    PRIVATE: "a private endpoint",
    None: "an endpoint that was not recorded",
}


def from_run(
    record: Json, prompt_sha256: str, answered: Mapping[str | None, str]
) -> tuple[dict[str, Any], list[str]]:
    """The manifest's `judge` from the judge's record in the results, and what cannot be published.

    `answered` is the model that answered, by the name in the verdicts (None for a single judge).
    """
    problems: list[str] = []
    members = []
    for name, judge in zip(recorded_names(record), _members(record), strict=True):
        sent = {k: v for k, v in judge.get("departures", {}).items() if k not in _NOT_SENT}
        request, withheld = public_request(sent)
        if withheld or len(json.dumps(request)) > MAX_REQUEST:
            fields = ", ".join(withheld or ["its request"])
            problems.append(
                f"{fields} of the judge {public_model(judge['model'])} cannot be published "
                "(secret, private or too long), and a judge is what it was sent: judge the run "
                "without it"
            )
        members.append(
            {
                "requested": public_model(judge["model"]),
                "returned": public_model(answered.get(name) or judge["model"]),
                "endpoint": public_endpoint(judge.get("base_url") or profiles.OPENAI),
                "temperature": judge["temperature"],
                "max_tokens": judge["max_tokens"],
                "request": request,
            }
        )
    shared = {
        "judges": members,
        "repeats": record["repeats"],
        "prompt": public_model(record["prompt"]),
        "prompt_sha256": prompt_sha256,
    }
    return shared, problems


def recorded_names(record: Json) -> list[str | None]:
    """The names of the judges in the verdicts of a run; None for a single judge."""
    if not record.get("judges"):
        return [None]
    return [judge["profile"] or judge["model"] for judge in record["judges"]]


def _members(record: Json) -> Sequence[Json]:
    return record.get("judges") or [record]


def record(judge: Json) -> dict[str, Any]:
    """The judge in the form of a run's results, for reports and links between judges."""
    members = [_record_of_one(member, judge) for member in judge["judges"]]
    if len(members) == 1:
        return members[0]
    label = ",".join(names(judge))
    return {
        "profile": label,
        "model": label,
        "base_url": None,
        "repeats": judge["repeats"],
        "prompt": judge["prompt"],
        "judges": members,
    }


def _record_of_one(member: Json, judge: Json) -> dict[str, Any]:
    settings = {"temperature": member["temperature"], "max_tokens": member["max_tokens"]}
    papers = {"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS}
    departures = {
        **member["request"],
        **{name: value for name, value in settings.items() if papers[name] != value},
    }
    return {
        "profile": profile_name(member),
        "model": member["requested"],
        "base_url": None,
        **settings,
        "repeats": judge["repeats"],
        "prompt": judge["prompt"],
        "departures": dict(sorted(departures.items())),
    }


def members(judge: Json | None) -> Sequence[Json]:
    """The judges of a manifest's `judge`; none without one."""
    return judge["judges"] if judge else ()


def names(judge: Json) -> list[str]:
    """A different name for each judge: its profile, else its model, with its request if needed."""
    short = [profile_name(member) or member["requested"] for member in judge["judges"]]
    return [
        name if short.count(name) == 1 else f"{name} ({_protocol(member)})"
        for name, member in zip(short, judge["judges"], strict=True)
    ]


def identity(judge: Json | None) -> tuple[str, ...]:
    """What makes the scale of a judge or panel: the prompt, and each judge's model and request.

    A panel is a set: its judges have no order. Without a judge it is empty.
    """
    if judge is None:
        return ()
    return (
        judge["prompt_sha256"],
        judge["prompt"],
        *sorted(f"{member['returned']} ({_protocol(member)})" for member in judge["judges"]),
    )


def shown(judge: Json | None) -> str:
    """The judge's name on pages, "no judge" without one. Different judges have different names.

    A judge with the request of a profile has the profile's name, another its model's exact name
    and what it was sent, unless that is the paper's.
    """
    return " + ".join(sorted(map(_shown_member, judge["judges"]))) if judge else "no judge"


def _shown_member(member: Json) -> str:
    profile, protocol = profile_name(member), _protocol(member)
    returned = str(member["returned"])
    if profile:
        return profile if profile == returned else f"{profile} ({returned})"
    # a profile's name alone stands for the profile's request
    is_papers = protocol == PAPERS_PROTOCOL and returned not in profiles.profiles()
    return returned if is_papers else f"{returned} ({protocol})"


def endpoint(member: Json) -> str:
    """Where a judge was asked, in words."""
    return _PLACES[endpoint_class(member["endpoint"])]


def is_stated(member: Json) -> bool:
    """Whether only a private endpoint vouches for the judge's name: it can serve any model."""
    return endpoint_class(member["endpoint"]) == PRIVATE


def profile_name(member: Json) -> str | None:
    """The profile that asks this model in the same way, or None."""
    for name, profile in profiles.profiles().items():
        if profile.model == member["requested"]:
            wanted = JudgeSettings(profile=name).protocol
            sent = {name: member[name] for name in ("temperature", "max_tokens")}
            if wanted == sent | ({"request": member["request"]} if member["request"] else {}):
                return name
    return None


def request_metadata(member: Json) -> dict[str, Any]:
    """The settings that ask this judge again in the same way, as metadata.

    The profile of the model, if there is one, says how its endpoint names the token limit, and
    what it sends beyond the recorded request is removed.
    """
    same_model = (n for n, p in profiles.profiles().items() if p.model == member["requested"])
    name = profile_name(member) or next(same_model, None)
    sent: dict[str, Any] = JudgeSettings(profile=name).protocol.get("request", {}) if name else {}
    request = {**dict.fromkeys(sent), **member["request"]}
    if request.get("response_format") == "verdict":
        request["response_format"] = verdict_schema()
    return {
        **({"judge": name} if name else {"judge_model": member["returned"]}),
        "judge_temperature": "none" if member["temperature"] is None else member["temperature"],
        "judge_max_tokens": member["max_tokens"],
        "judge_extra": request,
    }


def has_own_endpoint(member: Json) -> bool:
    """Whether the profile of this judge's model has an endpoint."""
    return any(p.model == member["requested"] and p.endpoint for p in profiles.profiles().values())


def _protocol(member: Json) -> str:
    """What a judge was sent, in one line."""
    return protocol_text(
        {
            "temperature": None if member["temperature"] is None else float(member["temperature"]),
            "max_tokens": member["max_tokens"],
            "departures": dict(sorted(member["request"].items())),
        }
    )
