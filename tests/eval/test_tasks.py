"""The tasks as lm-eval builds them: every YAML file, its documents, and its errors."""

import importlib
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import lm_eval.tasks
import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from support.commands import lm_eval_arguments, run
from support.judging import JUDGE_ENVIRONMENT

from longwriter_core.errors import InputError
from longwriter_core.mock_server import MockReply, MockRequest
from longwriter_core.mock_server.server import JUDGE, WRITER, MockServer
from longwriter_eval.lm_eval_task.lm_eval_internals import CutText, note_cut_texts
from longwriter_eval.lm_eval_task.tasks import DemoTask, JudgedTask, LengthTask, RulerTask

pytestmark = [pytest.mark.lm_eval, pytest.mark.usefixtures("upstream")]

SOURCES = Path(__file__).parents[2] / "harness_tasks"
YAMLS = sorted(SOURCES.rglob("*.yaml"))
ROOTS = {
    "longbench_write": 120,
    "longbench_write_en": 60,
    "longbench_write_zh": 60,
    "longbench_write_length": 120,
    "longwrite_ruler": 48,
    "longwrite_demo": 12,
}


class Author(LM):  # type: ignore[misc]
    """Writes `text` to every prompt; `tokens` per word and a context, like a local backend."""

    def __init__(self, text: str, context: int = 10**6) -> None:
        super().__init__()
        self.text, self.max_length, self.tokenizer = text, context, object()
        self.prompts: list[str] = []

    def tok_encode(self, text: str) -> list[int]:
        return [0] * len(text.split())

    def generate_until(self, requests: Any, **_: Any) -> list[str]:
        self.prompts += [request.args[0] for request in requests]
        return [self.text] * len(requests)

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.fixture(autouse=True)
def _without_pip_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slow `pip list` that lm-eval runs for every evaluation if torch is installed."""
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda _: None)


def manager(**metadata: Any) -> TaskManager:
    """lm-eval's index of only our tasks, because the full index takes seconds."""
    return TaskManager(include_defaults=False, metadata=metadata)


def task_objects(*names: str) -> Any:
    """Tasks to evaluate several times, as this version of lm-eval loads them."""
    if hasattr(TaskManager, "load"):
        return manager().load(list(names))
    return lm_eval.tasks.get_task_dict(list(names), manager())  # 0.4.11


def evaluate(model: LM | str, *tasks: str, metadata: Any = None, **options: Any) -> Any:
    metadata = metadata or {}
    return simple_evaluate(
        model, tasks=list(tasks), task_manager=manager(**metadata), metadata=metadata, **options
    )


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockServer]:
    with MockServer() as server:
        monkeypatch.setenv("LONGWRITER_JUDGE_BASE_URL", server.base_url)
        for name, value in JUDGE_ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        yield server


def test_lm_eval_finds_the_tasks_without_include_path() -> None:
    assert set(ROOTS) <= set(TaskManager(include_defaults=False).all_tasks)


def test_a_users_own_task_overrides_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: longwrite_demo\ndataset_path: json\n")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    index: Any = getattr(manager, "task_index", None) or manager._task_index
    entry = index["longwrite_demo"]
    path = entry["yaml_path"] if isinstance(entry, dict) else entry.yaml_path
    assert Path(path).parent == tmp_path
    assert manager.include_path == str(tmp_path)


def test_the_task_yaml_files_are_found() -> None:
    assert len(YAMLS) > 10


@pytest.mark.parametrize(("root", "documents"), ROOTS.items())
def test_a_task_or_group_has_all_its_documents_once(root: str, documents: int) -> None:
    results = evaluate(Author("A b c."), root, predict_only=True, log_samples=True)
    rows = [row["doc"] for rows in results["samples"].values() for row in rows]
    assert len({row["id"] for row in rows}) == len(rows) == documents


def test_the_demo_covers_every_bucket_in_both_languages() -> None:
    task = DemoTask({"dataset_kwargs": {"benchmark": "longwrite_demo"}, **_yaml("longwrite_demo")})
    found = Counter((row["bucket"], row["language"]) for row in task.dataset["test"])
    assert Counter(language for _, language in found.elements()) == {"en": 6, "zh": 6}
    assert set(Counter(bucket for bucket, _ in found.elements()).values()) == {3}
    assert len(found) == 8


def _yaml(name: str) -> dict[str, Any]:
    (path,) = SOURCES.rglob(f"{name}.yaml")
    text = path.read_text(encoding="utf-8").replace("!function ", "")
    config: dict[str, Any] = yaml.safe_load(text)
    return {key: value for key, value in config.items() if key != "class"}


@pytest.mark.parametrize("group", sorted(SOURCES.rglob("_group.yaml")), ids=lambda p: p.parent.name)
def test_a_group_has_a_row_for_every_metric_of_its_tasks(group: Path) -> None:
    config = yaml.safe_load(group.read_text(encoding="utf-8"))
    kind: Any = RulerTask if config["group"] == "longwrite_ruler" else JudgedTask
    listed = [entry["metric"] for entry in config["aggregate_metric_list"]]
    assert sorted(listed) == sorted(kind.metrics)
    assert all(entry["weight_by_size"] for entry in config["aggregate_metric_list"])
    assert config["task"] == sorted(config["task"])  # lm-eval sorts rows by name


def test_generation_follows_the_published_protocol_and_does_not_stop_at_a_blank_line() -> None:
    for base in SOURCES.rglob("*_yaml"):
        text = base.read_text(encoding="utf-8").replace("!function ", "")
        assert yaml.safe_load(text)["generation_kwargs"] == {
            "until": [], "do_sample": True, "temperature": 0.5, "max_gen_toks": 32768,
        }  # fmt: skip


def test_length_tasks_need_no_judge_key_or_network() -> None:
    results = evaluate(Author("One two three."), "longbench_write_length", "longwrite_ruler")
    assert results["results"]["longbench_write_length"]["output_words,none"] == 3
    assert "quality_score,none" not in results["results"]["longbench_write_length"]
    assert set(LengthTask.metrics) >= {"length_score", "cut_off"}


def test_the_ruler_reports_the_longest_output_of_the_group() -> None:
    class Growing(Author):
        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            return ["word " * (i + 1) + "." for i in range(len(requests))]

    results = evaluate(Growing(""), "longwrite_ruler")["results"]
    assert results["longwrite_ruler"]["max_output_words,none"] == 48
    assert results["longwrite_ruler"]["output_words,none"] == pytest.approx(24.5)
    assert max(row["max_output_words,none"] for row in results.values()) == 48


def test_special_tokens_left_by_the_backend_are_not_counted() -> None:
    results = evaluate(Author("<|assistant|>\nOne two.<|user|>"), "longbench_write_length")
    assert results["results"]["longbench_write_length"]["output_words,none"] == 2


def test_stopping_at_the_token_limit_counts_as_cut_off() -> None:
    author, limits = Author("One two three four."), {"max_gen_toks": 4}
    results = evaluate(author, "longbench_write_length", gen_kwargs=limits)["results"]
    assert results["longbench_write_length"]["cut_off,none"] == 1


@pytest.mark.parametrize("concurrent", [1, 4])
def test_a_response_that_the_endpoint_says_was_cut_counts_as_cut_off(concurrent: int) -> None:
    def write(request: MockRequest) -> MockReply:
        is_long = "1" in request.prompt
        return MockReply(text="All is said.", finish_reason="length" if is_long else "stop")

    with MockServer(on_request=write) as server:
        arguments = f"model={WRITER},base_url={server.base_url}/chat/completions"
        arguments += f",num_concurrent={concurrent}"
        results = evaluate(
            "local-chat-completions", "longbench_write_length", model_args=arguments,
            apply_chat_template=True, limit=8, log_samples=True,
        )  # fmt: skip
    rows = results["samples"]["longbench_write_length"]
    expected = [float("1" in row["doc"]["prompt"]) for row in rows]
    assert [row["cut_off"] for row in rows] == expected
    assert set(expected) == {0, 1}
    assert all(type(text) is str for row in rows for text in row["resps"][0])


@pytest.mark.parametrize("name", ["LocalCompletionsAPI", "LocalChatCompletion"])
def test_only_texts_with_the_reason_length_are_marked_and_odd_replies_stay(name: str) -> None:
    module = importlib.import_module("lm_eval.models.openai_completions")
    note_cut_texts()
    note_cut_texts()
    model = object.__new__(getattr(module, name))
    model.think_end_token = None

    def choice(index: int, text: str | None, reason: str) -> dict[str, Any]:
        message = {"content": text}
        return {"index": index, "message": message, "text": text, "finish_reason": reason}

    choices = [choice(1, "b", "length"), choice(0, "a", "stop")]
    texts = model.parse_generations(outputs=[{"choices": choices}])
    assert texts == ["a", "b"]
    assert [isinstance(text, CutText) for text in texts] == [False, True]
    assert type(pickle.loads(pickle.dumps(texts[1]))) is str
    assert model.parse_generations(outputs={"choices": [choice(0, None, "length")]}) == [None]
    if name == "LocalChatCompletion":
        assert model.parse_generations(outputs={"error": "no"}) == [""]


@pytest.mark.parametrize("context", [32768, 32769, 2048], ids=["nothing", "one-token", "negative"])
def test_a_prompt_that_the_backend_would_cut_is_refused_before_generating(context: int) -> None:
    author = Author("x", context=context)
    with pytest.raises(InputError, match=r"max_gen_toks=\d+"):
        evaluate(author, "longbench_write_length")
    assert not author.prompts


def test_the_context_error_names_a_length_that_fits() -> None:
    with pytest.raises(InputError) as refused:
        evaluate(Author("x", context=2048), "longbench_write_length")
    fits = int(str(refused.value).rpartition("max_gen_toks=")[2].split(",")[0])
    evaluate(Author("x", context=2048), "longbench_write_length", gen_kwargs={"max_gen_toks": fits})


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        pytest.param({"judge_model": "no-such-model"}, "no-such-model", id="unknown-model"),
        pytest.param({"judge_base_url": "http://127.0.0.1:9/v1"}, "cannot be used", id="dead"),
        pytest.param({"judge_repeats": 0}, "judge_repeats must be", id="no-repeats"),
        pytest.param({"judge_prompt": "no/such/file"}, "no/such/file", id="no-prompt"),
        pytest.param({"judge_api_key": "sk-1"}, "LONGWRITER_JUDGE_API_KEY", id="key-in-metadata"),
    ],
)
@pytest.mark.usefixtures("judge")
def test_a_judge_that_cannot_be_used_stops_the_run_before_the_first_token(
    metadata: dict[str, Any], says: str
) -> None:
    author = Author("One.")
    with pytest.raises(InputError) as refused:
        evaluate(author, "longwrite_demo", metadata=metadata)
    assert says in str(refused.value)
    assert "sk-1" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not author.prompts


def test_metadata_wins_over_the_environment(judge: MockServer) -> None:
    metadata = {"judge_model": "another-judge", "judge_repeats": "2"}
    results = evaluate(Author("One."), "longwrite_demo", metadata=metadata)
    assert judge.stats().calls == {"another-judge": 1 + 2 * 12}
    recorded = results["configs"]["longwrite_demo"]["metadata"]["longwriter"]["judge"]
    assert (recorded["model"], recorded["repeats"]) == ("another-judge", 2)
    spreads = [row["doc"]["judgement"]["spread"] for row in results["samples"]["longwrite_demo"]]
    assert all(spread is not None for spread in spreads)


def test_all_tasks_of_a_run_are_judged_together(
    judge: MockServer, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(Author("One."), "longbench_write")
    assert judge.stats().calls == {JUDGE: 1 + 120}
    assert capsys.readouterr().err.count("120 verdicts by") == 1  # said once before each judging


def test_a_second_run_of_the_same_model_is_judged_again(judge: MockServer) -> None:
    author = Author("One.")
    first = evaluate(author, "longwrite_demo")
    author.text = "Two words."
    second = evaluate(author, "longwrite_demo")
    assert judge.stats().calls == {JUDGE: 2 * (1 + 12)}
    for results, words in ((first, 1), (second, 2)):
        assert results["results"]["longwrite_demo"]["output_words,none"] == words


def test_a_loop_over_checkpoints_may_use_the_same_task_objects(judge: MockServer) -> None:
    tasks = task_objects("longwrite_demo", "longbench_write_length")
    for words, author in ((1, Author("One.")), (2, Author("Two words.")), (2, Author("And two."))):
        results = lm_eval.evaluator.evaluate(author, tasks)["results"]
        for task in ("longwrite_demo", "longbench_write_length"):
            assert results[task]["output_words,none"] == words
        assert results["longwrite_demo"]["judge_coverage,none"] == 1
    assert judge.stats().calls == {JUDGE: 3 * (1 + 12)}


def test_a_task_can_be_evaluated_again_after_an_interrupted_evaluation(judge: MockServer) -> None:
    class Failing(Author):
        def generate_until(self, requests: Any, **options: Any) -> list[str]:
            if self.text:
                return super().generate_until(requests, **options)
            raise RuntimeError("out of memory")

    author, tasks = Failing(""), task_objects("longwrite_demo")
    with pytest.raises(RuntimeError):
        lm_eval.evaluator.evaluate(author, tasks)
    author.text = "One."
    results = lm_eval.evaluator.evaluate(author, tasks)["results"]["longwrite_demo"]
    assert results["judge_coverage,none"] == 1
    assert judge.stats().calls == {JUDGE: 1 + 12}


@pytest.mark.parametrize("repeats", [0, -1, "3", None, True])
def test_a_number_of_responses_that_makes_no_sense_is_refused(repeats: Any) -> None:
    config = {"dataset_kwargs": {"benchmark": "longwrite_demo"}, **_yaml("longwrite_demo")}
    with pytest.raises(InputError, match=r"repeats is .*, not a number from 1"):
        DemoTask({**config, "repeats": repeats})


def test_without_network_or_folder_a_one_line_error_names_both_solutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LONGWRITER_ASSETS", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError) as refused:
        evaluate(Author("x"), "longbench_write_length")
    for way_out in ("longwriter assets --fetch", "LONGWRITER_ASSETS"):
        assert way_out in str(refused.value)


@pytest.mark.slow
def test_lm_eval_lists_the_tasks_without_include_path() -> None:
    listed = run("lm_eval", "ls", "tasks").out
    names = {line.split("|")[1].strip() for line in listed.splitlines() if line.startswith("|")}
    assert set(ROOTS) <= names


def test_lm_eval_accepts_the_tasks() -> None:
    ended = run("lm_eval", "validate", "--tasks", ",".join(ROOTS))
    assert ended.code == 0, ended.out
    assert "valid" in ended.out


@pytest.mark.slow
def test_judged_and_unjudged_tasks_share_a_run(judge: MockServer, tmp_path: Path) -> None:
    arguments = lm_eval_arguments(
        judge, judge, tmp_path, "longwrite_demo,longbench_write_length", "--limit", "2"
    )
    ended = run("quick_lm_eval", *arguments)
    assert ended.code == 0, ended.out
    assert judge.stats().calls == {WRITER: 4, JUDGE: 3}
