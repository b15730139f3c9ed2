"""A real model end to end, on a CPU: plan, sections and text come through `transformers serve`.

The model is a tiny Llama that has learned the plan and the sections of one text by heart.
"""

from pathlib import Path
from typing import Any

import pytest
from support.model import WRITER, Model, is_plan, step_of
from support.serving import transformers_serve
from support.tiny_models import make_tiny_llama

from agentwrite.write import write_text

torch = pytest.importorskip("torch", reason="needs the hf extra")

INSTRUCTION = "Write 600 words about rain."
PLAN = """\
Paragraph 1 - Main Point: Clouds - Word Count: 300 words
Paragraph 2 - Main Point: Rivers - Word Count: 300 words"""
PROMPTS = {"plan": "Plan, 1 - Main Point: [ ]: $INST$", "write": "$INST$\n$PLAN$\n$TEXT$\n$STEP$"}
SECTIONS = ("Clouds gather over the hills.", "Then rivers carry the rain away.")


def by_heart(prompt: str) -> str:
    return PLAN if is_plan(prompt) else SECTIONS[step_of(prompt) - 1]


def learn(folder: Path, lessons: dict[str, str]) -> Path:
    """Train the tiny Llama until it says each answer to its prompt, and to hardly anything else."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_tiny_llama(folder, max_position_embeddings=4096)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    batch = []
    for prompt, answer in lessons.items():
        asked = [{"role": "user", "content": prompt}]
        start = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        end = tokenizer(f"{answer}<|eot_id|>", add_special_tokens=False)["input_ids"]
        ids = torch.tensor([start + end])
        batch.append((ids, torch.cat([torch.full((1, len(start)), -100), ids[:, len(start) :]], 1)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # more would wait for each other: the model is too small
    worst = 1.0
    for _ in range(600):
        losses = torch.stack([model(input_ids=ids, labels=labels).loss for ids, labels in batch])
        losses.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        worst = float(losses.detach().max())
        if worst < 0.01:
            break
    assert worst < 0.01
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_real_model_plans_and_writes(tmp_path: Path) -> None:
    for name, prompt in PROMPTS.items():
        (tmp_path / f"{name}.txt").write_text(prompt, encoding="utf-8")
    # hardly any chance, so that a model that knows its text by heart does not stray from it
    settings: dict[str, Any] = {"prompts": str(tmp_path), "temperature": 0.05}
    with Model(answer=by_heart) as teacher:
        write_text(INSTRUCTION, model=WRITER, base_url=teacher.base_url, **settings)
    lessons = {prompt: by_heart(prompt) for prompt in teacher.prompts}
    assert len(lessons) == 3
    model = learn(tmp_path / "model", lessons)
    with transformers_serve(model) as base_url:
        text = write_text(INSTRUCTION, model=str(model), base_url=base_url, **settings)
    assert text.text == "\n\n".join(SECTIONS)
    assert [step.words for step in text.plan.steps] == [300, 300]
    assert text.completion_tokens > 0
