"""`agentwrite dpo`: four judged answers per prompt; none unjudged, and no call is made twice."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.commands import KEY, command, environment
from support.endpoint import verdict
from support.judging import JUDGE_OPTIONS, is_preflight, settings_at
from support.model import WRITER, Answer, Model
from support.prose import prose, read_jsonl, write_rows

from agentwrite.cli.main import main
from agentwrite.data.dpo import DpoSummary, dpo
from agentwrite.settings import Settings
from agentwrite.thresholds import PairOptions
from longwriter_core.llm import batch as batch_module
from longwriter_core.mock_server import JUDGE, MockRequest
from longwriter_core.text.length import length_score


@dataclass(repr=False, eq=False)
class Server(Model):
    """Writer and judge. `text(prompt, n)` is answer n, from 0, to a prompt, where it gives one."""

    text: Callable[[str, int], Answer] = lambda _prompt, _n: None
    score: Callable[[str], Answer] = lambda _response: None
    sampled: dict[str, list[Any]] = field(default_factory=dict)  # prompt -> seeds of its calls
    judged: list[str] = field(default_factory=list)  # responses

    def choose(self, request: MockRequest) -> Answer:
        if request.is_judge:
            response = re.search(r"<Text>\n(.*)\n</Text>", request.prompt, re.DOTALL)
            if not response or is_preflight(request.prompt):
                return None
            self.judged.append(response[1])
            return self.score(response[1])
        seeds = self.sampled.setdefault(request.prompt, [])
        seeds.append(request.seed)
        return self.text(request.prompt, len(seeds) - 1)


def prompts(folder: Path, number: int = 3, words: int = 900) -> Path:
    rows = ({"id": f"p{n}", "prompt": f"Write {words} words on tea {n}."} for n in range(number))
    return write_rows(folder / "prompts.jsonl", *rows)


def make(folder: Path, server: Model, **options: Any) -> DpoSummary:
    judge = settings_at(server)
    settings = Settings.resolve(
        model=WRITER, base_urls=(server.base_url,), concurrency=options.pop("concurrency", 32)
    )
    output = folder / options.pop("output", "dpo.jsonl")
    return dpo(folder / "prompts.jsonl", output, settings, judge, **options)


def arguments(folder: Path, server: Model, *more: str) -> list[str]:
    return [
        "dpo", str(folder / "prompts.jsonl"), "-o", str(folder / "dpo.jsonl"), "--model", WRITER,
        "--base-url", server.base_url, *JUDGE_OPTIONS, "--judge-base-url", server.base_url,
        "--judge-prompt", "longwriter", *more,
    ]  # fmt: skip


# Four answers of 900, 600, 300 and 1,350 words, which the judge gives 4, 5, 1 and 3 everywhere.
WORDS, STARS = (900, 600, 300, 1_350), (4, 5, 1, 3)
TEXTS = [prose(words) for words in WORDS]
# S_l by hand: 100; 100·(1 − (1.5−1)/2) = 75; 0 at a third; 100·(1 − (1.5−1)/3) = 83.33. S_q by
# hand: (stars − 1)·25 = 75, 100, 0, 50. The mean of both:
SCORES = [87.5, 87.5, 0, 66.67]


def by_hand(_prompt: str, n: int) -> Answer:
    return TEXTS[n % 4]


def stars(response: str) -> Answer:
    return verdict(STARS[TEXTS.index(response)])


def test_a_row_agrees_with_a_computation_by_hand(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        server.text, server.score = by_hand, stars
        made = make(tmp_path, server, concurrency=1, pairs=PairOptions("worst"))
    assert made.pairs == 1
    (row,) = read_jsonl(tmp_path / "dpo.jsonl")
    assert row.pop("scores") == pytest.approx(SCORES, abs=0.01)
    assert row == {
        "id": "p0",
        "source": "prompts.jsonl",
        "messages": [{"role": "user", "content": "Write 900 words on tea 0."}],
        "chosen": {"role": "assistant", "content": TEXTS[0]},  # the first of two equals
        "rejected": {"role": "assistant", "content": TEXTS[2]},
        "language": "en",
        "words": 900,
        "rejected_words": 300,
        "required": 900,
        "chosen_score": 87.5,
        "rejected_score": 0.0,
        "margin": 87.5,
        "rejected_by": "worst",
        "model": WRITER,
        "judge": JUDGE,
    }


def test_the_answers_to_a_prompt_differ_and_each_is_judged_once(tmp_path: Path) -> None:
    prompts(tmp_path)
    with Server() as server:
        made = make(tmp_path, server)
    assert (made.sampling.finished, made.sampling.answers) == (3, 12)
    for seeds in server.sampled.values():
        assert len(set(seeds)) == 4
    assert len(server.judged) == len(set(server.judged)) == 12
    for row in read_jsonl(tmp_path / "dpo.run" / "samples.jsonl"):
        for sample in row["samples"]:
            assert sample["length_score"] == length_score(900, sample["words"])
            assert set(sample["quality"]) > {"relevance", "coherence", "score"}


def test_equal_answers_are_judged_once_and_make_no_pair(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        server.text = lambda _prompt, _n: TEXTS[0]
        made = make(tmp_path, server)
        assert len(server.judged) == 1
    assert (made.pairs, made.sampling.missing) == (0, 0)
    (reject,) = read_jsonl(tmp_path / "dpo.rejects.jsonl")
    assert (reject["reason"], reject["id"]) == ("identical", "p0")


def test_rerunning_makes_no_calls_and_gives_the_same_bytes(tmp_path: Path) -> None:
    prompts(tmp_path)
    with Server() as server:
        make(tmp_path, server)
        first = {path.name: path.read_bytes() for path in tmp_path.glob("dpo.*") if path.is_file()}
        paid = len(server.prompts)
        made = make(tmp_path, server)
        assert len(server.prompts) == paid
    assert (made.sampling.skipped, made.sampling.finished) == (3, 0)
    assert first == {path.name: path.read_bytes() for path in tmp_path.glob("dpo.*") if path.is_file()}  # fmt: skip # noqa: E501
    assert set(first) == {"dpo.jsonl", "dpo.rejects.jsonl", "dpo.md", "dpo.png"}


def test_a_batch_of_verdicts_gives_the_same_rows_in_few_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_module, "QUIET", 0.5)
    prompts(tmp_path, 6)
    with Server(text=by_hand, score=stars, delay=0.05) as server:
        command = arguments(tmp_path, server, "--concurrency", "4", "--batch")
        assert main(command) == 0
        rows = (tmp_path / "dpo.jsonl").read_bytes()
        batches = [r for r in server.history if r.path == "/v1/batches" and r.method == "POST"]
        assert len(batches) == 1  # the verdicts waited for all answers
        # the preflight request and the first verdict are direct
        assert sum(r.is_chat and r.is_judge and r.was_accepted for r in server.history) == 2
        assert sum(map(len, server.sampled.values())) == 24
        calls = server.stats().calls
        assert main(arguments(tmp_path, server, "--concurrency", "4")) == 0
        assert server.stats().calls == calls
    assert (tmp_path / "dpo.jsonl").read_bytes() == rows
    assert "1 batch completed" in capsys.readouterr().err


def test_other_pair_options_make_no_calls(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        server.text, server.score = by_hand, stars
        make(tmp_path, server)
        paid = len(server.prompts)
        assert make(tmp_path, server, pairs=PairOptions(min_margin=90)).pairs == 0
        assert make(tmp_path, server, pairs=PairOptions("worst", seed=1)).pairs == 1
        assert len(server.prompts) == paid


def test_another_length_makes_no_calls_and_changes_the_scores(tmp_path: Path) -> None:
    row = {"id": "p0", "prompt": "Write on tea."}
    write_rows(tmp_path / "prompts.jsonl", row)
    with Server() as server:
        server.text, server.score = by_hand, stars
        make(tmp_path, server, concurrency=1, default_length=900)
        paid = len(server.prompts)
        write_rows(tmp_path / "prompts.jsonl", {**row, "length": 300})
        make(tmp_path, server, concurrency=1, pairs=PairOptions("worst"))
        assert len(server.prompts) == paid
    (made,) = read_jsonl(tmp_path / "dpo.jsonl")
    assert made["required"] == 300
    # S_l by hand: 100·(1 − (3−1)/3) = 33.33; 100·(1 − (2−1)/3) = 66.67; 100; 4.5 times is 0
    assert made["scores"] == pytest.approx([54.17, 83.33, 50, 25], abs=0.01)


def test_general_pairs_are_mixed_in_under_the_same_columns(tmp_path: Path) -> None:
    from datasets import load_dataset

    prompts(tmp_path, 2)
    pair = {"chosen": "Because the tide is high.", "rejected": "I would rather not say."}
    rows = [{"prompt": f"Why {n}?", **pair} for n in range(400)]
    write_rows(tmp_path / "g.jsonl", *rows, {"prompt": "?", "chosen": "A", "rejected": "B"})
    given = ["--general", str(tmp_path / "g.jsonl"), "--ratio", "150", "--min-margin", "0"]
    with Server() as server:
        server.text, server.score = by_hand, stars
        assert main(arguments(tmp_path, server, *given)) == 0
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "dpo.jsonl"), split="train",
        cache_dir=str(tmp_path / "hf"), chunksize=20_000,
    )  # fmt: skip
    assert len(loaded) == 302
    ours = [row for row in loaded if row["source"] == "prompts.jsonl"]
    assert [len(row["scores"]) for row in ours] == [4, 4]
    assert all(row["scores"] is None for row in loaded if row["source"] == "g.jsonl")
    assert read_jsonl(tmp_path / "dpo.rejects.jsonl")[-1]["reason"] == "too_short"


# Faults


def test_an_answer_that_was_cut_off_is_never_chosen(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        server.text = lambda _prompt, n: (TEXTS[n % 4], "length" if n < 2 else "stop")
        server.score = stars
        make(tmp_path, server, concurrency=1)
    (row,) = read_jsonl(tmp_path / "dpo.jsonl")
    assert (row["chosen"]["content"], row["rejected"]["content"]) == (TEXTS[3], TEXTS[2])
    (kept,) = read_jsonl(tmp_path / "dpo.run" / "samples.jsonl")
    assert [sample["cut"] for sample in kept["samples"]] == [True, True, False, False]


def test_a_prompt_with_an_unjudged_answer_fails_and_is_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path, 2)
    with Server() as server:
        server.text = lambda prompt, n: prose(700 + 100 * (n % 4), int(prompt[-2]))
        unread = prose(800, 1)
        server.score = lambda response: "No idea." if response == unread else None
        assert main(arguments(tmp_path, server)) == 1
        printed = capsys.readouterr().err
        assert "failed.jsonl: unjudged 1" in printed
        assert "1 of 2 prompts have no judged answers; to resume: agentwrite dpo" in printed
        (failure,) = read_jsonl(tmp_path / "dpo.run" / "failed.jsonl")
        assert (failure["id"], failure["reason"]) == ("p1", "unjudged")
        assert failure["detail"].startswith("parse_error")
        rows = read_jsonl(tmp_path / "dpo.run" / "samples.jsonl")
        assert [row["id"] for row in rows] == ["p0"]
        paid = len(server.prompts)
        server.score = lambda _response: None
        assert main(arguments(tmp_path, server)) == 0
        # the judge's check, and the one verdict that was missing
        assert len(server.prompts) == paid + 2
        printed = capsys.readouterr().err
        assert "; 0 calls, 0 prompt" in printed
        assert f"judged by {JUDGE}: 1 calls" in printed
    assert not (tmp_path / "dpo.run" / "failed.jsonl").exists()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("<|eot_id|>", "empty", id="special-tokens-alone"),
        pytest.param("I'm sorry, but I can't help with that.", "refused", id="refusal"),
        pytest.param("overflow", "context_overflow", id="context-overflow"),
    ],
)
def test_a_prompt_without_four_answers_fails_with_its_reason(
    answer: str, reason: str, tmp_path: Path
) -> None:
    prompts(tmp_path, 2)
    with Server() as server:
        server.text = lambda prompt, _n: answer if "tea 1" in prompt else None
        made = make(tmp_path, server)
    assert (made.sampling.finished, dict(made.sampling.reasons)) == (1, {reason: 1})
    assert [row["id"] for row in read_jsonl(tmp_path / "dpo.run" / "samples.jsonl")] == ["p0"]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("<think>\nHm. {n}\n</think>\n\n{text}", id="thinking"),
        pytest.param(" {text}<|eot_id|><|user|>\n", id="special-tokens"),
    ],
)
def test_thinking_and_special_tokens_never_reach_the_rows(reply: str, tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        server.text = lambda _prompt, n: reply.format(n=n, text=TEXTS[n % 4])
        server.score = stars
        make(tmp_path, server)
    (row,) = read_jsonl(tmp_path / "dpo.jsonl")
    assert {row["chosen"]["content"], row["rejected"]["content"]} < set(TEXTS)


# Input


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        pytest.param(
            [{"id": "a", "prompt": "Write 900 words."}, {"id": "b", "prompt": "Write."}],
            [],
            "1 of 2 prompts name no length, such as 'b'",
            id="no-length",
        ),
        pytest.param([{"prompt": " "}], [], "line 1: the instruction is empty", id="empty"),
        pytest.param(
            [{"prompt": "Write 900 words."}],
            ["--samples", "1"],
            "'--samples': 1 is not in the range",
            id="one",
        ),
        pytest.param(
            [{"prompt": "Write 900 words."}],
            ["--general", "g.jsonl", "--ratio", "1"],
            "there is no file g.jsonl",
            id="no-general-set",
        ),
        pytest.param(
            [{"prompt": "Write 900 words."}],
            ["-o", "{}/prompts.jsonl"],
            "would overwrite",
            id="its-prompts",
        ),
        pytest.param([{"prompt": "Write 900 words."}], ["-o", "{}"], "is a folder", id="a-folder"),
        pytest.param(
            [{"prompt": "Write 900 words."}], ["--ratio", "2"], "go together", id="ratio-alone"
        ),
        pytest.param(
            [{"prompt": "Write 900 words."}],
            ["--judge-model", "unknown"],
            "the judge unknown at",
            id="judge",
        ),
    ],
)
def test_bad_input_gives_one_line_and_makes_no_calls(
    rows: list[Any],
    more: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(tmp_path / "prompts.jsonl", *rows)
    with Server() as server:
        given = (each.format(tmp_path) for each in more)
        assert main(arguments(tmp_path, server, *given)) == 2
        assert not server.sampled
    assert len(read_jsonl(tmp_path / "prompts.jsonl")) == len(rows)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("agentwrite: error: ")
    assert says in last


def test_a_run_without_rows_does_not_fix_the_settings(tmp_path: Path) -> None:
    prompts(tmp_path, 1)
    with Server() as server:
        assert main(arguments(tmp_path, server, "--judge-model", "unknown")) == 2
        assert main(arguments(tmp_path, server)) == 0
        assert main(arguments(tmp_path, server, "--samples", "3")) == 2  # now it would mix


def test_a_default_length_applies_to_prompts_without_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", {"id": "a", "prompt": "Write on tea."})
    with Server() as server:
        assert main(arguments(tmp_path, server, "--length", "300", "--min-margin", "0")) == 0
    assert read_jsonl(tmp_path / "dpo.jsonl")[0]["required"] == 300


@pytest.mark.usefixtures("upstream")
def test_a_benchmark_prompt_is_left_out_before_any_call(tmp_path: Path) -> None:
    from longwriter_core.benchmarks import read_prompts

    taken = read_prompts("longbench_write")[3]["prompt"]
    write_rows(
        tmp_path / "prompts.jsonl",
        {"id": "a", "prompt": f"{taken} Now."},
        {"id": "b", "prompt": "Write 900 words on tea."},
    )
    with Server() as server:
        made = make(tmp_path, server)
        assert list(server.sampled) == ["Write 900 words on tea."]
    assert (made.sampling.missing, dict(made.mix.rejected)["benchmark"]) == (0, 1)


def test_a_dry_run_counts_both_models_calls_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path)
    with Server() as server:
        given = arguments(tmp_path, server, "--dry-run")
        given[given.index(f"--judge-model={JUDGE}")] = "--judge-model=gpt-4o-2024-05-13"
        assert main(given) == 0
        assert not server.prompts
    writer, judge = capsys.readouterr().out.splitlines()
    assert writer.startswith(f"would ask {WRITER} at {server.base_url} for 3 prompts: about 12 ")
    assert "14,400 completion tokens" in writer
    assert re.search(r"the judge gpt-4o-2024-05-13 at .*: about 12 calls.*, \$0\.\d+$", judge)
    assert not (tmp_path / "dpo.run").exists()


def test_a_dry_run_reads_the_folder_of_a_killed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path)
    with Server() as server:
        assert main(arguments(tmp_path, server)) == 0
        path = tmp_path / "dpo.run" / "samples.jsonl"
        path.write_bytes(path.read_bytes()[:-50])
        assert main(arguments(tmp_path, server, "--dry-run")) == 0
    printed = capsys.readouterr()
    assert "for 1 prompts: about 4 calls" in printed.out
    assert re.search(rf"judged by {JUDGE}: 12 calls, [\d,]{{5,}} prompt and", printed.err)


def test_a_dry_run_rejects_what_the_run_would_reject(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path)
    with Server() as server:
        assert main(arguments(tmp_path, server)) == 0
        for more, message in (
            (("-o", str(tmp_path / "prompts.jsonl")), "would overwrite"),
            (("--samples", "3"), "was begun with samples 4, not 3"),
        ):
            for dry in ((), ("--dry-run",)):
                assert main(arguments(tmp_path, server, *more, *dry)) == 2
                assert message in capsys.readouterr().err


def test_a_dry_run_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "AGENTWRITE_API_KEY", "LONGWRITER_JUDGE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = prompts(tmp_path)
    given = ["--model", "gpt-4.1", "--judge-prompt", "longwriter", "--dry-run"]
    assert main(["dpo", str(path), "-o", str(tmp_path / "dpo.jsonl"), *given]) == 0


def test_keys_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    prompts(tmp_path, 1)
    with Server(api_key=KEY) as server:
        server.text = lambda _prompt, n: f"{TEXTS[n % 4]} {KEY}."
        make(tmp_path, server)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


# Kill


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill-9", "ctrl-c"])
def test_after_an_interruption_the_next_run_pays_only_for_the_rest(
    how: signal.Signals, tmp_path: Path
) -> None:
    number, concurrency, dice = 6, 4, random.Random(2)
    (tmp_path / "calm").mkdir()
    prompts(tmp_path / "calm", number)
    prompts(tmp_path, number)
    with Server() as server:
        make(tmp_path / "calm", server)
        undisturbed = len(server.prompts)
    with Server(delay=0.1) as server:
        given = arguments(tmp_path, server, "--concurrency", str(concurrency))
        given += ["--judge-concurrency", str(concurrency)]
        for _ in range(2):
            before, wanted = len(server.prompts), dice.randint(6, 14)
            process = subprocess.Popen(
                command("agentwrite", *given), env=environment(),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            while len(server.prompts) < before + wanted:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(how)
            printed = process.communicate(timeout=60)[0].decode()
            if how is signal.SIGINT:
                assert process.returncode == 130
                assert "stopped; to resume: agentwrite dpo" in printed
        server.delay = 0.0
        assert main(given) == 0
        checks, in_flight = 2, 2 * 2 * concurrency
        assert len(server.prompts) <= undisturbed + checks + in_flight
    rows = [json.loads(line) for line in (tmp_path / "dpo.jsonl").read_text().splitlines()]
    calm = read_jsonl(tmp_path / "calm" / "dpo.jsonl")
    assert [(row["id"], row["chosen"]) for row in rows] == [
        (row["id"], row["chosen"]) for row in calm
    ]


def test_a_prompt_that_does_not_fit_the_context_is_an_error_before_any_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path)
    with Server() as server:
        for more in ([], ["--dry-run"]):
            given = arguments(tmp_path, server, "--context", "9000", *more)
            assert main(given) == 2  # --max-tokens is 32,768
            assert "'p0' has about" in capsys.readouterr().err
        assert main(arguments(tmp_path, server, "--context", "9000", "--max-tokens", "4000")) == 0


def test_an_answer_that_the_judge_cannot_read_is_an_error_before_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts(tmp_path, 1, words=9_000)
    with Server() as server:
        profiles = tmp_path / "profiles.toml"
        profiles.write_text(
            f'[profiles.mine]\nmodel = "{JUDGE}"\nendpoint = "{server.base_url}"\n'
            "context_window = 8192\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("LONGWRITER_PROFILES", str(profiles))
        assert main(arguments(tmp_path, server)) == 2
        assert server.prompts == []
    assert "does not fit the context" in capsys.readouterr().err


@pytest.mark.slow
def test_the_answers_and_the_verdicts_share_a_cost_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f'[m.models]\n"{WRITER}" = [1000, 1000]\n"{JUDGE}" = [1000, 1000]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(file))
    prompts(tmp_path, 1)
    with Server() as server:
        given = arguments(tmp_path, server, "--max-tokens", "1000", "--no-benchmark-check")
        assert main([*given, "--max-cost", "3"]) != 0
        assert "--max-cost $3.00" in capsys.readouterr().err
        assert len(server.sampled) == 0
        main([*given, "--max-cost", "12", "--extra", '{"top_p": 0.9}'])
        assert "--max-cost $12.00" in capsys.readouterr().err
        spent = [request for request in server.history if not request.is_judge]
        assert {request.body.get("top_p") for request in spent} == {0.9}
