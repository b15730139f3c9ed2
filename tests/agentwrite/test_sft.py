"""`agentwrite sft`: which texts become rows, their order, and the files next to them."""

import json
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment
from pyarrow import parquet
from support.commands import Ended, run
from support.hub import UploadHub
from support.judging import JUDGE_OPTIONS, settings_at
from support.prose import prose, read_jsonl, text_row, write_rows

from agentwrite.batch.run import run as write_all
from agentwrite.cli.main import main
from agentwrite.data.mix import GeneralSet, ShuffledRows
from agentwrite.data.sft import MinQuality, SftSummary, sft
from agentwrite.data.sft_rules import RULES
from agentwrite.data.stats import stats
from agentwrite.settings import Settings
from agentwrite.thresholds import SftLimits
from agentwrite.writing.context import estimate_tokens
from longwriter_core.benchmarks import read_prompts
from longwriter_core.errors import InputError
from longwriter_core.mock_server import WRITER, MockRequest, MockServer
from longwriter_core.mock_server.habits import TALK
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import FORMATS, split_thinking

GOOD = prose(2_000)


@pytest.fixture(scope="module")
def habitual_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose writer thinks, talks, refuses, loops and breaks off plans."""
    folder = tmp_path_factory.mktemp("habits")
    rows = [{"id": n, "instruction": f"Write 1200 words on tea {n}."} for n in range(4)]
    path = write_rows(folder / "instructions.jsonl", *rows)
    habits = [*TALK, "refusal", "loop", "half_plan"]
    with MockServer(habits=habits) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGWRITER_CACHE", str(folder / "cache"))
        settings = Settings.resolve(model=WRITER, base_urls=(server.base_url,))
        assert not write_all(path, folder / "run", settings).missing
    return folder / "run"


def make(folder: Path, *rows: dict[str, Any], **options: Any) -> SftSummary:
    write_rows(folder / "run" / "texts.jsonl", *rows)
    return sft([folder / "run"], folder / "sft.jsonl", **options)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_jsonl(folder / "sft.jsonl")


def general_rows(number: int) -> list[dict[str, Any]]:
    return [
        {
            "conversations": [
                {"from": "human", "value": f"Q {n}?"},
                {"from": "gpt", "value": f"A {n}."},
            ]
        }
        for n in range(number)
    ]


# Rows


def test_a_row_records_its_source(tmp_path: Path) -> None:
    built = make(tmp_path, text_row("tea", GOOD, models=["m-1", "m-2"]))
    assert (built.texts, built.rejected.total()) == (1, 0)
    assert rows_of(tmp_path) == [
        {
            "id": "tea",
            "source": "run",
            "messages": [
                {"role": "user", "content": "Write about tea."},
                {"role": "assistant", "content": GOOD},
            ],
            "language": "en",
            "words": 2_000,
            "required": 2_000,
            "length_score": 100.0,
            "model": "m-1, m-2",
        }
    ]


def test_a_text_that_run_has_cleaned_is_not_cleaned_again(tmp_path: Path) -> None:
    # both lines would be talk around an untagged reply; here they stood within the tags
    text = f"Sure! Here is the text:\n\n{GOOD}\n\nLet me know if you want another draft."
    make(tmp_path, text_row("tea", text))
    assert rows_of(tmp_path)[0]["messages"][1]["content"] == text


# Rules, one by one. Each text breaks no other rule.

SECTIONS = [{"words": 600, "target": 600}] * 4 + [{"words": 20, "target": 600}] * 2
BROKEN = {
    "refusal": text_row("x", "I'm sorry, but I can't help with that."),
    "error_text": text_row("x", "Max tries. Failed."),
    "too_short": text_row("x", prose(1_499), 1_500),
    "too_long": text_row("x", prose(32_001, language="zh"), 32_000, instruction="写"),
    "collapsed": text_row("x", GOOD, sections=SECTIONS),
    "length_score": text_row("x", prose(2_000), 2_900),  # S_l 77.5
    "unfinished": text_row("x", GOOD.rstrip(".")),
    "repetition": text_row("x", f"{prose(1_700)}\n\n{prose(1_700).partition(chr(10))[0] * 3}"),
    "wrong_language": text_row("x", prose(2_000, language="zh")),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_rejects_its_text_and_records_it(rule: str, tmp_path: Path) -> None:
    good = text_row("tea", GOOD)
    built = make(tmp_path, BROKEN[rule], good)
    assert dict(built.rejected) == {rule: 1}
    assert [row["id"] for row in rows_of(tmp_path)] == ["tea"]
    (reject,) = read_jsonl(tmp_path / "sft.rejects.jsonl")
    assert (reject["reason"], reject["id"], reject["source"]) == (rule, "x", "run")
    assert reject["detail"]


@pytest.mark.parametrize("text", ["", " \n"], ids=["none", "blank"])
def test_an_empty_text_is_never_written(text: str, tmp_path: Path) -> None:
    built = make(tmp_path, text_row("x", text, None), without=RULES)
    assert (built.texts, dict(built.rejected)) == (0, {"empty": 1})


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"refusal", "error_text"}))
def test_a_disabled_rule_is_not_applied(rule: str, tmp_path: Path) -> None:
    assert make(tmp_path, BROKEN[rule], without={rule}).texts == 1


@pytest.mark.parametrize(
    ("row", "limits"),
    [
        pytest.param(text_row("x", prose(1_500), 1_500), SftLimits(), id="1500-words"),
        pytest.param(text_row("x", prose(900), 900), SftLimits(min_words=900), id="fewer-asked"),
        pytest.param(text_row("x", GOOD, 2_800), SftLimits(), id="length-score-80"),
        pytest.param(text_row("x", GOOD, None), SftLimits(), id="no-length-asked"),
        pytest.param(text_row("x", GOOD, 9_000), SftLimits(min_length_score=0), id="any-score"),
        pytest.param(
            text_row("x", GOOD, sections=SECTIONS[:5]),
            SftLimits(),
            id="one-of-five-sections-missing",
        ),
        pytest.param(
            text_row("x", prose(32_000), 32_000), SftLimits(sequence_len=60_000), id="32000-words"
        ),
    ],
)
def test_a_text_at_a_limit_is_kept(row: dict[str, Any], limits: SftLimits, tmp_path: Path) -> None:
    assert make(tmp_path, row, limits=limits).texts == 1


def test_a_text_longer_than_the_sequence_is_too_long(tmp_path: Path) -> None:
    built = make(tmp_path, text_row("x", prose(31_000), 31_000))
    assert dict(built.rejected) == {"too_long": 1}
    assert "tokens" in read_jsonl(tmp_path / "sft.rejects.jsonl")[0]["detail"]


def test_an_unknown_rule_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown rule length: the rules are refusal, "):
        make(tmp_path, text_row("x", GOOD), without={"length"})


def test_duplicate_instructions_and_texts_across_folders_are_rejected(tmp_path: Path) -> None:
    write_rows(tmp_path / "a" / "texts.jsonl", text_row("tea", GOOD), text_row("jam", prose(2_100)))
    write_rows(
        tmp_path / "b" / "run" / "texts.jsonl",
        text_row("tea", prose(2_200)),  # another text for the same instruction
        text_row("rye", GOOD),  # the same text for another one
        text_row("oat", prose(2_300)),
    )
    built = sft([tmp_path / "a", tmp_path / "b" / "run"], tmp_path / "sft.jsonl")
    assert {row["id"] for row in rows_of(tmp_path)} == {"tea", "jam", "oat"}
    assert dict(built.rejected) == {"duplicate": 2}
    details = [row["detail"] for row in read_jsonl(tmp_path / "sft.rejects.jsonl")]
    assert details == [f"the same {what} as an earlier row" for what in ("text", "instruction")]


def test_folders_with_the_same_name_are_counted_separately(tmp_path: Path) -> None:
    for n, parent in enumerate("ab"):
        write_rows(tmp_path / parent / "run" / "texts.jsonl", text_row(f"t{n}", prose(2_000, n)))
    sft([tmp_path / parent / "run" for parent in "ab"], tmp_path / "sft.jsonl")
    assert {row["source"] for row in rows_of(tmp_path)} == {"run", "run-2"}


@pytest.mark.usefixtures("upstream")
def test_benchmark_prompts_never_become_training_data(tmp_path: Path) -> None:
    prompt = read_prompts("longbench_write")[7]
    asked = {"instruction": f"Please: {prompt['prompt'].upper()}"}
    language = "en" if prompt["language"] == "en" else "zh"
    row = text_row("x", prose(prompt["length"], language=language), prompt["length"], **asked)
    (tmp_path / "g.jsonl").write_text(
        json.dumps({"prompt": f"{prompt['prompt']} Thanks.", "response": "No."}) + "\n"
        + json.dumps({"prompt": "How high is a lighthouse?", "response": "High."}) + "\n",
        encoding="utf-8",
    )  # fmt: skip
    general = GeneralSet(str(tmp_path / "g.jsonl"), 2)
    limits = SftLimits(min_words=1)
    built = make(tmp_path, row, text_row("tea", GOOD), limits=limits, general=general)
    assert dict(built.rejected) == dict(built.mix.unusable) == {"benchmark": 1}
    assert dict(built.mix.overlaps) == {prompt["id"]: 2}
    assert len(rows_of(tmp_path)) == 2
    card = (tmp_path / "sft.md").read_text(encoding="utf-8")
    assert f"2 rows contained one and were left out ({prompt['id']})" in card
    assert make(tmp_path, row, limits=limits, check_benchmarks=False).texts == 1
    assert "Not checked" in (tmp_path / "sft.md").read_text(encoding="utf-8")


# The mix


def test_general_rows_come_by_ratio_and_their_faults_are_counted(tmp_path: Path) -> None:
    bad = [{"text": "x"}, {"messages": [{"role": "user", "content": "?"}]}]
    path = write_rows(tmp_path / "g.jsonl", *general_rows(30), *bad, general_rows(1)[0])
    texts = [text_row(f"t{n}", prose(2_000, n)) for n in range(4)]
    built = make(tmp_path, *texts, general=GeneralSet(str(path), 2.5))
    assert (built.mix.general_wanted, built.mix.general_rows) == (10, 10)
    assert dict(built.mix.unusable) == {"shape": 1, "turns": 1, "duplicate": 1}
    rows = rows_of(tmp_path)
    assert sum(row["source"] == "g.jsonl" for row in rows) == 10
    assert len({row["messages"][0]["content"] for row in rows}) == 14
    reasons = [row["reason"] for row in read_jsonl(tmp_path / "sft.rejects.jsonl")]
    assert reasons == ["shape", "turns", "duplicate"]


def test_a_general_set_of_our_own_sources_name_is_counted_apart(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "g" / "run", *general_rows(3))
    built = make(tmp_path, text_row("t", GOOD), general=GeneralSet(str(path), 3))
    assert built.mix.taken == built.mix.read == {"run": 1, "run, general": 3}
    assert built.mix.general_rows == 3
    assert {row["source"] for row in rows_of(tmp_path)} == {"run", "run, general"}


def test_every_row_is_drawn_about_as_often() -> None:
    drawn: Counter[bytes] = Counter()
    for seed in range(200):
        sample = ShuffledRows(BytesIO(), seed, limit=5)
        for number in range(20):
            sample.add(f"key {number}", {"number": number})
        drawn.update(sample.line(offset) for _, offset in sample.offsets())
    assert drawn.total() == 200 * 5
    assert len(drawn) == 20
    assert all(30 < times < 70 for times in drawn.values())  # 50 expected, deviation 6


def test_a_small_general_set_is_used_completely_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "g.jsonl", *general_rows(3))
    write_rows(tmp_path / "run" / "texts.jsonl", text_row("t", GOOD))
    given = [str(tmp_path / "run"), "-o", str(tmp_path / "sft.jsonl"), "--general", str(path)]
    assert main(["sft", *given, "--ratio", "30"]) == 0
    printed = capsys.readouterr().err
    assert "g.jsonl is too small: 30 rows were requested, and it has 3 usable ones" in printed
    assert "1 texts and 3 rows of g.jsonl" in printed


def test_the_order_depends_only_on_the_seed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "g.jsonl", *general_rows(40))
    texts = [text_row(f"t{n}", prose(2_000, n)) for n in range(12)]
    texts += [text_row("t12", prose(2_000, 5)), text_row("t13", "short.")]  # a duplicate, a reject
    general = GeneralSet(str(path), 2)

    def ids(rows: list[dict[str, Any]], seed: int) -> list[str]:
        make(tmp_path, *rows, general=general, seed=seed)
        return [f"{row['source']} {row['id']}" for row in rows_of(tmp_path)]

    def files() -> list[bytes]:
        return [path.read_bytes() for path in sorted(tmp_path.glob("sft.*"))]

    one, first = ids(texts, 1), files()
    assert ids(texts[::-1], 1) == one  # texts.jsonl is in the order in which texts were finished
    assert files() == first
    assert ids(texts, 2) != one
    kinds = [each.split()[0] for each in one[1:]]
    assert kinds != sorted(kinds) != kinds[::-1]


def test_the_same_input_gives_the_same_bytes_in_every_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "g.jsonl", *general_rows(10))
    rows = [text_row(f"t{n}", prose(2_000 + n, n, "zh"), instruction=f"写{n}") for n in range(3)]
    files: list[dict[str, bytes]] = []
    for _ in range(2):
        make(tmp_path, *rows, text_row("x", "short."), general=GeneralSet(str(path), 2))
        found = {each.name: each.read_bytes() for each in tmp_path.glob("sft.*")}
        files.append(found)
    assert files[0] == files[1]
    assert set(files[0]) == {"sft.jsonl", "sft.rejects.jsonl", "sft.md", "sft.png"}
    assert b"\x89PNG" in files[0]["sft.png"][:8]


def test_the_loader_finds_the_columns_types_in_the_first_row(tmp_path: Path) -> None:
    """`datasets` fixes each column's type from the first chunk that it reads."""
    from datasets import load_dataset

    path = write_rows(tmp_path / "g.jsonl", *general_rows(2_000))
    texts = [text_row(f"t{n}", prose(2_000, n), 2_000 if n else None) for n in range(3)]
    make(tmp_path, *texts, general=GeneralSet(str(path), 600))
    first = rows_of(tmp_path)[0]
    assert None not in first.values()
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "sft.jsonl"), split="train",
        cache_dir=str(tmp_path / "hf"), chunksize=30_000,
    )  # fmt: skip
    assert len(loaded) == 1_803
    assert sorted(row["length_score"] for row in loaded if row["required"]) == [100.0, 100.0]


# Files next to the rows


def test_the_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    hostile = "m|<b>\n1"
    rows = [text_row("en", GOOD, models=[hostile]), text_row("x", "short.")]
    write_rows(tmp_path / "run" / "settings.json", {"model": "m", "temperature": 1.0})
    make(tmp_path, *rows, text_row("zh", prose(3_000, language="zh"), 3_000, instruction="写"))
    card = (tmp_path / "sft.md").read_text(encoding="utf-8")
    head = yaml.safe_load(re.fullmatch(r"---\n(.*?)\n---\n.*", card, re.DOTALL)[1])  # type: ignore[index]
    assert head["language"] == ["en", "zh"]
    assert head["configs"] == [{"config_name": "default", "data_files": "sft.jsonl"}]
    assert head["size_categories"] == ["n<1K"]
    assert "| en | 1 | 2,000 | 2,000 | 2,000 | 2,000 |" in card
    assert "| too_short | 1 |" in card
    assert "| m\\|&lt;b> 1 | 1 |" in card
    assert "| run, temperature | 1.0 |" in card
    assert "![Rows by length in words](sft.png)" in card
    assert str(tmp_path) not in card


# Input


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(["nowhere"], "nowhere has no texts.jsonl", id="no-folder"),
        pytest.param(["run", "--general", "g"], "--general and --ratio go together", id="no-ratio"),
        pytest.param(["run", "--ratio", "1"], "--general and --ratio go together", id="no-set"),
        pytest.param(
            ["run", "--general", "g", "--ratio", "1"], "'g' is not a source", id="no-such-set"
        ),
        pytest.param(["run", "--without", "x"], "unknown rule x", id="rule"),
        pytest.param(["damaged"], "line 1: damaged", id="damaged"),
        pytest.param(["textless"], "id 'x': `text`: Field required", id="no-text"),
        pytest.param(["run", "-o", "run/texts.jsonl"], "would overwrite run/texts", id="its-texts"),
        pytest.param(["run", "-o", "run/failed"], "is a folder", id="a-folder"),
        pytest.param(
            ["run", "--general", "run", "--ratio", "1", "-o", "run/sft.jsonl"],
            "would become part of its own input run",
            id="in-the-general-set",
        ),
        pytest.param(
            ["run", "--general", "run/texts.jsonl", "--ratio", "1", "-o", "run/texts.jsonl"],
            "would overwrite",
            id="its-general-set",
        ),
    ],
)
def test_bad_input_gives_one_line_and_leaves_no_file(
    given: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("run/texts.jsonl"), text_row("t", GOOD))
    write_rows(Path("damaged/texts.jsonl"), ["x"])
    write_rows(Path("textless/texts.jsonl"), {"id": "x", "instruction": "y"})
    Path("run/failed").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["sft", "-o", "sft.jsonl", *given]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("agentwrite: error: ")
    assert says in last
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param(
            {"instruction": " "},
            "`instruction`: String should have at least 1 character",
            id="blank-instruction",
        ),
        pytest.param(
            {"required": "2000"}, "`required`: Input should be a valid integer", id="length-as-text"
        ),
        pytest.param(
            {"required": -5}, "`required`: Input should be greater than 0", id="negative-length"
        ),
        pytest.param({"sections": [{"words": 1}]}, "`sections`: Field required", id="section"),
        pytest.param(
            {"sections": None}, "`sections`: Input should be a valid list", id="no-sections"
        ),
        pytest.param({"models": None}, "`models`: Input should be a valid list", id="models"),
    ],
)
def test_a_row_that_no_run_has_written_is_named(
    fields: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"texts\.jsonl, id 'x': {says}"):
        make(tmp_path, text_row("x", GOOD) | fields)


def test_a_repeated_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has id 'x' twice"):
        make(tmp_path, text_row("x", GOOD), text_row("x", prose(2_100)))


def test_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "run" / "texts.jsonl", text_row("a", GOOD), text_row("b", GOOD))
    path.write_bytes(path.read_bytes()[:-50])
    assert sft([tmp_path / "run"], tmp_path / "sft.jsonl").texts == 1
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match="line 2: damaged"):
        sft([tmp_path / "run"], tmp_path / "sft.jsonl")


def test_a_full_disk_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    import resource

    write_rows(tmp_path / "run" / "texts.jsonl", text_row("a", GOOD))
    out = tmp_path / "out" / "sft.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))  # bytes
    try:
        with pytest.raises(InputError, match=r"cannot write .*sft\.jsonl \(File too large\)"):
            sft([tmp_path / "run"], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(out.parent.iterdir())


def test_an_empty_result_is_not_a_success(tmp_path: Path) -> None:
    write_rows(tmp_path / "run" / "texts.jsonl", text_row("t", "short."))
    (tmp_path / "sft.png").write_bytes(b"of earlier rows")
    assert main(["sft", str(tmp_path / "run"), "-o", str(tmp_path / "sft.jsonl")]) == 1
    assert not (tmp_path / "sft.png").exists()


def test_a_dry_run_counts_and_writes_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (text_row("1", GOOD), text_row("2", prose(2_000, seed=2)), text_row("3", "Too short."))
    write_rows(tmp_path / "run" / "texts.jsonl", *rows)
    write_rows(tmp_path / "general.jsonl", *general_rows(3))
    before = sorted(tmp_path.rglob("*"))
    given = ["sft", str(tmp_path / "run"), "-o", str(tmp_path / "sft.jsonl"), "--dry-run"]
    assert main([*given, "--general", str(tmp_path / "general.jsonl"), "--ratio", "3"]) == 0
    said = capsys.readouterr()
    assert f"would write {tmp_path / 'sft.jsonl'}: 2 texts and 6 rows of general.jsonl" in said.out
    assert "would leave out: too_short 1" in said.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("output", "general", "message"),
    [
        ("run/texts.jsonl", (), "would overwrite"),
        ("run", (), "is a folder"),
        ("sft.jsonl", ("--general", "gone.jsonl", "--ratio", "1"), "there is no file"),
    ],
)
def test_a_dry_run_rejects_what_the_run_would_reject(
    output: str,
    general: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(tmp_path / "run" / "texts.jsonl", text_row("1", GOOD))
    given = ["sft", str(tmp_path / "run"), "-o", str(tmp_path / output), *general]
    for command in (given, [*given, "--dry-run"]):
        assert main(command) == 2
        assert message in capsys.readouterr().err


def test_a_limit_takes_the_first_texts_of_each_folder(tmp_path: Path) -> None:
    rows = [text_row(str(n), prose(2_000, seed=n)) for n in range(4)]
    built = make(tmp_path, *rows, limit=3)
    assert built.texts == 3
    assert {row["id"] for row in rows_of(tmp_path)} == {"0", "1", "2"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_texts(tmp_path: Path) -> None:
    """Peak memory of making rows of 10 and of 110 texts of 80 kB differs by less than 6 MB."""
    code = (
        "import re, sys; from pathlib import Path; from agentwrite.data.sft import sft;"
        "sft([Path(sys.argv[1])], Path(sys.argv[2]), check_benchmarks=False);"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    for number in (10, 110):
        folder = tmp_path / str(number)
        text = prose(2_000) + " " + "y" * 70_000 + "."
        rows = (text_row(f"t{n}", f"No {n}. {text} {n}.") for n in range(number))
        write_rows(folder / "texts.jsonl", *rows)
        ended = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(folder / "sft.jsonl")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert len(read_jsonl(folder / "sft.jsonl")) == number
        peaks.append(int(ended.stdout) // 1024)  # MB
    assert peaks[1] - peaks[0] < 6


def test_the_rows_own_prose_helper_counts_as_the_benchmark_does() -> None:
    assert count_words(prose(1_234)) == count_words(prose(1_234, language="zh")) == 1_234


# Unfinished runs, Parquet, the hub


def test_an_unfinished_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    write_rows(folder / "texts.jsonl", *[text_row(f"t{n}", prose(2000, n)) for n in range(3)])
    assert not sft([folder], tmp_path / "sft.jsonl").unfinished
    (folder / "run.json").write_text('{"instructions": 5}')
    assert sft([folder], tmp_path / "sft.jsonl").unfinished == {str(folder): 2}
    assert main(["sft", str(folder), "-o", str(tmp_path / "sft.jsonl")]) == 0
    assert f"{folder} is unfinished: 2 of its instructions" in capsys.readouterr().err


def test_parquet_holds_the_rows_of_jsonl(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_rows(folder / "texts.jsonl", *[text_row(f"t{n}", prose(2000, n)) for n in range(6)])
    write_rows(tmp_path / "general.jsonl", *general_rows(40))
    general = GeneralSet(str(tmp_path / "general.jsonl"), 5)
    for suffix in (".jsonl", ".parquet"):
        sft([folder], tmp_path / f"sft{suffix}", general=general)
    rows = parquet.read_table(tmp_path / "sft.parquet").to_pylist()
    assert rows == read_jsonl(tmp_path / "sft.jsonl")
    assert len(rows) == 36
    assert 'data_files: "sft.parquet"' in (tmp_path / "sft.md").read_text()


def push(tmp_path: Path, hub: UploadHub, token: str, *options: str) -> Ended:
    folder = tmp_path / "run"
    write_rows(folder / "texts.jsonl", *[text_row(f"t{n}", prose(2000, n)) for n in range(3)])
    return run("agentwrite", "sft", str(folder), "-o", str(tmp_path / "sft.parquet"),
               "--push-to-hub", hub.name, *options, HF_ENDPOINT=hub.url, HF_TOKEN=token,
               HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0")  # fmt: skip


def test_the_rows_and_the_card_are_pushed_to_a_private_dataset(tmp_path: Path) -> None:
    with UploadHub("owner/texts") as hub:
        ended = push(tmp_path, hub, hub.token)
    assert ended.code == 0, ended.out
    assert f"pushed to {hub.url}/datasets/owner/texts" in ended.out
    created = hub.created[0]
    assert created["type"] == "dataset"
    assert created.get("private") or created.get("visibility") == "private"  # by version
    assert set(hub.files) == {"sft.parquet", "README.md", "sft.png"}
    for name, local in (("sft.parquet", "sft.parquet"), ("README.md", "sft.md")):
        assert hub.files[name] == (tmp_path / local).read_bytes()


def test_a_refused_token_is_one_error_before_any_work(tmp_path: Path) -> None:
    with UploadHub("owner/texts") as hub:
        ended = push(tmp_path, hub, "wrong")
    assert ended.code == 2
    assert "cannot create the dataset 'owner/texts' on the hub" in ended.out
    assert "Traceback" not in ended.out
    assert not (tmp_path / "sft.parquet").exists()


# The judge


def sft_judged(folder: Path, server: MockServer, least: float) -> SftSummary:
    judge = settings_at(server)
    return sft([folder / "run"], folder / "sft.jsonl", min_quality=MinQuality(least, judge))


def verdict(score: int) -> str:
    names = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth",
             "Reading Experience")  # fmt: skip
    return json.dumps({"Analysis": "Read.", **dict.fromkeys(names, score)})


def by_text(request: MockRequest) -> str | int | None:
    if "a text without a verdict" in request.prompt:
        return 400
    return verdict(2 if "a bad text" in request.prompt else 4) if "text" in request.prompt else None


def test_texts_below_the_least_quality_are_left_out_and_no_verdict_is_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    opening = {"good": "a good text", "bad": "a bad text", "none": "a text without a verdict"}
    rows = [text_row(id, f"It is {says}. {prose(2000, n)}")
            for n, (id, says) in enumerate(opening.items())]  # fmt: skip
    write_rows(tmp_path / "run" / "texts.jsonl", *rows, text_row("short", "A short text."))
    with MockServer(on_request=by_text) as server:
        summary = sft_judged(tmp_path, server, 60)
        asked = len(server.prompts)
        assert sft_judged(tmp_path, server, 60).texts == 1
        assert len(server.prompts) == asked + 2  # the preflight request and the missing verdict
    assert summary.rejected == {"too_short": 1, "quality": 1, "unjudged": 1}
    (row,) = rows_of(tmp_path)
    assert (row["id"], row["quality_score"]) == ("good", 75.0)
    rejects = {each["id"]: each["detail"] for each in read_jsonl(tmp_path / "sft.rejects.jsonl")}
    assert rejects["bad"] == "S_q 25.0"
    assert not any("A short text." in prompt for prompt in server.prompts)


def test_the_command_names_what_has_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    text = f"It is a text without a verdict. {prose(2000)}"
    write_rows(tmp_path / "run" / "texts.jsonl", text_row("none", text))
    with MockServer(on_request=by_text) as server:
        code = main(["sft", str(tmp_path / "run"), "-o", str(tmp_path / "sft.jsonl"),
                     "--min-quality", "60", *JUDGE_OPTIONS,
                     "--judge-base-url", server.base_url])  # fmt: skip
    assert code == 1
    assert "1 texts have no verdict; to resume: agentwrite sft" in capsys.readouterr().err


# The plan as thinking

PLANNED: dict[str, Any] = {
    "plan": [{"number": 1, "point": "Why harbours silt up", "words": 1000, "level": "Paragraph"},
             {"number": 2, "point": "What it costs", "words": 1000, "level": "Paragraph"}],
}  # fmt: skip
CHAPTERS = [{"number": 1, "point": "Mud", "words": 2000, "level": "Chapter", "first_step": 1}]
PLAN_TEXT = (
    "Paragraph 1 - Main Point: Why harbours silt up - Word Count: 1000 words\n"
    "Paragraph 2 - Main Point: What it costs - Word Count: 1000 words"
)


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_begins_with_its_plan_as_thinking_which_counts_no_words(
    name: str, tmp_path: Path
) -> None:
    summary = make(
        tmp_path, text_row("a", GOOD, **PLANNED), text_row("b", prose(2000, 1)), with_plan=name
    )
    assert summary.rejected == {"no_plan": 1}
    (row,) = rows_of(tmp_path)
    answer = row["messages"][1]["content"]
    assert answer.startswith(FORMATS[name][0])
    assert split_thinking(answer) == (PLAN_TEXT, GOOD)
    assert (row["words"], row["length_score"]) == (2000, 100.0)
    counted = stats(tmp_path / "sft.jsonl")
    assert counted.lengths["words"].mean == 2000


def test_gpt_oss_gets_the_plan_in_the_field_from_which_its_template_makes_the_channels(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "general.jsonl", *general_rows(3))
    general = GeneralSet(str(tmp_path / "general.jsonl"), 3)
    for output in ("sft.jsonl", "sft.parquet"):
        write_rows(tmp_path / "run" / "texts.jsonl", text_row("a", GOOD, **PLANNED))
        sft([tmp_path / "run"], tmp_path / output, with_plan="gpt-oss", general=general)
    rows = rows_of(tmp_path)
    assert parquet.read_table(tmp_path / "sft.parquet").to_pylist()[0]["words"] in (1, 2, 2000)
    (long,) = (row for row in rows if row["source"] == "run")
    assert long["messages"][1] == {"role": "assistant", "content": GOOD, "thinking": PLAN_TEXT}
    assert long["words"] == 2000
    assert [row["messages"][1]["thinking"] for row in rows if row is not long] == [None] * 3
    trl = find_spec("trl")
    if not trl or not trl.origin:
        pytest.skip("TRL's copy of the template is not installed")
    template = (Path(trl.origin).parent / "chat_templates" / "gptoss.jinja").read_text("utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    rendered = environment.from_string(template).render(
        messages=long["messages"], strftime_now=lambda _format: "2025-01-01"
    )
    assert rendered.endswith(
        f"<|start|>assistant<|channel|>analysis<|message|>{PLAN_TEXT}<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{GOOD}<|return|>"
    )


@pytest.mark.parametrize("with_plan", [None, "think", "gpt-oss"])
def test_the_texts_of_a_writer_with_every_habit_become_clean_rows(
    with_plan: str | None, habitual_run: Path, tmp_path: Path
) -> None:
    limits = SftLimits(min_words=500, min_length_score=0)
    built = sft([habitual_run], tmp_path / "sft.jsonl", limits=limits, with_plan=with_plan)
    assert (built.texts, built.rejected.total()) == (4, 0)
    for row in rows_of(tmp_path):
        thinking, answer = split_thinking(row["messages"][1]["content"])
        for trace in ("think", "let me know", "word count", "sure!", "i'm sorry", "section_text"):
            assert trace not in answer.lower()
        assert bool(thinking) is (with_plan == "think")
        assert row["words"] == count_words(answer)


def test_a_plan_of_chapters_is_shown_with_them(tmp_path: Path) -> None:
    make(tmp_path, text_row("a", GOOD, **PLANNED, chapters=CHAPTERS), with_plan="think")
    answer = rows_of(tmp_path)[0]["messages"][1]["content"]
    chapter = "Chapter 1 - Main Point: Mud - Word Count: 2000 words"
    assert split_thinking(answer)[0] == f"{chapter}\n{PLAN_TEXT}"


def test_the_plan_counts_towards_the_sequence_length(tmp_path: Path) -> None:
    tokens = estimate_tokens("Write about a.") + estimate_tokens(GOOD)
    limits = SftLimits(sequence_len=tokens + 5)
    assert make(tmp_path, text_row("a", GOOD, **PLANNED), limits=limits).texts == 1
    options = {"limits": limits, "with_plan": "think"}
    assert make(tmp_path, text_row("a", GOOD, **PLANNED), **options).rejected == {"too_long": 1}


def test_an_unknown_thinking_format_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name one of think, thinking, magistral, kimi, gpt-oss"):
        make(tmp_path, text_row("a", GOOD), with_plan="deepthought")
