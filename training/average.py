"""One network whose weights are the mean of several trainings' that began from the same weights, and of these too.

Trainings from one start that differ in their seed end in the same valley of the loss, and the middle of it answers
better than its edges, most of all on pictures unlike the training's: a "model soup" (Wortsman et al., 2022,
arXiv:2203.05482; on other domains Ramé et al., 2022, arXiv:2205.09739). What they began from lies in it as well
(arXiv:2109.01903). It costs no more to serve than one of them, and the trainings can run side by side.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoint import Checkpoint
from training.device import Device
from training.errors import CheckpointError
from training.splits import training_and_validation
from training.train import refresh_batch_norm


def average_weights(checkpoints: Sequence[Checkpoint], data: Path, device: Device) -> Checkpoint:
    """The mean of the weights of `checkpoints`, with batch normalisation measured anew over what they were trained on.

    It has to be: the statistics of a mean of networks are not the mean of theirs. The result holds weights only.

    Args:
        checkpoints: two at least.
        data: the folder of its data set.
        device: where to measure.

    Raises:
        CheckpointError: when there is one alone, or they did not all begin from the same weights, which may be one of
            them. Networks that began from different random ones have nothing to do with each other, channel by
            channel. Or when those that began there are of several tasks, or were not trained on the same pictures.
    """
    if len({state.digest() for state in checkpoints}) < 2:
        raise CheckpointError(
            "give two checkpoints at least, with different weights; what a training began from (--init) may be one"
        )
    trained = _of_one_beginning(checkpoints)
    first = trained[0]
    if len({state.task for state in trained}) > 1:
        raise CheckpointError("only trainings of one task can be averaged")
    parts = {(state.setting("hold-out"), state.setting("with-validation")) for state in trained}
    if len(parts) > 1:
        raise CheckpointError("the checkpoints were not trained on the same pictures: --hold-out or --with-validation")
    task, model = first.restore()
    hold_out, with_validation = next(iter(parts))
    training, _ = training_and_validation(task, data, hold_out=hold_out, with_validation=bool(with_validation))
    model.load_state_dict({name: _mean([state.model[name] for state in checkpoints]) for name in first.model})
    device = device.suited_to(task.recipe)
    model.to(device.torch, memory_format=device.memory_format)  # type: ignore[call-overload] # the stub lacks it
    refresh_batch_norm(model, training.to(device.torch), device, task.recipe.batch_size)
    return replace(
        first.weights_only(),
        model={name: value.cpu() for name, value in model.state_dict().items()},
        best=float("-inf"),
        history=[],
        commit=", ".join(dict.fromkeys(state.commit for state in checkpoints)),
    )


def _of_one_beginning(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Those that began from the weights that all others began from or hold."""
    for start in {state.setting("init") for state in checkpoints} - {None}:
        trained = [state for state in checkpoints if state.setting("init") == start]
        if all(state.digest() == start for state in checkpoints if state.setting("init") != start):
            return trained
    raise CheckpointError("only what was trained from the same weights (--init), and those too, can be averaged")


def _mean(values: list[Tensor]) -> Tensor:
    # Integers count batches, and begin anew with the statistics.
    return torch.stack(values).mean(dim=0) if values[0].is_floating_point() else values[0]
