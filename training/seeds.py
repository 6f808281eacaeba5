"""One recipe, several seeds: mean and spread of what the exported files score, and which of them to serve.

A single run's score is luck as well: on MNIST's 10,000 test digits its standard error is about 0.06 points. So the
mean over seeds is what is said of a recipe, at the final epoch, and the one that is served is chosen on pictures that
are neither trained on nor published.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.checkpoint import Checkpoint
from training.data.labelled import Split
from training.errors import TrainingError
from training.evaluate import evaluate, open_model
from training.export import PARITY_BATCH_SIZES, export


@dataclass(frozen=True)
class SeedScore:
    """What the network of one checkpoint scores (0…1), exported in float32."""

    checkpoint: Path
    seed: int
    validation: float
    value: float


def score_seeds(checkpoints: Sequence[Path], data: Path, split: Split) -> list[SeedScore]:
    """Export each checkpoint into a temporary file and score that on validation and on `split`, in the given order.

    Raises:
        TrainingError: when they are not of one task and recipe, two are of one seed, one is not of a training's end or
            was trained on the validation split, or `split` has fewer than 8 pictures.
    """
    states = [Checkpoint.load(path) for path in checkpoints]
    if len({state.task for state in states}) != 1 or len({state.seed for state in states}) != len(states):
        raise TrainingError("checkpoints of one task and of different seeds are expected")
    _check_comparable(checkpoints, states)
    task, _ = states[0].restore()
    validation, scored = task.load(data, "val"), task.load(data, split)
    pictures = scored[: max(PARITY_BATCH_SIZES)].images.numpy()
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        for path, state in zip(checkpoints, states, strict=True):
            exported = Path(folder, f"{state.seed}.onnx")
            export(task, state.restore()[1], "fp32", pictures, exported, version="0")
            session, _, _ = open_model(exported)
            values = [evaluate(session, task, part).values[task.metric] for part in (validation, scored)]
            scores.append(SeedScore(path, state.seed, *values))
    return scores


def _check_comparable(paths: Sequence[Path], states: Sequence[Checkpoint]) -> None:
    for path, state in zip(paths, states, strict=True):
        if state.epoch < state.epochs:
            raise TrainingError(
                f"{path} is of epoch {state.epoch} of {state.epochs}; seeds are compared at the end: take last.pt of "
                "trainings that are done"
            )
        if state.saw_validation:
            raise TrainingError(
                f"{path}, or what it began with, was trained on the validation split too, which is to say which seed "
                "is best"
            )
    # What was not asked for may be missing in one that earlier code began.
    asked = [{name: value for name, value in (state.settings or {}).items() if value is not None} for state in states]
    if len({(state.epochs, tuple(sorted(each.items()))) for state, each in zip(states, asked, strict=True)}) > 1:
        raise TrainingError(
            "the checkpoints are of different epochs, learning rates or recipes; only the seed may differ"
        )


def best_on_validation(scores: Sequence[SeedScore]) -> SeedScore:
    """The one to serve; the first of equals."""
    return max(scores, key=lambda score: score.validation)


def table(scores: Sequence[SeedScore], metric: str, split: str) -> str:
    """The scores as text, with mean and sample standard deviation."""
    values = np.array([score.value for score in scores])
    chosen = best_on_validation(scores)
    lines = [f"{'seed':<8} {'validation':>10} {split:>10}"]
    lines += [
        f"{score.seed:<8} {score.validation:>10.2%} {score.value:>10.2%}{'  chosen' if score is chosen else ''}"
        for score in scores
    ]
    spread = f" ± {values.std(ddof=1):.2%}" if len(values) > 1 else ""
    lines.append(f"{metric}, {split}: {values.mean():.2%}{spread} over {len(values)} seeds")
    return "\n".join(lines)
