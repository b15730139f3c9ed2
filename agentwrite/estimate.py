"""What a run would call and cost: a rehearsal with the mock writer in place of the endpoint.

The rehearsal runs the real engine, so it knows what the engine knows: the context and what has to
be summarised, the prefixes that a server can cache, the calls that the store already has. It
assumes a writer that keeps to the length asked for and no retries. Tokens are counted as one for
every four characters (Chinese: 1.2), which is more than most tokenizers make.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentwrite.batch.instructions import check_instructions
from agentwrite.batch.run import shared_settings
from agentwrite.batch.run_dir import RunFolder
from agentwrite.errors import WriteError
from agentwrite.settings import Settings
from agentwrite.story.companion import companions
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.plan import Plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import ContextOverflowError, Reply, Store, run_async
from longwriter_core.llm.profiles import Prices, prices_of
from longwriter_core.mock_server.messages import MockRequest
from longwriter_core.mock_server.prefix_cache import PrefixCache
from longwriter_core.text.language import main_language

_USUAL_WORDS = 5_000  # of a text whose instruction names no length


@dataclass
class Estimate:
    """Estimated calls and tokens. The cost is None where a model has no list price."""

    texts: int = 0
    without_length: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompts', where the endpoint has a prefix cache
    completion_tokens: int = 0
    usd: float | None = 0.0  # without a prefix cache
    cached_usd: float | None = 0.0  # with one

    def add_call(self, prompt: int, cached: int, completion: int, prices: Prices | None) -> None:
        """Add a call with its tokens."""
        self.calls += 1
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.completion_tokens += completion
        for name, saved in (("usd", 0), ("cached_usd", cached)):
            before = getattr(self, name)
            known = before is not None and prices is not None
            after = before + prices.cost(prompt, completion, saved) if known and prices else None
            setattr(self, name, after)

    def add(self, other: "Estimate") -> None:
        """Add the estimate of other texts."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            setattr(self, name, None if own is None or value is None else own + value)


@dataclass
class Rehearsal:
    """A chat pool whose calls go to a mock writer; those that the store has are not counted."""

    store: Store
    context: int | None = None  # tokens, prompt and reply together
    estimate: Estimate = field(default_factory=Estimate)
    _prefixes: PrefixCache = field(default_factory=PrefixCache)

    async def stored(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that the store has, or None."""
        return await self.store.fetch(*keys)

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """The mock writer's reply. Raises ContextOverflowError as an endpoint would."""
        del key, affinity  # nothing is stored, and there is one endpoint
        mock = MockRequest("POST", "", {}, dict(request))
        prompt = estimate_tokens(mock.prompt)
        limit = request["max_tokens"]
        if self.context and prompt + limit > self.context:
            raise ContextOverflowError(f"about {prompt:,} tokens, {self.context:,} with the reply")
        text = mock.answer()
        cached = prompt * self._prefixes.look_up(mock.prompt) // max(1, len(mock.prompt))
        completion = estimate_tokens(text)
        self.estimate.add_call(prompt, cached, completion, prices_of(mock.model))
        return Reply(text, mock.model, "stop", None, prompt, completion)

    def give_up(self, why: str) -> None:
        """Nothing is called anyway."""


def estimate_text(
    instruction: Instruction,
    settings: Settings,
    store: Store,
    *,
    plan: Plan | None = None,
    seed: int | None = None,
    prompts: Prompts | None = None,
    only_plan: bool = False,
) -> Estimate:
    """Estimate one text, or its plan. Raises InputError if the context is too small for it."""
    assumed = instruction
    if not plan and not instruction.required:
        assumed = replace(instruction, required=_USUAL_WORDS)

    async def rehearse() -> Estimate:
        rehearsal = Rehearsal(store, settings.known_context)
        writer = Writer(
            rehearsal, settings, prompts=prompts, scope=settings.scope, seed=seed,
            companions=companions(settings),
        )  # fmt: skip
        if only_plan:
            await writer.plan(assumed)
        else:
            await writer.write(assumed, plan=plan)
        return rehearsal.estimate

    try:
        estimate = run_async(rehearse())
    except WriteError as error:
        raise InputError(f"the text cannot be written: {error}") from error
    estimate.texts = 1
    estimate.without_length = int(not plan and instruction.required is None)
    return estimate


def estimate_run(
    path: Path,
    output: Path,
    settings: Settings,
    *,
    limit: int | None = None,
    default_length: int | None = None,
    strict: bool = False,
) -> Estimate:
    """Estimate `run`. Makes no calls and writes no files. Raises InputError.

    Of several texts with the same required length and language, the first is rehearsed, unless the
    run folder holds calls of an earlier run.
    """
    file = check_instructions(path, limit, default_length, strict=strict)
    folder = RunFolder(output, shared_settings(settings)).look()
    folder.check_finished(file.hashes)
    prompts, total = Prompts.load(settings.prompts), Estimate()
    is_begun = any(folder.store.folder.rglob("*.json"))
    rehearsed: dict[tuple[int | None, str, int], Estimate] = {}
    for instruction in file:
        if instruction.id in folder.finished:
            continue
        text = instruction.instruction
        # similar sizes of the instruction, which is in every prompt
        kind = instruction.required, main_language(text), estimate_tokens(text).bit_length()
        known = None if is_begun else rehearsed.get(kind)
        if not known:
            known = estimate_text(instruction, settings, folder.store, prompts=prompts)
            rehearsed[kind] = known
        total.add(known)
    return total
