"""What the studio refuses: bad requests, too many words, other sites; and what it gives out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.model import (
    INSTRUCTION,
    PLAN,
    Model,
    by_plan,
    is_plan,
    section,
    step_of,
)
from support.studio import Client, use_prices, using

from longwriter_core.local_server import Access

# What may be asked for


BAD: list[tuple[Any, str]] = [
    ({}, "instruction"),
    ({"instruction": "  "}, "empty"),
    ({"instruction": 5}, "instruction"),
    ({"instruction": "Write.", "words": 0}, "words"),
    ({"instruction": "Write.", "words": True}, "words"),
    ({"instruction": "Write.", "wrods": 5}, "wrods"),
    ({"instruction": "Write.", "steps": [{"main_point": "", "words": 5}]}, "steps.0.main_point"),
    ({"instruction": "Write.", "steps": [{"main_point": " ", "words": 5}]}, "steps.0.main_point"),
    ({"instruction": "Write.", "steps": [{"main_point": "a", "words": 5000}]}, "steps.0.words"),
    ({"instruction": "Write.", "words": 6000}, "--max-words"),
    ({"instruction": "Write 6,000 words."}, "--max-words"),
    ({"instruction": "Write.", "steps": [{"main_point": "a", "words": 2000}] * 3}, "--max-words"),
    ({"instruction": "Write.", "steps": []}, "steps"),
    ({"instruction": "Write.", "steps": [{"main_point": "a", "words": 1}] * 251}, "at most 250"),
    ([], "the body"),
]


def test_bad_requests_are_refused_before_anything_is_made_or_paid(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        return [await client.send("POST", "books", body) for body, _ in BAD]

    with Model(answer=by_plan) as model:
        answers = using(model, tmp_path, use, max_words=5000)
        assert model.prompts == []
    for (body, named), (status, answer) in zip(BAD, answers, strict=True):
        assert (status, named in answer["error"]["message"]) == (400, True), body
    assert list(tmp_path.glob("*.book")) == []


def test_no_way_leads_over_the_limit_of_words(tmp_path: Path) -> None:
    """A plan that the model made too long, and one that was edited to be so."""

    async def use(client: Client) -> Any:
        name = (await client.planned("Write about a harbour."))["name"]
        started = await client.send("POST", f"books/{name}/start", {})
        steps = [{"main_point": "a", "words": 2000}]
        edited = await client.send("POST", f"books/{name}/plan", {"steps": steps})
        return started, edited

    with Model(answer=lambda prompt: PLAN.format(400) if is_plan(prompt) else "Mud.") as model:
        answers = using(model, tmp_path, use, max_words=1500)
        assert len(model.prompts) == 1
    assert [status for status, _ in answers] == [400, 400]
    assert all("at most 1,500" in answer["error"]["message"] for _, answer in answers)


def test_no_call_is_made_that_could_exceed_the_cost_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_prices(tmp_path, monkeypatch)
    settings = {"max_cost": 0.3, "max_tokens": 1000}  # a reply alone could cost 0.4

    async def use(client: Client) -> Any:
        name = (await client.post("books", {"instruction": INSTRUCTION}))["name"]
        return await client.until(name, lambda book: book["error"])

    with Model(answer=by_plan) as model:
        book = using(model, tmp_path, use, settings=settings)
        assert model.prompts == []
    assert "--max-cost $0.30" in book["error"]
    assert book["state"] == "new"


def test_the_plan_of_a_begun_text_is_not_replaced(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        book = await client.written()
        path = f"books/{book['name']}"
        changed = await client.send("POST", f"{path}/plan", {"steps": book["steps"][:1]})
        again = await client.send("POST", f"{path}/start", {})
        missing = await client.send("POST", f"{path}/rewrite", {"sections": [5], "note": "a"})
        return changed, again, missing

    with Model(answer=by_plan) as model:
        answers = using(model, tmp_path, use)
        assert len(model.prompts) == 5
    assert [status for status, _ in answers] == [400, 400, 400]


def test_hostile_plans_and_rewrites_are_refused_at_once(tmp_path: Path) -> None:
    one_word = [{"main_point": "a", "words": 1}]
    plans: list[Any] = [[], one_word * 251, one_word * 3000]
    rewrites: list[tuple[list[int], str]] = [
        ([-3_000_000], "a"), ([0], "a"), ([5], "a"), ([1, 10**12], "a"), ([1], "a" * 10_001),
    ]  # fmt: skip

    async def use(client: Client) -> Any:
        path = f"books/{(await client.planned())['name']}"
        answers = [await client.send("POST", f"{path}/plan", {"steps": plan}) for plan in plans]
        await client.post(f"{path}/start")
        await client.until(path.removeprefix("books/"), "done")
        for sections, note in rewrites:
            body = {"sections": sections, "note": note, "repair": True}
            answers.append(await client.send("POST", f"{path}/rewrite", body))
        return answers

    with Model(answer=by_plan) as model:
        answers = using(model, tmp_path, use, max_words=5000)
        assert len(model.prompts) == 5
    assert [status for status, _ in answers] == [400] * (len(plans) + len(rewrites))


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "secret.book").mkdir()
    (tmp_path / "secret.book" / "book.json").write_text("{}")

    async def use(client: Client) -> Any:
        names = ["..%2Fsecret", "%2e%2e%2fsecret", "secret", "..", ".", "%00", "a%2Fb"]
        statuses = [(await client.send("GET", f"books/{name}"))[0] for name in names[:3]]
        made = await client.post("books", {"instruction": "../../etc/passwd 写一篇"})
        return statuses, made["name"]

    with Model(answer=by_plan) as model:
        statuses, name = using(model, tmp_path / "books", use)
    assert statuses == [404, 404, 404]
    assert name == "etc-passwd-写一篇"


# Only who may


EVERYTHING = [
    ("GET", "info"), ("GET", "books"), ("POST", "books"), ("GET", "books/a"),
    ("POST", "books/a/plan"), ("POST", "books/a/start"), ("POST", "books/a/stop"),
    ("POST", "books/a/rewrite"), ("GET", "books/a/events"), ("GET", "books/a/text.md"),
]  # fmt: skip


def test_every_path_but_the_page_needs_the_key(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        asked = [await client.send(method, path, {}) for method, path in EVERYTHING]
        url = client.server.url
        async with client.session.get(f"{url}/") as page:
            return [status for status, _ in asked], page.status, dict(page.headers)

    with Model() as model:
        statuses, page, headers = using(model, tmp_path, use, key="a-key-of-this-server")
        assert model.history == []
    assert set(statuses) == {401}
    assert page == 200
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


FOREIGN = [
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "http://[x"}, 403),
    ({"Origin": "\udcff"}, 403),
    ({"Host": "evil.example"}, 403),
    ({"Content_Type": "text/plain"}, 400),
    ({"Content_Type": "application/x-www-form-urlencoded"}, 400),
]


def test_another_site_cannot_spend(tmp_path: Path) -> None:
    async def use(client: Client) -> Any:
        body = {"instruction": INSTRUCTION}
        return [await client.send("POST", "books", body, **headers) for headers, _ in FOREIGN]

    with Model(answer=by_plan) as model:
        answers = using(model, tmp_path, use)
        assert model.prompts == []
    assert [status for status, _ in answers] == [status for _, status in FOREIGN]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer \udcff"}, 401),
        ({"Authorization": "Bearer a-key", "Origin": "\udcff"}, 200),
        ({"Origin": "https://a.example", "Access_Control_Request_Headers": "\udcff"}, 401),
    ],
)
def test_headers_of_other_bytes_are_answered(headers: dict[str, str], status: int) -> None:
    access = Access("127.0.0.1", "a-key", origins=["*"])
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    every = {"Host": "localhost", **sent}
    request: Any = SimpleNamespace(method="GET", path="/studio/info", headers=every)
    refusal = access.refusal(request)
    assert (refusal.status if refusal else 200) == status
    for value in access.cors(request).values():
        value.encode()  # an answer with other headers could not be sent


# Downloads


def test_a_text_is_offered_in_the_formats_that_can_be_made(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=alert(1)>"

    async def use(client: Client) -> Any:
        book = await client.written(title="B<i>ay")
        info = await client.get("info")
        files = {}
        for format in ["md", "html", "exe", *info["formats"]]:
            url = f"{client.server.url}/studio/books/{book['name']}/text.{format}"
            async with client.session.get(url) as answer:
                files[format] = (answer.status, await answer.read(), dict(answer.headers))
        return book, info, files

    def answer(prompt: str) -> str:
        return by_plan(prompt) if is_plan(prompt) else f"{section(step_of(prompt))} {hostile}"

    with Model(answer=answer) as model:
        book, info, files = using(model, tmp_path, use)
    assert {"md", "html"} <= set(info["formats"])
    assert files["exe"][0] == 404
    assert files["md"][1] == (tmp_path / f"{book['name']}.md").read_bytes()
    page = files["html"][1].decode()
    assert "<title>B&lt;i&gt;ay</title>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1))" in page
    assert not {tag for tag in ("<script", "<img", "<a ") if tag in page}
    for name in info["formats"]:
        assert files[name][2]["Content-Disposition"].startswith("attachment")
        assert files[name][2]["X-Content-Type-Options"] == "nosniff"
