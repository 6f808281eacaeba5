"""The command line: `python -m training train|export|evaluate|report|import-book`."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from training.book import import_book
from training.checkpoint import Checkpoint, plain_config
from training.device import choose_device
from training.errors import TrainingError
from training.evaluate import evaluate as evaluate_model
from training.evaluate import open_model, table
from training.export import PARITY_BATCH_SIZES, Precision, Provenance, set_provenance
from training.export import export as export_model
from training.report.log import read_log
from training.report.page import write_report
from training.tasks import TASKS, Split, Task
from training.train import current_commit
from training.train import train as train_model

app = typer.Typer(
    help="Train, evaluate and export the networks that the service answers with.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Option(help="The folder that holds the data set, or its folder `mnist` or `camvid`.")]


@app.command()
def train(  # noqa: PLR0917 -- typer makes options of them, given by name
    name: Annotated[str, typer.Argument(help=f"What to train: {', '.join(TASKS)}.")],
    data: Data,
    run: Annotated[Path | None, typer.Option(help="Where checkpoints and the log go.  [default: runs/NAME]")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, augmentation and dropout.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="The highest, instead of the recipe's.")] = None,
    initial: Annotated[
        Path | None, typer.Option("--init", help="A checkpoint whose weights to begin with, instead of random ones.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (CUDA when there is one), cuda or cpu.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set into --data first.")] = False,
) -> None:
    """Train a network, keeping the checkpoint that is best on validation."""
    task = _task(name)
    run = run or Path("runs", name)
    chosen = choose_device(device)
    if download:
        task.download(data)
    training, validation = task.load(data, "train"), task.load(data, "val")
    if (run / "last.pt").exists() and not resume:
        raise TrainingError(
            f"{run} already holds a training: go on with it with --resume, or choose another folder with --run"
        )
    typer.echo(f"{name}: {len(training):,} pictures to train on, {len(validation):,} to validate, on {chosen}")
    best = train_model(
        task,
        training,
        validation,
        run,
        chosen,
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        initial=_initial(initial, task),
        resume=resume,
    )
    typer.echo(f"best {task.metric} on validation: {best.best:.2%} after epoch {best.epoch}; {run / 'best.pt'}")


@app.command()
def export(  # noqa: PLR0917 -- the same
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, such as runs/digits/best.pt.")],
    data: Data,
    split: Annotated[str, typer.Option(help="The split whose score goes into the file: train, val or test.")] = "test",
    out: Annotated[Path, typer.Option(help="The folder that gets NAME.fp32.onnx and NAME.fp16.onnx.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="Instead of the task's name.")] = None,
    model_version: Annotated[str, typer.Option(help="The version that answers will name.")] = "1",
) -> None:
    """Write a checkpoint as the files that are served, in fp32 and fp16, and prove that they answer alike."""
    state = Checkpoint.load(checkpoint)
    task, model = state.restore()
    scored = task.load(data, _split(split))
    if len(scored) < max(PARITY_BATCH_SIZES):
        raise TrainingError(
            f"the split {split} has {len(scored)} pictures; at least {max(PARITY_BATCH_SIZES)} are needed"
        )
    pictures = scored[: max(PARITY_BATCH_SIZES)].images.numpy()
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        path = out / f"{name or task.name}.{precision}.onnx"
        unscored = path.with_name(path.name + ".part")  # the service loads whole files only, so none is shown to it
        try:
            export_model(task, model, precision, pictures, unscored, version=model_version, name=name)
            session, _, _ = open_model(unscored)
            scores = evaluate_model(session, task, scored)
            value = scores.values[task.metric]
            set_provenance(unscored, Provenance(task.dataset, split, task.metric, value, state.commit))
            unscored.replace(path)
        finally:
            unscored.unlink(missing_ok=True)
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB), {task.dataset} {split}\n{table(task, scores)}\n")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="An exported file, such as models/digits.fp32.onnx.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
) -> None:
    """Score an exported file: accuracy, or mean IoU with that of every class."""
    session, manifest, task = open_model(model)
    scored = task.load(data, _split(split))
    scores = evaluate_model(session, task, scored)
    typer.echo(f"{manifest['name']} {manifest['precision']}, {task.dataset} {split}\n{table(task, scores)}")


@app.command()
def report(
    model: Annotated[Path, typer.Argument(help="An exported file, such as models/digits.fp32.onnx.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    run: Annotated[Path | None, typer.Option(help="The training's folder, for its learning curves.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page goes.  [default: runs/report-NAME]")] = None,
) -> None:
    """Write a page that shows what an exported file gets right and wrong, with pictures of its worst answers."""
    session, manifest, task = open_model(model)
    chosen = _split(split)
    log = None if run is None else read_log(run, task.metric)
    out = out or Path("runs", f"report-{manifest['name']}")
    page, scores = write_report(session, manifest, task, task.load(data, chosen), split=split, out=out, log=log)
    typer.echo(f"{manifest['name']} {manifest['precision']}, {task.dataset} {split}\n{table(task, scores)}\n\n{page}")


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
        with torch.inference_mode():
            correct = sum(int((model(x.float() / 255).argmax(1) == y).sum()) for x, y in test.batches(500))
        typer.echo(f"{correct:,} of {len(test):,} correct")


def _initial(path: Path | None, task: Task) -> Checkpoint | None:
    if path is None:
        return None
    checkpoint = Checkpoint.load(path)
    trained, _ = checkpoint.restore()
    if trained.config != task.config:
        raise TrainingError(f"{path} is of {trained.name}, whose network is not that of {task.name}")
    return checkpoint


def _task(name: str) -> Task:
    if name not in TASKS:
        raise TrainingError(f"there is nothing to train called {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def _split(name: str) -> Split:
    if name in ("train", "val", "test"):
        return name  # type: ignore[return-value] # mypy does not narrow str to a Literal by `in`
    raise TrainingError(f"there is no split {name!r}; there are train, val and test")


def main() -> None:
    """Run the command line; errors that have an explanation are printed as one line."""
    try:
        app()
    except TrainingError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped; `--resume` goes on from the last finished epoch", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
