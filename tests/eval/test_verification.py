"""Verification: honest submissions pass, and every kind of tampering is reported."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.submissions import Json, repacked, submitted, unpacked

from longwriter_core import files
from longwriter_eval.cli.main import main
from longwriter_eval.judge.verdict import DIMENSIONS, read_verdict
from longwriter_eval.stats import inference, thresholds
from longwriter_eval.submission import rules
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.rules import TASKS, VERSIONS, answers_to
from longwriter_eval.submission.verification import verify

Tampering = Callable[[Json, list[Json]], None]


@pytest.fixture(scope="module", autouse=True)
def _fewer_draws() -> Iterator[None]:
    """Use a tenth of the bootstrap draws, both when submitting and when verifying."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "BOOTSTRAP_RESAMPLES", 199)
        yield


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission without problems."""
    return submitted(tmp_path_factory.mktemp("honest"))


def _everywhere(manifest: Json, samples: list[Json], **values: Any) -> None:
    """Forge metrics in every sample and every row of the table."""
    for metric, value in values.items():
        for sample in samples:
            sample["scores"][metric] = value
        for row in manifest["scores"]:
            row["metrics"][metric].update(mean=value, low=value, high=value)


def _longer_response(_: Json, samples: list[Json]) -> None:
    samples[0]["response"] += " And more."


def _longer_response_with_its_hash(_: Json, samples: list[Json]) -> None:
    samples[0]["response"] += " And more."
    samples[0]["response_sha256"] = files.sha256(samples[0]["response"])


def _swap(field: str) -> Tampering:
    def tamper(_: Json, samples: list[Json]) -> None:
        samples[0][field], samples[1][field] = samples[1][field], samples[0][field]

    return tamper


def _better_scores(_: Json, samples: list[Json]) -> None:
    for verdict in samples[0]["verdicts"]:
        verdict["scores"] = dict.fromkeys(DIMENSIONS, 5)


def _better_reply(_: Json, samples: list[Json]) -> None:
    verdict = samples[0]["verdicts"][0]
    verdict["raw"] = json.dumps(dict.fromkeys(DIMENSIONS.values(), 5))
    verdict["scores"] = read_verdict(verdict["raw"])


def _bad_verdict_hidden(_: Json, samples: list[Json]) -> None:
    samples[0]["verdicts"][0].update(scores=None, reason="parse_error")


def _two_judges(_: Json, samples: list[Json]) -> None:
    samples[3]["verdicts"][0]["model"] = "kinder-judge"


def _few_judged(_: Json, samples: list[Json]) -> None:
    for sample in samples[:4]:
        sample["verdicts"][0].update(scores=None, raw="", model=None, reason="transport_error")


def _coverage_hidden(manifest: Json, samples: list[Json]) -> None:
    _few_judged(manifest, samples)
    manifest["scores"][0]["coverage"] = 1.0


def _row_of(kind: str, metric: str, name: str, value: float) -> Tampering:
    def tamper(manifest: Json, _: list[Json]) -> None:
        row = next(row for row in manifest["scores"] if row["kind"] == kind)
        row["metrics"][metric][name] = value

    return tamper


def _narrow_interval(manifest: Json, _: list[Json]) -> None:
    interval = manifest["scores"][0]["metrics"]["overall_score"]
    interval["low"] += 0.2 * (interval["mean"] - interval["low"])


def _set(*path: str, value: Any) -> Tampering:
    def tamper(manifest: Json, _: list[Json]) -> None:
        place = manifest
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return tamper


def _set_judge(**values: Any) -> Tampering:
    return lambda manifest, _: manifest["judge"]["judges"][0].update(values)


def _set_sample(field: str, value: Any) -> Tampering:
    return lambda _, samples: samples[2].update({field: value})


def _set_verdict(field: str, value: Any) -> Tampering:
    return lambda _, samples: samples[2]["verdicts"][0].update({field: value})


def _one_text(_: Json, samples: list[Json]) -> None:
    for sample in samples:
        sample["response"] = "The same text."


TAMPERINGS = {
    "edited-response": (_longer_response, "SHA-256 of the response"),
    "edited-response-and-hash": (_longer_response_with_its_hash, "prompt of verdict 0"),
    "swapped-responses": (_swap("response"), "SHA-256 of the response"),
    "swapped-verdicts": (_swap("verdicts"), "prompt of verdict 0"),
    "swapped-scores": (_swap("scores"), "quality_score"),
    "swapped-ids": (_swap("id"), "the prompt differs from the benchmark's"),
    "better-scores-than-the-reply": (_better_scores, "scores of verdict 0, parsed from its reply"),
    "better-reply": (_better_reply, "quality_score: claimed 25, found 100"),
    "hidden-bad-verdict": (_bad_verdict_hidden, "scores of verdict 0, parsed from its reply"),
    "more-words": (_set_sample("words", 4000), "words: claimed 4000"),
    "not-cut-off": (_set_sample("response", "It ends in the"), "cut_off: claimed False"),
    "other-prompt": (_set_sample("prompt_sha256", "0" * 64), "the prompt differs"),
    "other-judge-for-one": (_two_judges, "more than one judge model answered"),
    "other-judge-than-asked": (
        _set_judge(requested="gpt-judge-large"),
        "gpt-judge-large was requested as judge, but gpt-judge answered",
    ),
    "judge-renamed": (_set_judge(returned="better-judge"), "more than one judge model"),
    "verdict-removed": (_set_verdict("repeat", 1), "each response needs 1 verdicts"),
    "verdict-not-escaped": (_set_verdict("defused", True), "verdict 0, escaped"),
    "few-judged": (_few_judged, "8 of 12 responses are judged, but 95% are required"),
    "one-text-for-many-prompts": (
        _one_text,
        "12 of its responses are the same text",
    ),
    "future-date": (_set("date", value="2999-01-01T00:00:00Z"), "is in the future"),
    "one-missing": (lambda _, samples: samples.pop(), "it is incomplete: 11 of 12 prompts"),
    "one-twice": (lambda _, s: s.append(s[0]), "more than one response to longwrite_demo/000"),
    "one-more": (
        lambda _, s: s.append({**copy.deepcopy(s[0]), "id": "longwrite_demo/012"}),
        "the benchmark has no longwrite_demo/012",
    ),
    "forged-mean": (_row_of("all", "overall_score", "mean", 99.0), "overall_score, mean"),
    "forged-bucket": (_row_of("bucket", "length_score", "mean", 99.0), "length_score, mean"),
    "forged-language": (_row_of("language", "quality_score", "mean", 99.0), "quality_score, mean"),
    "forged-interval": (_narrow_interval, "scores of all: overall_score, low"),
    "forged-everywhere": (
        lambda m, s: _everywhere(m, s, overall_score=97.0),
        "scores of all: overall_score, mean: claimed 97",
    ),
    "forged-coverage": (
        _coverage_hidden,
        "scores of all: coverage: claimed 1, found 0.666667",
    ),
    "forged-number-of-prompts": (lambda m, _: m["scores"][0].update(n=120), "n: claimed 120"),
    "row-removed": (lambda m, _: m["scores"].pop(), "scores: rows"),
    "metric-removed": (
        lambda m, _: m["scores"][0]["metrics"].pop("output_words"),
        "scores of all: metrics",
    ),
    "other-data": (_set("data_sha256", value="0" * 64), "its data is not that of longwrite_demo"),
    "other-version": (_set("task_version", value=2.0), "uses version 2 of longwrite_demo"),
    "other-tasks": (_set("tasks", value=["ifeval"]), "ifeval are not tasks of longwrite_demo"),
    "other-judge-prompt": (
        _set("judge", "prompt_sha256", value="0" * 64),
        "its judge prompt is not the longwriter prompt",
    ),
    "own-judge-prompt": (_set("judge", "prompt", value="kind.txt"), "'kind.txt' is not one of"),
    "examples": (_set("generation", "num_fewshot", value=5), "was shown 5 few-shot examples"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_kind_of_tampering_is_reported(name: str, honest: Path, tmp_path: Path) -> None:
    tamper, named = TAMPERINGS[name]
    manifest, samples = unpacked(honest)
    tamper(manifest, samples)
    path = tmp_path / "tampered.zip"
    path.write_bytes(repacked(manifest, samples))
    problems = verify(read(path)).problems
    assert any(named in problem for problem in problems), problems


def test_an_honest_submission_has_no_problems(honest: Path) -> None:
    result = verify(read(honest))
    assert result.problems == []
    assert len(result.scores) == 12


def test_scores_are_always_taken_from_the_evidence(honest: Path, tmp_path: Path) -> None:
    manifest, samples = unpacked(honest)
    _better_reply(manifest, samples)
    path = tmp_path / "forged.zip"
    path.write_bytes(repacked(manifest, samples))
    forged, real = verify(read(path)), verify(read(honest))
    assert forged.rows[0].metrics["quality_score"].mean > real.rows[0].metrics["quality_score"].mean


def test_a_reply_cut_off_at_its_token_limit_needs_no_scores(honest: Path, tmp_path: Path) -> None:
    manifest, samples = unpacked(honest)
    samples[0]["verdicts"][0].update(scores=None, reason="parse_error", completion_tokens=1024)
    path = tmp_path / "cut.zip"
    path.write_bytes(repacked(manifest, samples))
    assert not [p for p in verify(read(path)).problems if "parsed from its reply" in p]


def test_low_verdicts_among_the_repeats_cannot_be_dropped(honest: Path, tmp_path: Path) -> None:
    manifest, samples = unpacked(honest)
    manifest["judge"]["repeats"] = 10
    for sample in samples:
        (kind,) = sample["verdicts"]
        cut = {**kind, "scores": None, "reason": "parse_error", "completion_tokens": 1024}
        sample["verdicts"] = [kind, *({**cut, "repeat": repeat} for repeat in range(1, 10))]
    path = tmp_path / "kind.zip"
    path.write_bytes(repacked(manifest, samples))
    (problem,) = verify(read(path)).problems
    assert "12 of 120 verdicts have scores, but 95% are required" in problem


@pytest.mark.parametrize(
    ("requested", "returned", "is_same"),
    [
        pytest.param("gpt-4.1", "gpt-4.1", True, id="same"),
        pytest.param("gpt-4.1", "gpt-4.1-2025-04-14", True, id="dated"),
        pytest.param("claude-x", "claude-x-20250514", True, id="dated-without-dashes"),
        pytest.param("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False, id="another-date"),
        pytest.param("gpt-4.1", "gpt-4.1-mini", False, id="smaller"),
        pytest.param("gpt-4.1", "gpt-4", False, id="shorter"),
    ],
)
def test_a_judge_may_answer_with_its_dated_name(
    requested: str, returned: str, is_same: bool
) -> None:
    assert answers_to(requested, returned) is is_same


def test_the_versions_match_the_task_yaml() -> None:
    folder = Path(rules.__file__).parents[2] / "harness_tasks"

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda _, node: node.value)
    for benchmark, (version, *_) in VERSIONS.items():
        found = [
            yaml.load(path.read_text(encoding="utf-8"), Loader)
            for path in (folder / benchmark).iterdir()
            if path.name in (f"_{benchmark}_yaml", "longwrite_demo.yaml")
        ]
        assert [config["metadata"]["version"] for config in found] == [version]
        names = {path.stem for path in (folder / benchmark).glob("[a-z]*.yaml")}
        assert names - {"longbench_write_length"} == TASKS[benchmark]


@pytest.mark.usefixtures("upstream")
def test_the_official_benchmark_is_verified_against_the_upstream_files(tmp_path: Path) -> None:
    result = verify(read(submitted(tmp_path, benchmark="longbench_write")))
    assert result.problems == []
    assert len(result.scores) == 120


def test_the_command_reports_verified_or_lists_the_differences(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(honest)]) == 0
    assert f"{honest}: verified, SHA-256 {files.sha256(honest.read_bytes())}" in (
        capsys.readouterr().out
    )
    manifest, samples = unpacked(honest)
    _everywhere(manifest, samples, length_score=100.0)
    forged = tmp_path / "forged.zip"
    forged.write_bytes(repacked(manifest, samples))
    assert main(["verify", str(forged)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert "NOT verified" in printed[0]
    assert "--json lists all" in printed[-1]
    assert main(["verify", str(forged), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "differs"
    assert len(report["differences"]) > 20
    assert report["scores"][0]["metrics"]["length_score"]["mean"] < 100


def test_a_file_that_is_not_a_submission_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no.zip"
    path.write_bytes(b"no zip")
    assert main(["verify", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["status"] == "refused"
    (line,) = printed.err.strip().splitlines()
    assert "it is not a zip file" in line


def test_bounds_from_other_bootstrap_draws_are_accepted(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = read(honest)
    first = {row.name: row.metrics["output_words"].low for row in verify(submission).rows}
    monkeypatch.setattr(inference, "SEED", 7)  # as another version of numpy could draw
    monkeypatch.setattr(inference, "MIN_BOOTSTRAP_VALUES", 5)
    verification = verify(submission)
    assert verification.problems == []
    assert (
        first["all"]
        != {row.name: row.metrics["output_words"].low for row in verification.rows}["all"]
    )
