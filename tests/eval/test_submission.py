"""Submissions: what they contain, what they leave out, and which runs are refused."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import KEY, lm_eval_arguments, run
from support.logs import Answer
from support.submissions import hand_in, log, unpacked

from longwriter_core import benchmarks, files
from longwriter_core.errors import InputError
from longwriter_core.mock_server.server import MockServer
from longwriter_eval.cli.main import main
from longwriter_eval.runs import Run, load_run
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata
from longwriter_eval.submission.public import (
    public_endpoint,
    public_model,
    public_settings,
)
from longwriter_eval.submission.verification import verify

CANARY = "canary"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of lm_eval."""
    folder = tmp_path_factory.mktemp("run")
    with MockServer(judge_reasoning_tokens=0) as server:
        arguments = lm_eval_arguments(server, server, folder, "longwrite_demo", judge_settings={})
        ended = run("lm_eval", *arguments)
    assert ended.code == 0, ended.out
    return folder


def test_a_real_run_is_packed_and_verified(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "submission.zip"
    assert main(["submit", str(finished), "-o", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {path}" in printed
    assert files.sha256(path.read_bytes()) in printed
    assert "you may state: --revision, --dtype, --parameters, --licence" in printed
    result = verify(read(path))
    assert result.problems == []
    table = load_run(finished).results["results"]["longwrite_demo"]
    for metric in ("overall_score", "length_score", "quality_score", "output_words"):
        assert result.rows[0].metrics[metric].mean == pytest.approx(table[f"{metric},none"])


def test_the_manifest_records_everything_needed_to_reproduce_the_run(
    finished: Path, tmp_path: Path
) -> None:
    results = load_run(finished).results
    path = hand_in(load_run(finished), tmp_path / "submission.zip")
    manifest, samples = unpacked(path)
    assert manifest["model"]["id"] == {"value": "mock-writer", "source": "run"}
    assert manifest["backend"]["name"]["value"] == "local-chat-completions"
    assert manifest["backend"]["libraries"]["lm_eval"] == results["lm_eval_version"]
    assert manifest["backend"]["endpoint"] == "private"
    assert manifest["generation"]["settings"] == {
        "do_sample": True, "max_gen_toks": 32768, "temperature": 0.5, "until": [],
    }  # fmt: skip
    assert manifest["seeds"]["numpy"] == 1234
    assert manifest["task_hashes"] == results["task_hashes"]
    assert manifest["data_sha256"] == benchmarks.data_sha256("longwrite_demo")
    assert manifest["judge"]["judges"][0]["returned"] == "mock-judge"
    assert {sample["sent_sha256"] for sample in samples} == {
        sample.row["prompt_hash"] for sample in load_run(finished).samples
    }
    assert all(sample["verdicts"][0]["completion_tokens"] for sample in samples)


def test_a_submission_is_deterministic(finished: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(finished, elsewhere)
    one = hand_in(load_run(finished), tmp_path / "one.zip").read_bytes()
    assert hand_in(load_run(elsewhere), tmp_path / "other.zip").read_bytes() == one


# The values of a results file that a submission publishes unchanged.
PUBLISHED = {
    "model_name", "lm_eval_version", "transformers_version", "system_instruction",
    "config.model", "config.model_args.model", "chat_template_sha",
}  # fmt: skip


def _plant(value: Any, place: str = "") -> Iterator[str]:
    """Add a canary to every mapping, and replace every text that is not published with one."""
    if isinstance(value, dict):
        for name, inner in list(value.items()):
            at = f"{place}.{name}".lstrip(".")
            if isinstance(inner, str) and at not in PUBLISHED and not _is_ours(at):
                value[name] = f"/home/{CANARY}/{CANARY}-{len(at)}/{inner}"
                yield at
            yield from _plant(value[name], at)
        if place != "configs" and not _is_ours(place):
            value[f"{CANARY}_key"] = f"sk-{CANARY}-{'0' * 40}"
            yield f"{place}.{CANARY}"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _plant(inner, f"{place}[{number}]")


def _is_ours(place: str) -> bool:
    """Whether this package wrote the value: task and judge settings, hashes."""
    return (
        place.endswith((".metadata.longwriter", ".generation_kwargs"))
        or place.startswith(("task_hashes", "results", "versions"))
        or ".metadata.longwriter." in place
    )


def _planted(finished: Path, folder: Path) -> tuple[Run, int]:
    """The run with canaries everywhere except in prompts, responses and judge replies."""
    shutil.copytree(finished, folder)
    path = next(folder.rglob("results_*.json"))
    results = json.loads(path.read_text(encoding="utf-8"))
    planted = len(list(_plant(results)))
    arguments = results["config"]["model_args"]
    arguments |= {
        "base_url": f"https://{CANARY}:{CANARY}@{CANARY}.internal:8000/v1?key={CANARY}",
        "tokenizer": f"/home/{CANARY}/models/tokenizer",
        "header": {"Authorization": f"Bearer {CANARY}"},
        "api_key": CANARY,
        "auth_token": 123456789123,
        "trust_remote_code": True,
    }
    results["pretty_env_info"] += f"\nHostname: {CANARY}\nGPU 0: /home/{CANARY}"
    path.write_text(json.dumps(results), encoding="utf-8")
    for log_path in folder.rglob("samples_*.jsonl"):
        rows = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            row[CANARY] = row["doc"][CANARY] = row["target"] = f"/home/{CANARY}"
            row["arguments"]["gen_args_0"]["arg_0"] = [f"{CANARY} {KEY}"]
            for verdict in row["doc"]["judgement"]["verdicts"]:
                verdict["detail"] = verdict["call"] = f"https://{CANARY}.internal/v1"
        log_path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return load_run(folder), planted


def test_a_submission_contains_no_keys_paths_or_hosts(finished: Path, tmp_path: Path) -> None:
    planted, number = _planted(finished, tmp_path / "planted")
    assert number > 30
    path = hand_in(planted, tmp_path / "submission.zip")
    with zipfile.ZipFile(path) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    manifest, _ = unpacked(path)
    withheld = manifest["backend"].pop("withheld")
    assert {"api_key", "auth_token", "header"} <= set(withheld)
    for name in withheld:
        text = text.replace(f'"{name}"', "")
    assert CANARY not in text
    assert "/home/" not in text
    assert "123456789123" not in text
    assert KEY not in text
    assert str(tmp_path) not in text
    assert "127.0.0.1" not in text
    assert manifest["backend"]["arguments"]["trust_remote_code"] is True
    assert manifest["backend"]["arguments"]["tokenizer"] == "tokenizer"


def test_a_run_with_a_secret_in_a_response_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(iter(log().answers))
    answers = dict(log().answers)
    answers[first] = Answer(**{**vars(answers[first]), "text": f"My key is {KEY}."})
    monkeypatch.setenv("MY_API_KEY", KEY)
    with pytest.raises(InputError, match="the value of MY_API_KEY occurs in a response") as error:
        hand_in(log(answers=answers).load(tmp_path / "runs"), tmp_path / "no.zip")
    assert KEY not in str(error.value)
    assert not (tmp_path / "no.zip").exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("zai-org/glm-4-9b-chat-hf", "zai-org/glm-4-9b-chat-hf", id="hub"),
        pytest.param("accounts/fireworks/models/m", "accounts/fireworks/models/m", id="hosted"),
        pytest.param("/home/me/models/mine/", "mine", id="absolute"),
        pytest.param("./out/checkpoint-500", "checkpoint-500", id="relative"),
        pytest.param("~/models/mine", "mine", id="home"),
        pytest.param(r"C:\Users\me\mine", "mine", id="windows"),
        pytest.param("data/home/me/mine", "mine", id="home-inside"),
        pytest.param("https://me:secret@host/mine?token=secret", "mine", id="url"),
        pytest.param("s3://bucket/mine", "mine", id="bucket"),
        pytest.param("S3://bucket/mine", "mine", id="bucket-in-capitals"),
        pytest.param("out/secret/mine", "mine", id="relative-without-a-dot"),
        pytest.param(r"out\mine", "mine", id="relative-in-windows"),
        pytest.param("nfs1:/data/mine", "mine", id="of-another-machine"),
        pytest.param("$HOME/mine", "mine", id="variable"),
        pytest.param(" '/home/me/mine'", "mine", id="quoted"),
        pytest.param("a\u202eb\x1bc", "a�b�c", id="control-characters"),
    ],
)
def test_a_model_name_reveals_nothing_about_the_machine(name: str, shown: str) -> None:
    assert public_model(name) == shown


def test_only_public_endpoints_are_published() -> None:
    assert public_endpoint("https://user:key@api.openai.com/v1?key=1") == "api.openai.com"
    assert public_endpoint("https://api.openai.com.evil.example/v1") == "private"
    assert public_endpoint("http://10.0.0.7:8000/v1") == "private"
    assert public_endpoint("http://[") == "private"


def test_settings_are_published_by_an_allowlist_and_numbers_always() -> None:
    published, withheld = public_settings(
        {"max_gen_toks": 8, "think_end_token": "</think>", "top_p": float("nan"), "x": {"a": 1},
         "until": ["</s>", "/home/me"], "openai_key": 5, "dtype": "bfloat16", "note": "mine"}
    )  # fmt: skip
    assert published == {"max_gen_toks": 8, "think_end_token": "</think>", "dtype": "bfloat16"}
    assert withheld == ["note", "openai_key", "top_p", "until", "x"]


def test_an_invalid_run_is_refused_with_every_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = log()
    answers = dict(list(whole.answers.items())[:10])
    ids = list(answers)
    for id in ids[:2]:
        answers[id] = Answer(**{**vars(answers[id]), "grades": "transport_error"})
    answers[ids[3]] = Answer(**{**vars(answers[ids[3]]), "prompt": "Another prompt."})
    broken = whole.change(
        answers=answers, answered="another-judge", data="0" * 64, version=9.0, judge_prompt="1" * 64
    )
    folder = broken.write(tmp_path / "runs")
    path = next(folder.glob("results_*.json"))
    results = json.loads(path.read_text(encoding="utf-8"))
    results["config"]["limit"] = 10
    path.write_text(json.dumps(results), encoding="utf-8")
    output = tmp_path / "no.zip"
    assert main(["submit", str(folder), "-o", str(output)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    for reason in (
        "the run used --limit 10",
        "it is incomplete: 10 of 12 prompts",
        "gpt-judge was requested as judge, but another-judge answered",
        "8 of 12 responses are judged, but 95% are required: run `longwriter score`",
        "its data is not that of longwrite_demo",
        "uses version 9 of longwrite_demo",
        "the prompt differs from the benchmark's in longwrite_demo/003",
        "judge prompt is not the longwriter prompt",
    ):
        assert reason in line
    assert not output.exists()


def test_a_run_with_several_judges_is_refused(tmp_path: Path) -> None:
    run = log().load(tmp_path / "runs")
    run.samples[0].row["doc"]["judgement"]["verdicts"][0]["model"] = "another-judge"
    with pytest.raises(InputError, match="more than one judge model answered"):
        build_submission(run, StatedMetadata())


def test_a_run_with_responses_changed_after_judging_is_refused(tmp_path: Path) -> None:
    run = log().load(tmp_path / "runs")
    run.samples[0].row["doc"]["judgement"]["response_sha256"] = "0" * 64
    with pytest.raises(InputError, match="1 responses changed after they were judged"):
        build_submission(run, StatedMetadata())


def test_a_run_without_a_judge_is_refused_with_advice(tmp_path: Path) -> None:
    answers = {
        id: Answer(**{**vars(answer), "grades": None}) for id, answer in log().answers.items()
    }
    with pytest.raises(InputError, match=r"has no judged responses.*longwriter score"):
        build_submission(log(answers=answers).load(tmp_path / "runs"), StatedMetadata())


def test_a_malformed_run_is_a_one_line_error(tmp_path: Path) -> None:
    run = log().load(tmp_path / "runs")
    del run.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    with pytest.raises(InputError, match="malformed"):
        build_submission(run, StatedMetadata())


def test_stated_metadata_is_marked_and_cannot_contradict_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = log().write(tmp_path / "runs")
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", encoding="utf-8")
    output = tmp_path / "mine.zip"
    options = ["--revision", "abc", "--dtype", "fp8", "--backend-version", "vllm 0.11.0",
               "--chat-template", str(template), "--context-length", "40960",
               "--parameters", "9.4b", "--licence", "Apache-2.0", "--cost-usd", "1.5",
               "--minutes", "90",
               "--submitter", "Me", "--model", "org/real-name", "-o", str(output)]  # fmt: skip
    assert main(["submit", str(folder), *options]) == 0
    assert "you may state" not in capsys.readouterr().out
    manifest, _ = unpacked(output)
    model = manifest["model"]
    assert model["id"] == {"value": "org/real-name", "source": "submitter"}
    assert model["served_as"] == "runs"
    assert model["context_length"] == {"value": 40960, "source": "submitter"}
    assert model["chat_template_sha256"]["value"] == files.sha256("{{ messages }}")
    assert manifest["backend"]["version"] == {"value": "vllm 0.11.0", "source": "submitter"}
    assert model["parameters"] == {"value": 9_400_000_000, "source": "submitter"}
    assert model["licence"] == {"value": "apache-2.0", "source": "submitter"}
    assert manifest["stated"] == {"cost_usd": 1.5, "minutes": 90}
    assert manifest["submitter"] == "Me"
    path = next(folder.glob("results_*.json"))
    results = json.loads(path.read_text(encoding="utf-8"))
    results["config"] |= {"model": "hf", "model_dtype": "torch.bfloat16", "model_sha": "def"}
    path.write_text(json.dumps(results), encoding="utf-8")
    assert main(["submit", str(folder), *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    for contradiction in (
        "--model org/real-name contradicts the run, which recorded runs",
        "--revision abc contradicts the run, which recorded def",
        "--dtype fp8 contradicts the run, which recorded bfloat16",
    ):
        assert contradiction in line


def test_a_transformers_run_records_its_model(tmp_path: Path) -> None:
    run = log().load(tmp_path / "runs")
    run.results.update(
        model_name="org/model",
        max_length=32768,
        chat_template_sha="a" * 64,
        transformers_version="5.16.1",
        pretty_env_info="PyTorch version: 2.13.0\nGPU 0: NVIDIA H200\nHostname: mine",
        config={
            "model": "hf",
            "model_args": "pretrained=org/model,seed=42,cache_dir=/home/me",
            "model_dtype": "torch.bfloat16",
            "model_revision": "main",
            "model_sha": "deadbeef",
            "model_num_parameters": 9_000_000_000,
        },
    )
    manifest = build_submission(run, StatedMetadata()).manifest
    assert {name: fact and fact["value"] for name, fact in manifest["model"].items()} == {
        "id": "org/model", "served_as": None, "revision": "deadbeef", "dtype": "bfloat16",
        "parameters": 9_000_000_000, "licence": None,
        "chat_template_sha256": "a" * 64, "context_length": 32768,
    }  # fmt: skip
    assert manifest["backend"]["version"]["value"] == "5.16.1"
    assert manifest["backend"]["gpus"] == ["NVIDIA H200"]
    assert manifest["backend"]["withheld"] == ["cache_dir"]
    assert manifest["seeds"]["model"] == 42


ROOT = Path(__file__).parents[2]


def test_the_example_in_the_repository_is_verified_and_never_ranked(tmp_path: Path) -> None:
    assert main(["leaderboard", str(ROOT / "submissions"), "-o", str(tmp_path / "site")]) == 0
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    assert [entry["file"] for entry in data["examples"]] == ["example.zip"]
    ranked = [e["file"] for ranking in data["rankings"] for e in ranking["entries"]]
    assert "example.zip" not in ranked
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Their scores mean nothing, and they have no rank" in page


def test_a_submission_is_marked_as_an_example_on_request(tmp_path: Path) -> None:
    path = hand_in(log().load(tmp_path / "runs"), tmp_path / "mine.zip", example=True)
    assert unpacked(path)[0]["example"] is True
    assert verify(read(path)).problems == []
