"""A panel of judges: settings, verdicts, agreement, resuming, and the commands that refuse one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, verdict
from support.judging import ITEMS, is_preflight, judged
from support.logs import Answer, Log, answers, words

from longwriter_core.errors import InputError
from longwriter_core.llm import run_async
from longwriter_core.mock_server import MockReply, MockRequest
from longwriter_core.mock_server.messages import error_reply
from longwriter_eval.cli.main import main
from longwriter_eval.judge.panel import Panel, PanelSettings
from longwriter_eval.judge.settings import judge_label, protocol_text
from longwriter_eval.rescoring import score
from longwriter_eval.runs import Run, load_run
from longwriter_eval.scoring import score_samples
from longwriter_eval.stats.agreement import agreement, pair_agreements, recorded_agreement

SERVED = '[profiles.{name}]\nmodel = "{name}-judge"\nendpoint = "{url}"\nprices = [1, 1]\n'
SERVED += 'token_field = "max_completion_tokens"\n'
GRADES = {"kind-judge": 5, "mean-judge": 3, "odd-judge": 1}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """Three judges with profiles; each gives all responses its own grade."""
    with Endpoint() as server:
        server.on_request = lambda request: MockReply(verdict(GRADES[request.model]))
        text = "".join(SERVED.format(name=n, url=server.base_url) for n in ("kind", "mean", "odd"))
        (tmp_path / "profiles.toml").write_text(text)
        monkeypatch.setenv("LONGWRITER_PROFILES", str(tmp_path / "profiles.toml"))
        yield server


def panel(names: Any = "kind,mean", **metadata: Any) -> Panel:
    given = {"judge": names, "judge_prompt": "longwriter", **metadata}
    return Panel(PanelSettings.resolve(given, {}), {})


def refused(**metadata: Any) -> str:
    with pytest.raises(InputError) as found:
        PanelSettings.resolve(metadata, {})
    (line,) = str(found.value).splitlines()
    return line


def a_run(folder: Path) -> Run:
    """Twelve unjudged responses, as a run with another judge whose verdicts are missing."""
    run = answers(12, lambda i: Answer(words(50 + i), "transport_error"))
    return Log(run).load(folder)


def judge_run(folder: Path, names: str = "kind,mean", **overrides: str) -> Any:
    return score(folder, {"judge": names, **overrides})


# Settings and identity


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("names", ["kind,mean", "mean+kind", " mean , kind ", ["mean", "kind"]])
def test_the_judges_of_a_panel_are_a_set(names: Any) -> None:
    assert panel(names).settings == panel("kind,mean").settings
    assert panel(names).settings.record() == panel("kind,mean").settings.record()


@pytest.mark.usefixtures("server")
def test_a_panel_of_one_is_that_judge() -> None:
    one = panel("kind").settings
    assert one == panel(["kind"]).settings == panel("kind,").settings == panel(" kind").settings
    assert one.record() == one.first.record()


@pytest.mark.usefixtures("server")
def test_a_panel_differs_from_its_judges_and_from_other_panels() -> None:
    records = [panel(names).settings.record() for names in ("kind", "kind,mean", "kind,odd")]
    assert len({judge_label(record) for record in records}) == 3
    assert len({protocol_text(record) for record in records}) == 3
    assert len({record["model"] for record in records}) == 3


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"judge": "kind,kind"}, "judge names kind twice", id="twice"),
        pytest.param({"judge": "kind,knid"}, "did you mean kind?", id="unknown"),
        pytest.param({"judge": "kind,mean", "judge_model": "m"}, "judge_model would", id="model"),
        pytest.param({"judge": "kind,mean", "judge_extra": "{}"}, "judge_extra would", id="extra"),
        pytest.param(
            {"judge": "kind,mean", "judge_base_url": "http://host/v1"}, "every judge", id="url"
        ),
        pytest.param({"judge": "kind,gpt-oss-120b"}, "needs a server of your own", id="no-server"),
        pytest.param({"judge": ","}, "',' names no profile", id="no-name"),
        pytest.param({"judge": []}, "judge must be text", id="empty-list"),
        pytest.param({"judge": 7}, "7 names no profile", id="number"),
    ],
)
def test_an_impossible_panel_is_refused_with_one_line(given: dict[str, Any], said: str) -> None:
    assert said in refused(**given)


def test_two_names_of_one_judge_are_no_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profiles.toml"
    path.write_text('[profiles.a]\nmodel = "m"\n[profiles.b]\nmodel = "m"\n')
    monkeypatch.setenv("LONGWRITER_PROFILES", str(path))
    assert "are the same judge" in refused(judge="a,b", judge_base_url="http://host/v1")


@pytest.mark.usefixtures("server")
def test_the_base_url_is_that_of_the_judges_without_an_endpoint() -> None:
    served = panel("kind,gpt-oss-120b", judge_base_url="http://mine/v1").settings
    assert served.judges[0].base_url == "http://mine/v1"
    assert served.judges[1].base_url != "http://mine/v1"
    assert served.record()["base_url"] == "http://mine/v1"


def test_a_key_is_sent_only_to_its_own_provider() -> None:
    settings = PanelSettings.resolve(
        {"judge": "gpt-6-luna,claude-sonnet-5-5", "judge_prompt": "longwriter"}, {}
    )
    general = {"LONGWRITER_JUDGE_API_KEY": "general", "OPENAI_API_KEY": KEY}
    with pytest.raises(InputError, match="ANTHROPIC_API_KEY"):
        Panel(settings, general)
    keys = [judge._key for judge in Panel(settings, {**general, "ANTHROPIC_API_KEY": "a"}).judges]
    assert keys == ["a", KEY]


# Judging


def test_s_q_is_the_mean_of_the_judges_and_every_verdict_is_kept(server: Endpoint) -> None:
    found = panel("kind,mean,odd").judge_with_progress(ITEMS[:3])
    for judgement in found.values():
        assert judgement.quality["score"] == pytest.approx((100 + 50 + 0) / 3)
        assert judgement.judges == {"kind": 100.0, "mean": 50.0, "odd": 0.0}
        assert [v["judge"] for v in judgement.record()["verdicts"]] == ["kind", "mean", "odd"]
    assert len(server.history) == 9


def test_the_batches_of_a_panel_run_at_the_same_time(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longwriter_core.llm.batch.QUIET", 0.05)
    grade, created, polls = server.on_request, [], []

    def wait_for_both(request: MockRequest) -> Any:
        """A batch is in progress until the other judge's has been created, or it never comes."""
        if request.is_chat and grade:
            return grade(request)
        if request.path == "/v1/batches" and request.method == "POST":
            created.append(request)
        if request.path.startswith("/v1/batches/"):
            polls.append(len(created))
            if len(created) < 2 and len(polls) < 40:
                batch = request.path.rpartition("/")[2]
                return MockReply(body={"id": batch, "object": "batch", "status": "in_progress"})
        return None

    server.on_request = wait_for_both
    judging = panel(judge_batch=True)
    run_async(judging.check())
    found = judging.judge_with_progress(ITEMS[:3])
    assert {judgement.quality["score"] for judgement in found.values()} == {75}
    assert len(created) == 2
    assert len(polls) < 40


def test_there_is_no_s_q_where_a_judge_has_no_verdict(server: Endpoint) -> None:
    server.on_request = lambda request: MockReply(
        "No." if request.model == "mean-judge" else verdict(5)
    )
    (judgement,) = panel().judge_with_progress(ITEMS[:1]).values()
    assert (judgement.quality, judgement.status) == ({}, "parse_error")
    assert judgement.missing == ["parse_error"]
    assert judgement.judges == {"kind": 100.0}


def test_a_panel_pays_nothing_for_the_stored_verdicts_of_its_judges(server: Endpoint) -> None:
    judged(panel("kind").judges[0], ITEMS[:4])
    before = len(server.history)
    panel().judge_with_progress(ITEMS[:4])
    asked = [request.model for request in server.history[before:]]
    assert asked == ["mean-judge"] * 4


def test_the_preflight_asks_every_judge(server: Endpoint) -> None:
    run_async(panel("kind,mean,odd").check())
    assert [request.model for request in server.history] == list(GRADES)
    assert all(is_preflight(request.prompt) for request in server.history)


def test_max_cost_is_that_of_the_whole_panel(server: Endpoint) -> None:
    both = panel(judge_max_cost="0.005", judge_concurrency=1)
    found = both.judge_with_progress(ITEMS[:20])
    assert 1 <= len(server.history) < 20  # each call is counted at 1,024 tokens and its prompt
    assert {name for j in found.values() for name in j.missing} == {"not_asked"}


def test_the_longest_response_must_fit_every_judge(
    tmp_path: Path, server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SERVED.format(name="kind", url=server.base_url)
    text += SERVED.format(name="mean", url=server.base_url) + "context_window = 1200\n"
    (tmp_path / "small.toml").write_text(text)
    monkeypatch.setenv("LONGWRITER_PROFILES", str(tmp_path / "small.toml"))
    found = panel().judge_with_progress(ITEMS[:2])
    assert [judgement.missing for judgement in found.values()] == [["not_asked"] * 2] * 2
    assert not server.history


# What an endpoint refuses


def without_formats(request: MockRequest) -> MockReply:
    """An endpoint that knows no `response_format`."""
    if "response_format" in request.body:
        return error_reply(400, "invalid", "Unknown parameter: 'response_format'.")
    return MockReply(verdict(4))


@pytest.fixture
def structured(server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """A judge whose profile sends a JSON schema, at an endpoint that refuses it."""
    text = SERVED.format(name="strict", url=server.base_url) + "structured_output = true\n"
    (tmp_path / "strict.toml").write_text(text)
    monkeypatch.setenv("LONGWRITER_PROFILES", str(tmp_path / "strict.toml"))
    server.on_request = without_formats
    return server


@pytest.mark.usefixtures("structured")
def test_a_refused_response_format_is_not_recorded_as_sent() -> None:
    strict = panel("strict")
    assert strict.settings.record()["departures"]["response_format"] == "verdict"
    assert run_async(strict.check())  # the settings changed
    recorded = strict.settings.record()
    assert "response_format" not in recorded["departures"]
    assert recorded["extra"] == {"response_format": None}
    (judgement,) = strict.judge_with_progress(ITEMS[:1]).values()
    assert "response_format" not in judgement.departures


def test_a_run_at_such_an_endpoint_records_it_and_resumes_for_free(
    structured: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run", "strict")
    recorded = load_run(tmp_path / "run").record("longwrite_demo")["judge"]
    assert "response_format" not in recorded["departures"]
    structured.history.clear()
    score(tmp_path / "run", {})  # the run's own settings
    assert not structured.history
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "another"))
    judge_run(tmp_path / "run", "strict")  # the profile's settings: the preflight finds out again
    assert all(is_preflight(request.prompt) for request in structured.history)


# Agreement


def test_agreement_of_two_judges_by_hand() -> None:
    by_judge = {"a": {"x": 0.0, "y": 50.0, "z": 100.0}, "b": {"x": 10.0, "y": 60.0, "z": 80.0}}
    (pair,) = pair_agreements(by_judge)
    assert pair.responses == 3
    assert pair.correlation == pytest.approx(1.0)
    assert pair.difference == pytest.approx((10 + 10 + 20) / 3)
    assert pair.shift == pytest.approx((10 + 10 - 20) / 3)
    assert "differs by 13.3 points on average (the second gives +0.0)" in str(pair)


def test_judges_without_a_common_response_have_no_agreement() -> None:
    assert pair_agreements({"a": {"x": 1.0}, "b": {"y": 1.0}}) == []


@pytest.mark.usefixtures("server")
def test_a_single_judge_records_no_agreement() -> None:
    found = panel("kind").judge_with_progress(ITEMS[:2])
    assert recorded_agreement(found) == {}


# Runs and commands


@pytest.mark.usefixtures("server")
def test_score_judges_a_run_by_a_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_run(tmp_path / "run")
    assert main(["score", str(tmp_path / "run"), "--judge", "mean,kind"]) == 0
    printed = capsys.readouterr().out
    assert "S_q differs by 50.0 points on average" in printed
    run = load_run(tmp_path / "run")
    assert {found.quality_score for found in score_samples(run.samples)} == {75.0}
    recorded = run.record("longwrite_demo")["judge"]
    assert recorded["profile"] == "kind,mean"
    assert [judge["model"] for judge in recorded["judges"]] == ["kind-judge", "mean-judge"]
    (pair,) = recorded["agreement"]
    assert (pair["a"], pair["b"], pair["difference"]) == ("kind", "mean", 50.0)


def test_score_resumes_only_the_missing_verdicts(
    server: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path / "run")

    def fails(request: MockRequest) -> MockReply:
        is_third = "Write text 3." in request.prompt and request.model == "mean-judge"
        return MockReply("No." if is_third else verdict(GRADES[request.model]))

    server.on_request = fails
    assert dict(judge_run(tmp_path / "run").missing) == {"parse_error": 1}
    assert [s.status for s in score_samples(load_run(tmp_path / "run").samples)].count(
        "judged"
    ) == 11
    server.on_request = lambda request: MockReply(verdict(GRADES[request.model]))
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "another"))  # the logs alone are enough
    server.history.clear()
    assert not score(tmp_path / "run", {}).missing  # the run's own panel
    assert [request.model for request in server.history] == ["mean-judge"] * 2  # with preflight


def test_a_third_judge_joins_for_the_price_of_its_own_verdicts(
    server: Endpoint, tmp_path: Path
) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run")
    server.history.clear()
    judge_run(tmp_path / "run", "kind,mean,odd")
    assert {request.model for request in server.history} == {"odd-judge"}
    (found,) = [a for a in agreement([load_run(tmp_path / "run")]) if len(a.pairs) == 3]
    assert found.responses == 12
    server.history.clear()
    judge_run(tmp_path / "run", "odd")  # and back to a single judge
    assert not server.history


@pytest.mark.usefixtures("server")
def test_a_panel_and_its_judge_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, judges in (("a", "kind,mean"), ("b", "kind")):
        a_run(tmp_path / name)
        judge_run(tmp_path / name, judges)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "judge: kind,mean vs. kind-judge" in capsys.readouterr().err
    judge_run(tmp_path / "b", "mean,kind")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "RUN", "RUN", "--judge", "same"], "were judged by a panel (kind,mean)"),
        (["judge-exam", "kind,mean"], "names several judges (kind,mean), and this command"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_that_take_one_judge_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run")
    capsys.readouterr()
    run = str(tmp_path / "run")
    assert main([run if each == "RUN" else each for each in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


@pytest.mark.usefixtures("server")
def test_calibrate_reads_the_verdicts_of_a_panels_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run")
    assert main(["calibrate", str(tmp_path / "run"), "--from", "kind", "--to", "mean"]) == 2
    assert "12 responses were judged by both judges" in capsys.readouterr().err  # too few


@pytest.mark.usefixtures("server")
def test_the_report_shows_each_judges_verdict_and_their_agreement(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run")
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(page), "--no-figure-files"]) == 0
    html = page.read_text(encoding="utf-8")
    assert "S_q differs by 50.0 points on average" in html
    assert "kind,mean" in html


@pytest.mark.usefixtures("server")
def test_a_log_with_a_malformed_verdict_of_a_panel_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path / "run")
    judge_run(tmp_path / "run")
    run = load_run(tmp_path / "run")
    path = max(run.folder.glob("samples_*"))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[0]["doc"]["judgement"]["verdicts"][0]["judge"] = 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    capsys.readouterr()
    assert main(["score", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "malformed" in line
