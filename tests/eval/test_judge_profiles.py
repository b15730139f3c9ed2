"""Judge profiles: reasoning models, shutdown dates, limits and costs."""

import re
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, completion, refusal, verdict
from support.judging import ITEMS, ONE, is_preflight, judge_at, judged, papers_judge_at
from support.submissions import log

from longwriter_core.errors import InputError
from longwriter_core.files import locked
from longwriter_core.llm import Store, run_async
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_eval.cli.judges import _state
from longwriter_eval.cli.main import main
from longwriter_eval.judge.judge import Judge, judge_with_progress
from longwriter_eval.judge.settings import JudgeSettings, api_key, judge_label, protocol_text
from longwriter_eval.judge.verdict import Item

PROFILES = """
[profiles.thinking]
model = "mock-judge-1"
token_field = "max_completion_tokens"
max_tokens = 4000
reasoning_effort = "low"
structured_output = true
[profiles.small]
model = "mock-judge"
context_window = 2000
prices = [10, 1, 20]
"""


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text(PROFILES)
    monkeypatch.setenv("LONGWRITER_PROFILES", str(path))


def on(day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the current date to `day`."""
    monkeypatch.setattr("longwriter_eval.judge.settings.today", lambda: day)
    monkeypatch.setattr("longwriter_core.llm.profiles.today", lambda: day)


def settings(**given: Any) -> JudgeSettings:
    return JudgeSettings.resolve(given, {})


def complaint(judge: Judge) -> str:
    """The one-line error of a judge's failed check."""
    with pytest.raises(InputError) as refused:
        run_async(judge.check())
    (line,) = str(refused.value).splitlines()
    return line


# Choosing the judge


def test_a_profile_sets_the_model_and_request_fields() -> None:
    luna = settings(judge="gpt-6-luna")
    assert (luna.model, luna.base_url) == ("gpt-6-luna", None)
    sent = luna.request_fields()
    assert sent.pop("response_format")["type"] == "json_schema"
    assert sent == {"max_completion_tokens": 16_384, "reasoning_effort": "medium"}


def test_explicit_settings_override_the_profile() -> None:
    given = settings(
        judge="gpt-6-luna",
        judge_temperature="1",
        judge_max_tokens=9_000,
        judge_extra={"reasoning_effort": None, "response_format": None, "top_p": 0.9},
    )
    sent = {"temperature": 1, "max_completion_tokens": 9_000, "top_p": 0.9}
    assert given.request_fields() == sent


def test_a_model_without_a_profile_uses_the_papers_constants() -> None:
    named = settings(judge_model="gpt-6-luna")
    assert named.request_fields() == {"temperature": 0.5, "max_tokens": 1024}
    assert named.protocol == {"temperature": 0.5, "max_tokens": 1024}


def test_a_model_in_the_metadata_overrides_the_environments_profile() -> None:
    environment = {"LONGWRITER_JUDGE": "gpt-6-luna"}
    assert JudgeSettings.resolve({}, environment).profile == "gpt-6-luna"
    named = JudgeSettings.resolve({"judge_model": "mine"}, environment)
    assert (named.profile, named.model, named.temperature) == (None, "mine", 0.5)
    other = JudgeSettings.resolve({"judge": "gpt-5.6-luna"}, {"LONGWRITER_JUDGE_MODEL": "mine"})
    assert other.model == "gpt-5.6-luna"


def test_what_is_known_of_a_profiles_model_does_not_hold_for_another_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = settings(judge="gpt-6-luna", judge_model="o99", judge_max_cost="1")
    assert other.label == "o99"
    assert other.list_prices() is None
    with pytest.raises(InputError, match="the price of o99 is not known"):
        other.check_usable()
    listed = settings(judge="gpt-6-luna", judge_model="gpt-5.6-luna")
    assert listed.list_prices() == settings(judge="gpt-5.6-luna").list_prices()
    dead = settings(judge="gpt-6-luna", judge_model="gpt-4o-2024-05-13")
    on(date(2026, 11, 1), monkeypatch)
    with pytest.raises(InputError, match="was shut down on 2026-10-23"):
        dead.check_usable()


def test_the_users_prices_come_before_a_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('[mine.models]\n"gpt-6-luna" = [100, 400]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
    prices = settings(judge="gpt-6-luna").list_prices()
    assert prices
    assert (prices.prompt, prices.completion) == (100, 400)


def test_the_context_holds_the_response_with_the_most_tokens() -> None:
    chinese, english = "字" * 1_500, "word " * 1_000  # fewer characters, and more tokens
    items = [Item("en", "Write.", english), Item("zh", "Write.", chinese)]
    judge = Judge(settings(judge="small", judge_base_url="http://localhost:1/v1"), "key")
    with pytest.raises(InputError, match="the response zh has about"):
        judge.check_context(items)


@pytest.mark.parametrize("key", ["jugde", "jduge", "judge_modle", "judgemodel"])
def test_a_misspelt_setting_is_not_ignored(key: str) -> None:
    with pytest.raises(InputError, match=key):
        settings(**{key: "gpt-6-luna"})


def test_a_profile_for_a_self_hosted_server_requires_a_base_url() -> None:
    with pytest.raises(InputError, match=r"gpt-oss-120b needs a server of your own .* judge_base_"):
        settings(judge="gpt-oss-120b")
    assert settings(judge="gpt-oss-120b", judge_base_url="http://me/v1").temperature == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"judge": "gpt7"}, "there is no profile 'gpt7'"),
        ({"judge_temperature": "hot"}, "judge_temperature must be a number from 0 to 2, or none"),
        ({"judge_max_tokens": 0}, "judge_max_tokens must be a whole number of tokens"),
        ({"judge_extra": "{"}, "judge_extra must be a JSON object"),
        ({"judge_extra": [1]}, "judge_extra must be a JSON object"),
        ({"judge_extra": {"temperature": 1}}, "judge_extra must not set temperature: use judge_te"),
        ({"judge_max_cost": "-1"}, "judge_max_cost must be an amount of USD above 0"),
    ],
)
def test_unusable_settings_are_a_one_line_error(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as refused:
        settings(**given)
    (line,) = str(refused.value).splitlines()
    assert says in line


def test_an_openai_key_is_not_sent_to_another_provider() -> None:
    claude = settings(judge="claude-sonnet-5-5")
    with pytest.raises(InputError, match="LONGWRITER_JUDGE_API_KEY or ANTHROPIC_API_KEY"):
        api_key(claude, {"OPENAI_API_KEY": KEY})
    assert api_key(claude, {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "a"}) == "a"
    assert JudgeSettings.resolve(
        {"judge": "claude-sonnet-5-5"}, {"OPENAI_BASE_URL": "http://proxy/v1"}
    ).base_url == "https://api.anthropic.com/v1"  # fmt: skip


# Identity


def test_every_departure_from_the_papers_protocol_is_named_in_results_and_logs() -> None:
    with Endpoint() as server:
        judge = judge_at(server, judge="thinking", extra='{"top_p": 0.9}')
        (found,) = judged(judge, ONE).values()
    named = {
        "model": JUDGE,
        "temperature": None,
        "max_tokens": 4000,
        "reasoning_effort": "low",
        "response_format": "verdict",
        "top_p": 0.9,
        "prompt": "longwriter",
    }
    assert found.status == "judged"
    assert judge.settings.record()["departures"] == named
    assert found.record()["departures"] == named
    assert judge_label(judge.settings.record()).startswith(f"{JUDGE} (temperature none, max_tok")


@pytest.mark.parametrize(
    "change",
    [{"temperature": "none"}, {"max_tokens": 2000}, {"extra": '{"top_p": 0.9}'}],
    ids=str,
)
def test_different_protocols_do_not_share_stored_verdicts_or_rankings(
    change: dict[str, Any],
) -> None:
    with Endpoint(judge_reasoning_tokens=0) as server:
        first = judged(papers_judge_at(server), ONE)[ONE[0].id]
        other = papers_judge_at(server, **change)
        assert not other.has_verdicts(ONE[0])
        assert not other.recorded_verdicts(ONE[0], first.record())
        judged(other, ONE)
    assert server.requests == 2
    papers = papers_judge_at(server).settings.record()
    assert protocol_text(other.settings.record()) != protocol_text(papers)


def test_a_record_of_release_0_1_0_has_the_papers_protocol() -> None:
    old = {"model": "m", "temperature": 0.5, "max_tokens": 1024}
    assert protocol_text(old) == protocol_text(settings(judge_model="m").record())
    assert judge_label(old) == "m"


# The preflight


def test_the_preflight_requires_one_readable_verdict() -> None:
    with Endpoint(judge_reasoning_tokens=0) as server:
        run_async(papers_judge_at(server).check())
        assert list(map(is_preflight, server.prompts)) == [True]
    with Endpoint(
        judge_reasoning_tokens=0, answers=[(200, completion("Fine, I like it."))]
    ) as server:
        line = complaint(papers_judge_at(server))
    assert "asked for a verdict 5 times, it gave no verdict but 'Fine, I like it.'" in line


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (completion("", "length"), "cut at the limit of 1024 tokens, before it had written"),
        (completion(verdict(3), "length"), "cut at the limit of 1024 tokens: raise judge_max_tok"),
        (completion(""), "an empty reply (its limit is judge_max_tokens, 1024 tokens)"),
    ],
    ids=["thought-until-the-limit", "cut", "empty"],
)
def test_the_error_for_an_empty_or_cut_reply_names_the_limit(
    reply: dict[str, Any], says: str
) -> None:
    with Endpoint(judge_reasoning_tokens=0, answers=[(200, reply)]) as server:
        assert says in complaint(papers_judge_at(server))


def test_a_reasoning_model_fails_with_the_papers_constants_and_passes_with_its_profile() -> None:
    with Endpoint(judge_reasoning_tokens=2_000) as server:
        line = complaint(papers_judge_at(server))
        assert "'temperature' does not support 0.5" in line
        assert line.endswith("; set judge_temperature=none")
        line = complaint(papers_judge_at(server, temperature="none"))
        assert "cut at the limit of 1024 tokens, before it had written anything" in line
        judge = judge_at(server, judge="thinking")
        run_async(judge.check())
        assert {judgement.status for judgement in judged(judge).values()} == {"judged"}
    sent = server.history[-1].body
    assert sent["max_completion_tokens"] == 4000
    assert not sent.keys() & {"temperature", "max_tokens"}


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("temperature", "set judge_temperature=none"),
        ("max_tokens", "set judge_max_tokens to what it allows"),
        ("top_p", """set judge_extra='{"top_p": null}'"""),
    ],
)
def test_the_error_for_a_refused_parameter_names_the_setting_to_change(
    parameter: str, line: str
) -> None:
    answer = refusal(400, "unsupported_parameter", f"Unsupported parameter: '{parameter}'.")
    with Endpoint(judge_reasoning_tokens=0, answers=[answer]) as server:
        assert complaint(papers_judge_at(server, extra='{"top_p": 1}')).endswith(f"; {line}")


def test_a_parameter_that_is_only_in_the_errors_param_is_named_too() -> None:
    error = {"message": "Invalid value.", "param": "foo(", "code": None}
    with Endpoint(judge_reasoning_tokens=0, answers=[(400, {"error": error})]) as server:
        line = complaint(papers_judge_at(server, extra='{"foo(": 1, "bar[": 2}'))
    assert """Invalid value. (parameter foo(); set judge_extra='{"foo(": null}'""" in line


def test_the_check_waits_for_a_busy_account_as_long_as_other_calls_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("longwriter_core.llm.client.random.uniform", lambda *_: 0)  # no pauses
    busy = refusal(429, None, "Rate limit reached.")
    replies = [*[busy] * 9, (200, completion(verdict(3)))]
    with Endpoint(judge_reasoning_tokens=0, answers=replies) as server:
        run_async(papers_judge_at(server).check())
    assert server.requests == 10


# Shutdown dates


def test_a_judge_that_is_shut_down_ends_the_run_and_lists_available_profiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = Judge(settings(judge_prompt="longwriter"), KEY)
    on(date(2027, 1, 14), monkeypatch)
    line = complaint(judge)
    assert "gpt-4o-2024-11-20 was shut down on 2027-01-14" in line
    assert "gpt-6-luna" in line
    assert "gpt-4o-2024-05-13" not in line
    named = settings(judge_model="gpt-4o-2024-05-13", judge_prompt="longwriter")
    assert "was shut down on 2026-10-23" in complaint(Judge(named, KEY))


def test_shutdown_dates_count_only_at_the_providers_own_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(date(2030, 1, 1), monkeypatch)
    with Endpoint(models={"gpt-4o-2024-11-20": None}) as server:
        server.on_request = lambda _: MockReply(verdict(4))
        given = {"judge_base_url": server.base_url, "judge_prompt": "longwriter"}
        run_async(Judge(settings(**given), KEY).check())
        given["judge_model"] = "gpt-4o-2024-11-20"
        run_async(Judge(settings(**given), KEY).check())


def test_the_default_judge_works_until_the_day_before_its_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(date(2027, 1, 13), monkeypatch)
    settings().check_usable()


# Replies that are cut


def test_judging_stops_early_if_every_reply_is_cut() -> None:
    with Endpoint(answers=[(200, completion("", "length"))]) as server:
        found = judged(judge_at(server, concurrency=1))
    assert server.requests == 10  # not 5 for each of 40 items
    reasons = [judgement.status for judgement in found.values()]
    assert set(reasons) == {"cut", "not_asked"}
    assert reasons[:2] == ["cut", "cut"]


def test_a_whole_reply_does_not_keep_judging_going_when_the_rest_are_cut() -> None:
    def reply(request: MockRequest) -> MockReply | None:
        return None if "Write 0" in request.prompt else MockReply("", "length")

    with Endpoint(on_request=reply) as server:
        found = judged(judge_at(server, concurrency=1))
    assert server.requests == 1 + 4 * 5 - 4  # at the first reply on the fifth text, 4 of 5 are cut
    reasons = [judgement.status for judgement in found.values()]
    assert reasons[:6] == ["judged", "cut", "cut", "cut", "cut", "not_asked"]


def test_judging_continues_if_only_some_replies_are_cut() -> None:
    def reply(request: MockRequest) -> MockReply | None:
        return MockReply("", "length") if "Write 1" in request.prompt else None

    with Endpoint(on_request=reply) as server:
        found = judged(judge_at(server, concurrency=4))
    reasons = {id: judgement.status for id, judgement in found.items()}
    assert {reasons.pop(f"id/{n}") for n in (1, *range(10, 20))} == {"cut"}
    assert set(reasons.values()) == {"judged"}


# The context


def test_a_response_that_exceeds_the_context_stops_judging_before_the_first_call() -> None:
    items = [*ITEMS, Item("long", "Write.", "word " * 3_000)]
    with Endpoint() as server:
        judge = judge_at(server, judge="small")
        with pytest.raises(InputError, match=r"long has about .* context of small, 2,000 tokens"):
            judge.check_context(items)
        found = judge_with_progress(judge, items)
        assert server.requests == 0
        assert {judgement.status for judgement in found.values()} == {"not_asked"}
        judge.check_context(ITEMS)


# Limits on cost


def test_judging_stops_before_it_exceeds_max_cost() -> None:
    with Endpoint() as server:
        judge = judge_at(server, judge="small", max_cost="0.1", concurrency=16)
        found = judged(judge)
        judged_first = [judgement for judgement in found.values() if judgement.status == "judged"]
        prices = judge.settings.prices()
        assert prices is not None
        spent = sum(
            prices.cost(v.prompt_tokens or 0, v.completion_tokens or 0)
            for judgement in judged_first
            for v in judgement.verdicts
        )
        assert 0 < len(judged_first) < len(found)
        assert {judgement.status for judgement in found.values()} == {"judged", "not_asked"}
        assert 0.04 < spent <= 0.1
        more = judged(judge_at(server, judge="small", max_cost=9))
        assert {judgement.status for judgement in more.values()} == {"judged"}
        assert server.requests == len(ITEMS)  # nothing was paid twice


def test_calls_in_flight_count_at_their_maximum_cost() -> None:
    with Endpoint(delay=0.3) as server:
        judged(judge_at(server, judge="small", max_cost="0.3", concurrency=40))
    prompt = max(len(str(request.body)) for request in server.history)
    assert server.stats().max_in_flight <= 0.3 / ((prompt * 6 + 1024 * 20) / 1e6)


def test_a_limit_on_spending_needs_a_price() -> None:
    with Endpoint() as server:
        line = complaint(judge_at(server, model="judge-x", max_cost=1))
    assert "max_cost: the price of judge-x is not known" in line
    assert server.requests == 0


def test_the_maximum_cost_is_known_before_judging() -> None:
    with Endpoint() as server:
        judge = judge_at(server, judge="small", repeats=2)
        note = judge.cost_note(ITEMS)
        (most,) = re.findall(r"at most \$([\d.]+) \(5 attempts", note)
        limit = 40 * 2 * 5 * 1024 * 20 / 1e6
        assert limit < float(most) < limit + 40 * 2 * 5 * 3_000 * 10 / 1e6
        judged(judge)
        assert judge.cost_note(ITEMS) == ""


# Small accounts


def test_a_low_rate_limit_loses_no_verdict() -> None:
    """Judge 120 responses at 60 calls per second, which simulates a limit of 30 per minute."""
    began: list[float] = []

    def limited(_: MockRequest) -> MockReply | None:
        now = time.monotonic()
        began[:] = [at for at in began if at > now - 0.5]
        if len(began) < 30:
            began.append(now)
            return None
        error = {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}
        return MockReply(status=429, body=error, headers={"Retry-After": "0.5"})

    items = [replace(ITEMS[0], id=f"{n}", response=f"Text {n}.") for n in range(120)]
    with Endpoint(on_request=limited) as server:
        found = judged(judge_at(server, concurrency=32), items)
    assert [judgement.status for judgement in found.values()] == ["judged"] * 120
    assert len(list(Store().folder.rglob("*.json"))) == 120


def test_a_second_score_of_the_same_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = log(judge=JUDGE).load(tmp_path / "run")
    with locked(run.folder / ".score.lock"):
        assert main(["score", str(run.folder)]) == 2
    assert "another `longwriter score` works on" in capsys.readouterr().err


# The list


def test_the_list_shows_every_profiles_requirements_cost_and_shutdown_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(date(2026, 11, 21), monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["judges"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    shown = " ".join(" ".join(lines).split())
    for said in (
        "gpt-4o-2024-11-20, the default",
        "until 2027-01-14 (54 days)",
        "shut down on 2026-10-23",
        "ANTHROPIC_API_KEY",
        "about $0.19 for 120 responses",
        "as long as you serve it",
        "no temperature, max_completion_tokens 16,384, reasoning_effort medium, a JSON schema",
    ):
        assert said in shown
    on(date(2027, 1, 14), monkeypatch)
    assert main(["judges"]) == 0
    shown = capsys.readouterr().out
    assert "There is no default any more: choose one of gpt-6-luna" in shown
    assert ", the default" not in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--judge", "nope"], "there is no profile 'nope'"),
        (["--judge", "gpt-6-luna,nope"], "there is no profile 'nope'"),
        (["--judge", ","], "',' names no profile"),
        (["--judge-base-url", "nonsense"], "--judge-base-url: it must be a URL"),
    ],
)
def test_the_list_of_an_unknown_profile_is_an_error(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judges", *options]) == 2
    assert says in capsys.readouterr().err


def test_the_list_shows_the_profiles_of_a_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judges", "--judge", "gpt-6-luna+small"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line and line[0] != " "][:-1] == ["gpt-6-luna", "small"]


UNREADABLE: list[Any] = ["soon", {"day": 1}, True, [], float("inf"), 10**400, 1795392000000]


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (None, (True, "offered, no shutdown announced")),
        ("2026-11-23", (True, "until 2026-11-23")),
        ("2026-11-22T00:00:00Z", (False, "shut down on 2026-11-22")),
        (1795305600, (False, "shut down on 2026-11-22")),
        (1795392000.5, (True, "until 2026-11-23")),
        *(
            (unreadable, (True, "offered, with a shutdown date that cannot be read"))
            for unreadable in UNREADABLE
        ),
    ],
)
def test_a_shutdown_date_is_read_in_any_form(given: object, state: tuple[bool, str]) -> None:
    assert _state("m", {"models/m": given}, date(2026, 11, 22)) == state


def test_the_check_lists_the_endpoints_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {JUDGE: None, "mock-judge-1": "2026-12-01", "old": "2026-01-01"}
    with Endpoint(models=models) as server:
        base = ["judges", "--check", "--judge-base-url", server.base_url, "--judge"]
        on(date(2026, 11, 21), monkeypatch)
        assert main([*base, "small"]) == 0
        assert "small: offered, no shutdown announced" in capsys.readouterr().out
        assert main([*base, "thinking"]) == 0
        assert "thinking: until 2026-12-01" in capsys.readouterr().out
        assert main([*base, "gpt-oss-120b"]) == 1
        assert "gpt-oss-120b: not offered" in capsys.readouterr().out
    assert main([*base, "small"]) == 2
    assert "cannot list the judge's models" in capsys.readouterr().err
