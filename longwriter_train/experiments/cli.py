"""`longwriter experiment`: the paper's own analyses, on a tiny model or on a real one."""

from pathlib import Path
from typing import Annotated

import typer

from longwriter_core.command import new_app

app = new_app("Repeat the paper's analyses, on a tiny model or on a real one.")

Model = Annotated[
    str | None,
    typer.Option(help="chat model on the hub or in a folder; by default a tiny one, for a CPU"),
]
Data = Annotated[
    Path | None, typer.Option(help="SFT rows (JSONL) to train --model on, with long outputs")
]
Lengths = Annotated[
    str | None, typer.Option(help="required lengths to ask for, in words, with commas between them")
]
Samples = Annotated[int, typer.Option(min=1, help="answers for each prompt")]
MaxTokens = Annotated[int, typer.Option(min=16, help="tokens of a row, and of an answer, at most")]
Steps = Annotated[int, typer.Option(min=1, help="training steps")]
BatchSize = Annotated[int, typer.Option(min=1, help="rows in a step")]
LearningRate = Annotated[float, typer.Option(min=0, help="highest learning rate")]
Seed = Annotated[int, typer.Option(help="seed of the order of the rows and of the sampling")]

TINY_LENGTHS = (10, 20, 40, 80, 160)  # words


@app.callback()
def _experiment() -> None:
    """Repeat the paper's analyses, on a tiny model or on a real one."""


@app.command("output-length")
def output_length(
    model: Model = None,
    data: Data = None,
    caps: Annotated[
        str, typer.Option(help="longest outputs of the SFT sets, in words, with commas between")
    ] = "10,20,40,80,160",
    lengths: Lengths = None,
    samples: Samples = 4,
    max_tokens: MaxTokens = 700,
    steps: Steps = 150,
    batch_size: BatchSize = 10,
    learning_rate: LearningRate = 3e-3,
    seed: Seed = 42,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")] = Path(
        "runs/output-length"
    ),
) -> None:
    """Show that output length follows the longest SFT output (section 2 of the paper).

    Trains one model for each of --caps on an SFT set without longer outputs, and asks it for texts
    of rising length. By default with a tiny model and data, in about a minute on a CPU. A real
    --model is trained in full on one GPU; its prompts are those of LongWrite-Ruler. Rerun the same
    command to resume.
    """
    from longwriter_train.experiments import output_length as experiment
    from longwriter_train.experiments.training import Source, Training, numbers

    wanted = numbers(caps, "--caps")
    source = Source.of(model, data)
    asked = numbers(lengths, "--lengths") if lengths else source.default_lengths(wanted)
    task = experiment.Task(wanted, asked, samples, max_tokens)
    training = Training(steps, batch_size, learning_rate, seed, max_tokens)
    print(experiment.run(source, task, training, output, _progress))


@app.command("loss-average")
def loss_average(
    model: Model = None,
    data: Data = None,
    lengths: Lengths = None,
    samples: Samples = 2,
    seeds: Annotated[
        str, typer.Option(help="one model is trained for each seed, with commas between them")
    ] = "1,2,3",
    max_tokens: MaxTokens = 170,
    steps: Steps = 120,
    batch_size: BatchSize = 31,
    learning_rate: LearningRate = 3e-3,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")] = Path(
        "runs/loss-average"
    ),
) -> None:
    """Compare the loss averaged by token, by sequence and as upstream does (section 4.1).

    Trains the same model on the same data with the same seeds, and measures length and quality of
    its answers by required length. Quality is the share of right words in the tiny task; real
    models are saved, and the command prints the lm_eval lines that score them. Rerun the same
    command to resume.
    """
    from longwriter_train.experiments import loss_average as experiment
    from longwriter_train.experiments.training import Source, Training, numbers

    source = Source.of(model, data)
    asked = numbers(lengths, "--lengths") if lengths else source.default_lengths(TINY_LENGTHS)
    task = experiment.Task(asked, samples, max_tokens, numbers(seeds, "--seeds"))
    training = Training(steps, batch_size, learning_rate, task.seeds[0], max_tokens)
    print(experiment.run(source, task, training, output, _progress))


@app.command()
def nll(
    model: Annotated[
        str | None,
        typer.Option(help="model on the hub or in a folder; by default a tiny one, for a CPU"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="SFT rows (JSONL) whose answers are the texts")
    ] = None,
    texts: Annotated[int, typer.Option(min=2, help="number of texts at most")] = 100,
    tokens: Annotated[
        int, typer.Option(min=4, help="tokens read of each text; shorter texts are left out")
    ] = 128,
    segment: Annotated[int, typer.Option(min=1, help="tokens of a segment in the controls")] = 16,
    seed: Seed = 42,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the results")] = Path(
        "runs/nll"
    ),
) -> None:
    """Show whether the later parts of long outputs depend on the earlier ones.

    Prints the cumulative mean NLL by position under --model, for the texts and for two controls of
    the same tokens: segments after segments of other texts, and segments in a random order. The
    paper takes about 100 outputs of at least 8,192 tokens. Without --model and --data, a tiny model
    is trained on texts of its own first.
    """
    from longwriter_train.experiments import nll as experiment
    from longwriter_train.experiments.training import Source

    source = Source.of(model, data)
    task = experiment.Task(texts, tokens, segment, seed)
    print(experiment.run(source.name, source.rows, task, output))


def _progress(part: str, step: int, loss: float) -> None:
    if step == 1 or step % 50 == 0:
        typer.echo(f"{part}: step {step}, loss {loss:.3f}", err=True)
