"""Plan and write one text from one instruction.

from agentwrite import write_text

text = write_text("Write a 20,000-word history of lighthouses.", model="gpt-4o-2024-11-20")
print(text.words, text.text)
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from agentwrite.settings import Settings
from agentwrite.story.companion import companions
from agentwrite.writing.plan import Plan
from agentwrite.writing.state import Instruction, Section, Text
from agentwrite.writing.writer import Progress, Writer
from longwriter_core.llm import Store, Usage, run_async
from longwriter_core.text.required_length import required_length

_T = TypeVar("_T")


def write_text(
    instruction: str,
    *,
    model: str,
    base_url: str | Sequence[str] | None = None,
    length: int | None = None,
    progress: Progress | None = None,
    plan: Plan | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    seed: int | None = None,
    usage: Callable[[Usage], None] | None = None,
    **settings: object,
) -> Text:
    """Write one long text.

    length     required length in words; defaults to the length named in the instruction; if
               it names no length, the plan decides
    progress   called with each finished section and the plan
    plan       the plan to write; by default the model makes one
    on_plan    called with the plan before the first section is written
    seed       each seed gives another text; None is a variant of its own
    usage      called once at the start with a Usage object that is updated with every call;
               stored calls are not counted
    settings   further fields of Settings

    The API key is read from AGENTWRITE_API_KEY, else from OPENAI_API_KEY. Every finished call is
    stored, so calling this function again after an interruption only makes the missing calls.
    Raises WriteError with a reason, and InputError for invalid settings.
    """
    chosen = Settings.resolve(model=model, base_urls=base_url, **settings)
    required = length or (None if plan else required_length(instruction))
    to_write = Instruction("", instruction, required)

    async def write(writer: Writer) -> Text:
        return await writer.write(to_write, progress, plan=plan, on_plan=on_plan)

    return _with_writer(chosen, seed, usage, write)


def plan_text(
    instruction: str, settings: Settings, *, length: int | None = None, seed: int | None = None
) -> Plan:
    """Plan a text without writing it. Raises WriteError."""
    to_plan = Instruction("", instruction, length or required_length(instruction))
    return _with_writer(settings, seed, None, lambda writer: writer.plan(to_plan))


def rewrite_sections(
    instruction: str,
    plan: Plan,
    sections: Sequence[str],
    notes: Mapping[int, str],
    settings: Settings,
    *,
    bias: float = 1.0,
    seed: int | None = None,
    done: Callable[[Section], None],
) -> None:
    """Rewrite sections in order. `notes` maps a section's number to the note to follow.

    Each prompt shows the earlier sections, including those already rewritten, and requests the
    planned words divided by `bias`. `done` is called with each finished section. Raises WriteError.
    """
    to_rewrite = Instruction("", instruction, plan.words)

    async def rewrite(writer: Writer) -> None:
        texts = list(sections)
        for number in sorted(notes):
            section = await writer.rewrite(
                to_rewrite, plan, texts, number, notes[number], bias=bias
            )
            texts[number - 1] = section.text
            done(section)

    _with_writer(settings, seed, None, rewrite)


def _with_writer(
    settings: Settings,
    seed: int | None,
    usage: Callable[[Usage], None] | None,
    work: "Callable[[Writer], Awaitable[_T]]",
) -> _T:
    async def run() -> _T:
        store = Store()
        store.check()
        async with settings.chat(store) as chat:
            writer = Writer(
                chat, settings, scope=settings.scope, seed=seed, companions=companions(settings)
            )
            if usage:
                usage(chat.usage)
            return await work(writer)

    return run_async(run())
