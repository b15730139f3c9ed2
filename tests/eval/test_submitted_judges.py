"""Submissions by any judge: thinking judges, own requests and panels; forged claims are refused."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.commands import KEY, lm_eval_arguments, run
from support.endpoint import Endpoint, verdict
from support.submissions import Json, log, repacked, submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_core.mock_server import MockReply
from longwriter_core.mock_server.server import THINKING, THINKING_JUDGE, MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.judge.settings import JudgeSettings, judge_label
from longwriter_eval.leaderboard.rankings import rankings
from longwriter_eval.rescoring import score
from longwriter_eval.submission import judges
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata
from longwriter_eval.submission.public import public_request
from longwriter_eval.submission.rejudging import rejudge
from longwriter_eval.submission.verification import verify

PROFILES = """
[profiles.kind]
model = "kind-judge"
endpoint = "{url}"
max_tokens = 4096
reasoning_effort = "low"

[profiles.mean]
model = "mean-judge"
endpoint = "{url}"
temperature = 0.0
extra = {{ top_p = 0.9 }}
"""
GRADES = {"kind-judge": 5, "mean-judge": 3}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A run judged by a panel of two, and its submission."""
    folder = tmp_path_factory.mktemp("panel")
    # one of the judges takes a temperature, as models without thinking do
    with pytest.MonkeyPatch.context() as patch, Endpoint(judge_reasoning_tokens=0) as server:
        server.on_request = lambda request: MockReply(verdict(GRADES[request.model]))
        (folder / "profiles.toml").write_text(PROFILES.format(url=server.base_url))
        patch.setenv("LONGWRITER_PROFILES", str(folder / "profiles.toml"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        made = log()
        unjudged = {id: replace(a, grades="not_asked") for id, a in made.answers.items()}
        made.change(answers=unjudged).write(folder / "run")
        score(folder / "run", {"judge": "kind,mean"})
        assert main(["submit", str(folder / "run"), "-o", str(folder / "panel.zip")]) == 0
        yield folder / "run", folder / "panel.zip"


@pytest.fixture(scope="module")
def panel(judged: tuple[Path, Path]) -> Path:
    return judged[1]


def test_a_panel_is_submitted_with_every_verdict_and_verified(panel: Path) -> None:
    manifest, samples = unpacked(panel)
    asked = {one["requested"]: one for one in manifest["judge"]["judges"]}
    assert asked["kind-judge"]["temperature"] is None
    assert asked["kind-judge"]["request"] == {"reasoning_effort": "low"}
    assert asked["mean-judge"]["request"] == {"top_p": 0.9}
    assert asked["mean-judge"]["endpoint"] == "private"
    assert {len(sample["verdicts"]) for sample in samples} == {2}
    found = verify(read(panel))
    assert found.problems == []
    # 5 of 5 is 100, 3 of 5 is 50
    assert found.rows[0].metrics["quality_score"].mean == 75


def _verdict(number: int = 0, judge: int = 0, **values: Any) -> Callable[[Json, list[Json]], None]:
    return lambda _, samples: samples[number]["verdicts"][judge].update(values)


def _drop_mean_judge(manifest: Json, samples: list[Json]) -> None:
    del manifest["judge"]["judges"][1]
    for sample in samples:
        sample["verdicts"] = sample["verdicts"][:1]


def _all_of_one_judge(_: Json, samples: list[Json]) -> None:
    for sample in samples:
        sample["verdicts"][1] = {**sample["verdicts"][0], "judge": 1}


def _one_judge_twice(manifest: Json, samples: list[Json]) -> None:
    manifest["judge"]["judges"][1] = manifest["judge"]["judges"][0]
    _all_of_one_judge(manifest, samples)


def _swap(_: Json, samples: list[Json]) -> None:
    first, second = samples[0]["verdicts"]
    first["judge"], second["judge"] = 1, 0


FORGED = {
    "verdict-edited": (_verdict(judge=1, raw=verdict(5)), "of judge 1, parsed from its reply"),
    "verdict-and-scores-edited": (
        lambda _, s: s[0]["verdicts"][1].update(
            raw=verdict(5), scores=dict.fromkeys(s[0]["verdicts"][1]["scores"], 5)
        ),
        "quality_score: claimed 75, found 100",
    ),
    "verdict-missing": (lambda _, s: s[0]["verdicts"].pop(), "verdicts of each judge"),
    "mean-judge-dropped": (_drop_mean_judge, "quality_score: claimed 75, found 100"),
    "kind-judge-for-both": (_all_of_one_judge, "more than one judge model answered as mean-judge"),
    "one-judge-twice": (_one_judge_twice, "two judges of its panel are the same"),
    "verdicts-swapped": (_swap, "more than one judge model answered as kind-judge"),
    "longer-than-its-limit": (
        _verdict(completion_tokens=4097),
        "kind-judge wrote a reply of 4097 tokens, but it was asked with max_tokens 4096",
    ),
    "low-limit-claimed": (
        lambda m, _: m["judge"]["judges"][0].update(max_tokens=5),
        "a judge that may write 5 tokens writes at most",
    ),
    "other-model-claimed": (
        lambda m, _: m["judge"]["judges"][0].update(requested="strict-judge"),
        "strict-judge was requested as judge, but kind-judge answered",
    ),
    "unknown-judge": (
        lambda m, _: m["judge"]["judges"].pop(), "a verdict is by judge 1 of 1",
    ),
    "mean-judge-has-no-verdict": (
        lambda _, s: [
            x["verdicts"][1].update(scores=None, raw="", model=None, reason="refused") for x in s
        ],
        "0 of 12 responses are judged",
    ),
    "half-a-panel-counts": (
        _verdict(judge=1, scores=None, raw="", model=None, reason="refused"),
        "11 of 12 responses are judged",
    ),
    "untyped-request": (
        lambda m, _: m["judge"]["judges"][0].update(request="low"), "is not of type 'object'",
    ),
    "long-request": (
        lambda m, _: m["judge"]["judges"][0].update(
            request={f"f{n}": ["x" * 200] * 20 for n in range(20)}
        ),
        "the limit is 4000",
    ),
    "deep-request": (
        lambda m, _: m["judge"]["judges"][0].update(request=_nested(20)), "nested too deeply",
    ),
    "nine-judges": (
        lambda m, _: m["judge"].update(judges=m["judge"]["judges"] * 5), "is too long",
    ),
    "no-judges": (lambda m, _: m["judge"].update(judges=[]), "judge.judges"),
    "no-judge": (lambda m, _: m.update(judge=None), "a verdict is by judge 0 of 0"),
}  # fmt: skip


def _nested(depth: int) -> Json:
    return {"a": _nested(depth - 1) if depth else 1}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_panel_is_refused(name: str, panel: Path, tmp_path: Path) -> None:
    forge, said = FORGED[name]
    manifest, samples = copy.deepcopy(unpacked(panel))
    forge(manifest, samples)
    path = tmp_path / "forged.zip"
    path.write_bytes(repacked(manifest, samples))
    try:
        problems = verify(read(path)).problems
    except InputError as error:
        problems = [str(error)]
    assert any(said in problem for problem in problems), problems


def test_each_judge_and_each_way_of_asking_has_its_own_ranking(panel: Path) -> None:
    manifest, _ = unpacked(panel)
    kind, mean = manifest["judge"]["judges"]
    blocks = {
        "panel": manifest["judge"],
        "panel in another order": {**manifest["judge"], "judges": [mean, kind]},
        "kind": {**manifest["judge"], "judges": [kind]},
        "colder": {**manifest["judge"], "judges": [{**kind, "temperature": 0}]},
        "more tokens": {**manifest["judge"], "judges": [{**kind, "max_tokens": 9000}]},
        "more effort": {**manifest["judge"], "judges": [{**kind, "request": {}}]},
        "other prompt": {**manifest["judge"], "judges": [kind], "prompt_sha256": "b" * 64},
        "elsewhere": {**manifest["judge"], "judges": [{**kind, "endpoint": "api.openai.com"}]},
    }
    entries = [
        {"file": name, "benchmark": "b", "task_version": 1.1, "judge": block, "scores": {},
         "prompt_scores": {}}
        for name, block in blocks.items()
    ]  # fmt: skip
    ranked = rankings(entries)
    groups = {frozenset(entry["file"] for entry in ranking.entries) for ranking in ranked}
    assert {"panel", "panel in another order"} in groups
    assert {"kind", "elsewhere"} in groups
    assert len(groups) == 6
    assert len({(ranking.judge, ranking.prompt_sha256) for ranking in ranked}) == 6


def _one(**values: Any) -> Json:
    given = {"requested": "m", "returned": "m", "endpoint": "private", "temperature": 0.5,
             "max_tokens": 1024, "request": {}}  # fmt: skip
    return {"judges": [{**given, **values}], "repeats": 1, "prompt": "official",
            "prompt_sha256": "a" * 64}  # fmt: skip


def _as_profile(name: str, **values: Any) -> Json:
    protocol = JudgeSettings(profile=name).protocol
    model = JudgeSettings(profile=name).model
    return _one(
        requested=model, returned=model, endpoint="api.openai.com",
        temperature=protocol["temperature"], max_tokens=protocol["max_tokens"],
        request=protocol.get("request", {}),
    ) | values  # fmt: skip


def test_a_judge_is_shown_by_its_profile_or_by_its_exact_name_and_request() -> None:
    assert judges.shown(_as_profile("gpt-6-luna")) == "gpt-6-luna"
    assert judges.shown(_one()) == "m"
    assert judges.shown(_one(temperature=None)) == "m (temperature none, max_tokens 1024)"
    # a profile's name alone stands for the profile's request
    papers = _one(requested="gpt-6-luna", returned="gpt-6-luna")
    assert judges.shown(papers) == "gpt-6-luna (temperature 0.5, max_tokens 1024)"
    hosted = _as_profile("gpt-oss-120b")
    assert judges.shown(hosted) == "gpt-oss-120b (openai/gpt-oss-120b)"


def test_a_judge_is_asked_again_as_it_was() -> None:
    for block in (_as_profile("gpt-6-luna"), _one(temperature=None, request={"top_k": 3})):
        (judge,) = block["judges"]
        given = {"judge_base_url": "http://127.0.0.1:9/v1", **judges.request_metadata(judge)}
        again = JudgeSettings.resolve(given, {}).protocol
        request = {"request": judge["request"]} if judge["request"] else {}
        settings = {name: judge[name] for name in ("temperature", "max_tokens")}
        assert again == settings | request
    # other requests than a profile's keep its token field, and drop what it would add
    (judge,) = _as_profile("gpt-6-luna")["judges"]
    plain = {**judge, "request": {"reasoning_effort": "low"}, "max_tokens": 9000}
    asked = JudgeSettings.resolve(judges.request_metadata(plain), {})
    assert asked.request_fields() == {"max_completion_tokens": 9000, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("endpoint", "said", "is_stated"),
    [
        ("api.openai.com", "the provider's own endpoint", False),
        ("openrouter.ai", "another public endpoint", False),
        ("private", "a private endpoint", True),
        (None, "an endpoint that was not recorded", False),
    ],
)
def test_a_judges_endpoint_has_a_class(endpoint: str | None, said: str, is_stated: bool) -> None:
    (judge,) = _one(endpoint=endpoint)["judges"]
    assert judges.endpoint(judge) == said
    assert judges.is_stated(judge) is is_stated


def test_the_recorded_judge_has_the_label_of_the_run(
    judged: tuple[Path, Path],
) -> None:
    from longwriter_eval.runs import load_run

    record = load_run(judged[0]).record("longwrite_demo")["judge"]
    manifest, _ = unpacked(judged[1])
    assert judge_label(judges.record(manifest["judge"])) == judge_label(record)


def test_only_harmless_fields_of_a_request_are_published() -> None:
    given = {
        "reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 9},
        "chat_template_kwargs": {"enable_thinking": False}, "stop": ["</s>"],
        "user_key": "x", "webhook": "https://10.0.0.7/hook", "cache": "/home/me/cache",
        "provider": {"api_key": "x"}, "who": "me@example.org", "x": float("nan"),
    }  # fmt: skip
    published, withheld = public_request(given)
    assert list(published) == ["chat_template_kwargs", "reasoning_effort", "stop", "thinking"]
    assert withheld == ["cache", "provider", "user_key", "webhook", "who", "x"]


def test_a_run_whose_request_cannot_be_published_is_refused(tmp_path: Path) -> None:
    run = log().load(tmp_path / "runs")
    judge = run.record("longwrite_demo")["judge"]
    judge["departures"] = {"webhook": "https://10.0.0.7/hook"}
    with pytest.raises(InputError, match="webhook of the judge gpt-judge cannot be published"):
        build_submission(run, StatedMetadata())


def test_a_panel_is_judged_again_by_all_its_judges(panel: Path) -> None:
    result = rejudge(verify(read(panel)), 10, 1, {})
    assert result.pairs == 10
    assert result.difference.mean == 0
    assert result.is_consistent


def test_submissions_of_the_older_schema_need_the_papers_protocol(tmp_path: Path) -> None:
    path = submitted(tmp_path)
    manifest, samples = unpacked(path)
    (judge,) = manifest["judge"].pop("judges")
    manifest["judge"] |= {
        name: judge[name] for name in ("requested", "returned", "temperature", "max_tokens")
    }
    manifest["schema"] = "longwriter-submission/1"
    del manifest["model"]["licence"], manifest["stated"], manifest["example"]
    for sample in samples:
        for said in sample["verdicts"]:
            del said["judge"]
    path.write_bytes(repacked(manifest, samples))
    assert verify(read(path)).problems == []
    newer = submitted(tmp_path / "newer")
    entries = [
        {**found.manifest, "file": str(n), "scores": {}, "prompt_scores": {}}
        for n, found in enumerate((read(path), read(newer)))
    ]
    assert len(rankings(entries)) == 1
    manifest["judge"]["temperature"] = 0.0
    path.write_bytes(repacked(manifest, samples))
    (problem,) = verify(read(path)).problems
    assert "longwriter-submission/1 requires 0.5 and 1024" in problem


def test_what_judges_found_on_a_bucket_is_no_difference_between_judges(tmp_path: Path) -> None:
    made = log(start="a", task="longwrite_demo")
    run = made.load(tmp_path / "runs")
    run.record("longwrite_demo")["judge"]["agreement"] = [{"pairs": 3}]
    other = json.loads(json.dumps(run.results["configs"]["longwrite_demo"]))
    other["metadata"]["longwriter"]["judge"]["agreement"] = [{"pairs": 9}]
    run.results["configs"]["other"] = other
    run.samples[0] = replace(run.samples[0], task="other")
    with pytest.raises(InputError, match="other are not tasks of longwrite_demo") as found:
        build_submission(run, StatedMetadata())
    assert "the same judge and data" not in str(found.value)


@pytest.mark.slow
def test_a_real_run_with_a_thinking_judge_reaches_the_leaderboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockServer(judge_reasoning_tokens=THINKING) as server:
        arguments = lm_eval_arguments(
            server, server, tmp_path / "run", "longwrite_demo",
            judge_settings={**THINKING_JUDGE, "segments": 2, "extra": {"reasoning_effort": "low"}},
        )  # fmt: skip
        ended = run("lm_eval", *arguments, LONGWRITER_JUDGE_API_KEY=KEY)
    assert ended.code == 0, ended.out
    folder = tmp_path / "submissions"
    folder.mkdir()
    assert main(["submit", str(tmp_path / "run"), "-o", str(folder / "thinks.zip")]) == 0
    submitted(folder, "paper")
    assert main(["verify", str(folder / "thinks.zip")]) == 0
    asked = "mock-judge (temperature none, max_tokens 4096, reasoning_effort low)"
    assert f"judge  {asked}, at a private endpoint" in capsys.readouterr().out
    assert main(["leaderboard", str(folder), "-o", str(tmp_path / "site")]) == 0
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {r["judge"]: len(r["entries"]) for r in data["rankings"]} == {asked: 1, "gpt-judge": 1}
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "judge's name stated by a private endpoint" in page.replace("&#39;", "'")


@pytest.mark.slow
def test_a_panel_reaches_the_leaderboard_through_the_commands(panel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "submissions"
    folder.mkdir()
    (folder / "panel.zip").write_bytes(panel.read_bytes())
    assert main(["leaderboard", str(folder), "-o", str(tmp_path / "site")]) == 0
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    (ranking,) = data["rankings"]
    assert ranking["judge"] == "kind (kind-judge) + mean (mean-judge)"
