"""The log of a training, as `python -m training train` leaves it in the run's folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError

# What charts can be drawn of, and far more than any training has: of epochs, and of losses and seconds.
_MOST_EPOCHS = 10**6
_LARGEST = 1e12


@dataclass(frozen=True)
class TrainingLog:
    """What `log.jsonl` says: of every epoch the mean loss, of the validated ones the metric (0…1); and the hours."""

    epochs: tuple[int, ...]
    losses: tuple[float, ...]
    metric: str
    validated: tuple[int, ...]
    values: tuple[float, ...]
    hours: float


def read_log(run: Path, metric: str) -> TrainingLog:
    """Read the log in the folder `run` of a training whose validation metric is `metric`.

    Raises:
        DataError: when there is none, it is damaged, or it is that of a network of another kind.
    """
    path = run / "log.jsonl"
    if not path.is_file():
        raise DataError(f"there is no {path}; --run takes the folder of a training, such as runs/digits")
    epochs, losses, validated, values, seconds = [], [], [], [], 0.0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            epoch, loss = int(entry["epoch"]), float(entry["loss"])
            took = float(entry["seconds"])
            others = set(entry) - {"epoch", "loss", "seconds", metric}
            value = float(entry[metric]) if metric in entry else None
            if not 0 < epoch <= _MOST_EPOCHS or abs(loss) > _LARGEST or abs(took) > _LARGEST or abs(value or 0) > 1:
                raise ValueError("a number in it is none that a training has")  # noqa: TRY301 - as what else is wrong
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}, is not one of a training's log ({error!r}); if it is being written, try again"
            ) from error
        if value is None and others & {"accuracy", "mean IoU"}:
            raise DataError(f"{path} has no {metric!r}: it is the log of a network of another kind")
        seconds += took
        epochs.append(epoch)
        losses.append(loss)
        if value is not None:
            validated.append(epoch)
            values.append(value)
    if not epochs:
        raise DataError(f"{path} is empty: the training has not finished an epoch yet")
    return TrainingLog(tuple(epochs), tuple(losses), metric, tuple(validated), tuple(values), seconds / 3600)
