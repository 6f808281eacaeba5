"""The command line: `python -m training train|export|evaluate|report|seeds|ablate|import-book`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from training.ablation.tables import table as ablation_table
from training.ablation.trials import run as run_ablation
from training.book import import_book
from training.checkpoint import Checkpoint, plain_config
from training.checksums import refresh_sum
from training.data.labelled import LabelledImages
from training.device import choose_device
from training.errors import TrainingError
from training.evaluate import evaluate as evaluate_model
from training.evaluate import open_model, table
from training.export import PARITY_BATCH_SIZES, Precision, Provenance, set_provenance
from training.export import export as export_model
from training.models.deep_cnn import Ensemble
from training.report.log import read_log
from training.report.page import write_report
from training.seeds import best_on_validation, score_seeds
from training.seeds import table as seeds_table
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
    hold_out: Annotated[
        str | None,
        typer.Option(help="A sequence of the training split, such as 0001TP, to validate on."),
    ] = None,
    with_validation: Annotated[
        bool, typer.Option("--with-validation", help="Train on the validation split too, and validate nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Through torch.compile; needs a C++ compiler.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set into --data first.")] = False,
) -> None:
    """Train a network, keeping the checkpoint that is best on validation."""
    task = _task(name)
    run = run or Path("runs", name)
    chosen = choose_device(device)
    if download:
        task.download(data)
    training, validation = _splits(task, data, hold_out, with_validation=with_validation)
    if (run / "last.pt").exists() and not resume:
        raise TrainingError(
            f"{run} already holds a training: go on with it with --resume, or choose another folder with --run"
        )
    counts = f"{len(training):,} pictures to train on, {len(validation) if validation else 0:,} to validate"
    typer.echo(f"{name}: {counts}, on {chosen}")
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
        hold_out=hold_out,
        with_validation=with_validation,
        resume=resume,
        compiled=compiled,
    )
    if validation is None:
        typer.echo(f"trained for {best.epoch} epochs, not validated; {run / 'best.pt'}")
    else:
        typer.echo(f"best {task.metric} on validation: {best.best:.2%} after epoch {best.epoch}; {run / 'best.pt'}")


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
    task, model = _together(states, name)
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
            set_provenance(unscored, Provenance(task.name, task.dataset, split, task.metric, value, _commit(states)))
            unscored.replace(path)
            refresh_sum(path)
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
    row: Annotated[list[str] | None, typer.Option(help="The beginning of a row's name; may be given again.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of each recipe's.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, help="Train on the first so many alone.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where results go.  [default: runs/ablation-NAME]")] = None,
    device: Annotated[str, typer.Option(help="auto (CUDA when there is one), cuda or cpu.")] = "auto",
) -> None:
    """Train what differs in one part each, several times, and print the table; goes on where it was interrupted."""
    out = out or Path("runs", f"ablation-{name}")
    run_ablation(name, data, out, choose_device(device), only=row or (), epochs=epochs, pictures=pictures)
    text = ablation_table(name, out, data)
    (out / "table.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def _splits(
    task: Task, data: Path, hold_out: str | None, *, with_validation: bool
) -> tuple[LabelledImages, LabelledImages | None]:
    """What to train on, and what to validate on if anything."""
    if hold_out is not None and with_validation:
        raise TrainingError("--hold-out and --with-validation exclude each other")
    if hold_out is not None:
        if task.hold_out is None:
            raise TrainingError(f"{task.name} has no sequences that could be held out")
        return task.hold_out(data, hold_out)
    training, validation = task.load(data, "train"), task.load(data, "val")
    return (training + validation, None) if with_validation else (training, validation)


def _together(states: list[Checkpoint], name: str | None) -> tuple[Task, nn.Module]:
    """The network of a checkpoint, or the ensemble of those of several, and the task it is exported as."""
    restored = [state.restore() for state in states]
    task, model = restored[0]
    if len(restored) == 1:
        return task, model
    if any(other.name != task.name for other, _ in restored) or task.kind != "classification":
        raise TrainingError("only classifiers of one task can answer together")
    if name is None:
        raise TrainingError(f"an ensemble is not {task.name!r} itself: give it a name with --name")
    return replace(task, finish=lambda model: model), Ensemble(task.finish(member) for _, member in restored)


def _commit(states: list[Checkpoint]) -> str:
    """The commit that all were trained at, or those that they were."""
    return ", ".join(dict.fromkeys(state.commit for state in states))


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
