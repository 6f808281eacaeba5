"""The command line: `python -m training train|average|export|evaluate|report|seeds|ablate|import-book`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from training.ablation.tables import table as ablation_table
from training.ablation.trials import Shortening
from training.ablation.trials import run as run_ablation
from training.average import average_weights
from training.book import count_correct, import_book
from training.checkpoint import Checkpoint, plain_config
from training.commit import current_commit
from training.data.labelled import Split
from training.device import choose_device
from training.errors import TrainingError
from training.evaluate import Scores, open_model, saw, table
from training.evaluate import evaluate as evaluate_model
from training.publish import publish
from training.registry import TASKS
from training.report.log import read_log
from training.report.page import write_report
from training.seeds import best_on_validation, score_seeds
from training.seeds import table as seeds_table
from training.splits import training_and_validation
from training.tasks import Task
from training.train import train as train_model

app = typer.Typer(
    help="Train, evaluate and export the networks that the service answers with.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Option(help="The folder that holds the data set, or its folder `mnist` or `camvid`.")]


@app.command()
def download(
    name: Annotated[str, typer.Argument(help=f"Of which task: {', '.join(TASKS)}.")],
    data: Annotated[Path, typer.Option(help="The folder that gets the data set.")],
) -> None:
    """Fetch the data set that a network is trained and scored on; what is there and right is left."""
    _task(name).download(data)
    typer.echo(f"{_task(name).dataset} is in {data}")


@app.command()
def train(  # noqa: PLR0917 -- typer makes options of them, given by name
    name: Annotated[str, typer.Argument(help=f"What to train: {', '.join(TASKS)}.")],
    data: Data,
    run: Annotated[
        Path | None, typer.Option(help="Where checkpoints and the log go.", show_default="runs/NAME")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, order, augmentation and dropout.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="The highest, instead of the recipe's.")] = None,
    initial: Annotated[
        Path | None,
        typer.Option("--init", help="A checkpoint whose weights to begin with, in the recipe's last stage."),
    ] = None,
    swa: Annotated[
        bool,
        typer.Option(
            "--swa", help="Keep the learning rate at its highest, and the mean of the last two thirds' weights."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto (CUDA when there is one), cuda or cpu.")] = "auto",
    hold_out: Annotated[
        str | None,
        typer.Option(help="A sequence of the training split, such as 0001TP, to validate on."),
    ] = None,
    with_validation: Annotated[
        bool, typer.Option("--with-validation", help="Train on the validation split too, and validate nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Through torch.compile; needs a C++ compiler.")] = False,
    download_first: Annotated[bool, typer.Option("--download", help="Fetch the data set into --data first.")] = False,
) -> None:
    """Train a network, keeping the checkpoint that is best on validation."""
    task = _task(name)
    run = run or Path("runs", name)
    chosen = choose_device(device)
    if download_first:
        task.download(data)
    training, validation = training_and_validation(task, data, hold_out=hold_out, with_validation=with_validation)
    if (run / "last.pt").exists() and not resume:
        raise TrainingError(
            f"{run} already holds a training: go on with it with --resume, or choose another folder with --run"
        )
    if resume and not (run / "last.pt").exists():
        raise TrainingError(
            f"there is nothing to resume in {run}: leave --resume out, or name the right folder with --run"
        )
    began = None if initial is None else Checkpoint.load_initial(initial, task)
    counts = f"{len(training):,} pictures to train on, {len(validation) if validation else 0:,} to validate"
    typer.echo(f"{name}: {counts}, on {chosen.suited_to(task.recipe)}")
    try:
        best = train_model(
            task,
            training,
            validation,
            run,
            chosen,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            initial=began,
            swa=swa,
            hold_out=hold_out,
            with_validation=with_validation,
            resume=resume,
            compiled=compiled,
        )
    except KeyboardInterrupt:
        finished = (run / "last.pt").exists()
        hint = "`--resume` goes on from the last finished epoch" if finished else "no epoch was finished: begin again"
        typer.echo(f"stopped; {hint}", err=True)
        raise typer.Exit(130) from None
    if validation is None:
        typer.echo(f"trained for {best.epoch} epochs, not validated; {run / 'best.pt'}")
    else:
        seen = began is not None and began.saw_validation_of(task) and hold_out is None
        note = ", on pictures that the weights it began with were trained on" if seen else ""
        figure = f"best {task.metric} on validation: {best.best:.2%} after epoch {best.epoch}{note}"
        typer.echo(f"{figure}; {run / 'best.pt'}")


@app.command()
def average(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Two or more, trained from the same weights with --init; those may be one of them."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    device: Annotated[str, typer.Option(help="auto (CUDA when there is one), cuda or cpu.")] = "auto",
) -> None:
    """Make one network of several: the mean of their weights, which costs no more to serve than one of them."""
    if out.is_dir():
        raise TrainingError(f"{out} is a folder: name the checkpoint that is to be written, such as {out / 'mean.pt'}")
    states = [Checkpoint.load(path) for path in checkpoints]
    average_weights(states, data, choose_device(device)).save(out)
    typer.echo(f"wrote {out}")


@app.command()
def export(  # noqa: PLR0917 -- the same
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="A checkpoint, such as runs/digits/best.pt; several classifiers answer their mean."),
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="The split whose score goes into the file: train, val or test.")] = "test",
    out: Annotated[Path, typer.Option(help="The folder that gets NAME.fp32.onnx and NAME.fp16.onnx.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="Instead of the task's name.")] = None,
    model_version: Annotated[str, typer.Option(help="The version that answers will name.")] = "1",
) -> None:
    """Write checkpoints as the files that are served, in fp32 and fp16, and prove that they answer alike."""
    states = [Checkpoint.load(path) for path in checkpoints]
    for made in publish(states, data, _split(split), out, name=name, version=model_version):
        size = made.path.stat().st_size / 1e6
        typer.echo(f"{made.path} ({size:.1f} MB), {made.task.dataset} {split}\n{table(made.task, made.scores)}\n")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="An exported file, such as models/digits.fp32.onnx.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
) -> None:
    """Score an exported file: accuracy, or mean IoU with that of every class."""
    session, manifest, task = open_model(model)
    chosen = _split(split)
    scores = evaluate_model(session, task, task.load(data, chosen))
    typer.echo(_scored(manifest, task, chosen, scores))


@app.command()
def report(
    model: Annotated[Path, typer.Argument(help="An exported file, such as models/digits.fp32.onnx.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    run: Annotated[Path | None, typer.Option(help="The training's folder, for its learning curves.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page goes.", show_default="runs/report-NAME")] = None,
) -> None:
    """Write a page that shows what an exported file gets right and wrong, with pictures of its worst answers."""
    session, manifest, task = open_model(model)
    chosen = _split(split)
    log = None if run is None else read_log(run, task.metric)
    out = out or Path("runs", f"report-{manifest['name']}")
    page, scores = write_report(session, manifest, task, task.load(data, chosen), split=chosen, out=out, log=log)
    typer.echo(f"{_scored(manifest, task, chosen, scores)}\n\n{page}")


@app.command("import-book")
def import_book_command(
    weights: Annotated[Path, typer.Argument(help="deep_convnet_params.pkl of the book's chapter 8.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")] = Path("runs/book/best.pt"),
    data: Annotated[Path | None, typer.Option(help="With MNIST in it, the test digits are scored.")] = None,
) -> None:
    """Put the published weights of *Deep Learning from Scratch* into the chapter's layers."""
    task, model = TASKS["book"], import_book(weights)
    Checkpoint("book", plain_config(task), 0, 0, 0, model.state_dict(), commit=current_commit()).save(out)
    typer.echo(f"wrote {out}")
    if data is not None:
        test = task.load(data, "test")
        typer.echo(f"{count_correct(model, test):,} of {len(test):,} correct")


@app.command()
def seeds(
    checkpoints: Annotated[list[Path], typer.Argument(help="Such as runs/digits-*/last.pt: of several seeds.")],
    data: Data,
    split: Annotated[str, typer.Option(help="What to report: train, val or test.")] = "test",
    keep: Annotated[Path | None, typer.Option(help="Copy the one that is best on validation to this file.")] = None,
) -> None:
    """Score the exported networks of several seeds: mean, spread, and which is best on validation."""
    scores = score_seeds(checkpoints, data, _split(split))
    task, _ = Checkpoint.load(checkpoints[0]).restore()
    typer.echo(seeds_table(scores, task.metric, split))
    if keep is not None:
        Checkpoint.load(best_on_validation(scores).checkpoint).weights_only().save(keep)
        typer.echo(f"kept {keep}")


@app.command()
def ablate(  # noqa: PLR0917 -- the same
    name: Annotated[str, typer.Argument(help="digits or streets.")],
    data: Data,
    row: Annotated[list[str] | None, typer.Option(help="A row's name, or its beginning; may be given again.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of each recipe's.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Train on the first so many alone.")] = None,
    half_size: Annotated[
        bool, typer.Option("--half-size", help="Streets at half their height and width: four times as fast.")
    ] = False,
    part: Annotated[
        list[str] | None, typer.Option(help="A seed, or a sequence held out, instead of all; may be given again.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go.", show_default="runs/ablation-NAME")] = None,
    device: Annotated[str, typer.Option(help="auto (CUDA when there is one), cuda or cpu.")] = "auto",
) -> None:
    """Train what differs in one part each, several times, and print the table; goes on where it was interrupted."""
    out = out or Path("runs", f"ablation-{name}")
    shortening = Shortening(epochs, pictures, half_size)
    run_ablation(name, data, out, choose_device(device), only=row or (), parts=part or (), shortening=shortening)
    text = ablation_table(name, out, data)
    (out / "table.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def _task(name: str) -> Task:
    if name not in TASKS:
        raise TrainingError(f"there is nothing to train called {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def _scored(manifest: dict[str, Any], task: Task, split: Split, scores: Scores) -> str:
    seen = "It was trained on these pictures, so this is not how it does on others.\n" if saw(manifest, split) else ""
    return f"{manifest['name']} {manifest['precision']}, {task.dataset} {split}\n{seen}{table(task, scores)}"


def _split(name: str) -> Split:
    if name in ("train", "val", "test"):
        return name  # type: ignore[return-value] # mypy does not narrow str to a Literal by `in`
    raise TrainingError(f"there is no split {name!r}; there are train, val and test")


def main() -> None:
    """Run the command line; errors that have an explanation are printed as one line."""
    try:
        app()
    except (TrainingError, OSError) as error:  # a full disk, a folder that cannot be written
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
