"""The training loop, to be read from top to bottom."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm import tqdm

from training.checkpoint import Checkpoint, plain_config
from training.commit import current_commit
from training.data.labelled import LabelledImages
from training.device import Device
from training.errors import DivergenceError, TrainingError
from training.metrics import confusion_matrix, segmentation_scores
from training.recipe import Augmentation, Recipe, constant_after_warmup
from training.tasks import Task

_Weights = list[Tensor] | tuple[Tensor, ...]

_REFRESH_BATCHES = 30  # of them are enough: on `streets`, 120 whole pictures


def train(
    task: Task,
    training: LabelledImages,
    validation: LabelledImages | None,
    run: Path,
    device: Device,
    *,
    seed: int = 0,
    epochs: int | None = None,
    learning_rate: float | None = None,
    initial: Checkpoint | None = None,
    swa: bool = False,
    hold_out: str | None = None,
    with_validation: bool = False,
    resume: bool = False,
    compiled: bool = False,
) -> Checkpoint:
    """Train `task`'s network and keep the best on validation.

    Writes into the folder `run`: `last.pt` after every epoch (what `resume` goes on from), `best.pt` (weights of the
    highest validation metric so far; without `validation`, the last ones) and `log.jsonl` (a line an epoch).
    `epochs` and `learning_rate` stand in for the recipe's. With `initial`, training begins from its weights instead of
    random ones, in the recipe's last stage. `swa` is stochastic weight averaging (Izmailov et al., 2018,
    arXiv:1803.05407): the learning rate stays at its highest, and the weights that are kept are the plain mean over the
    last two thirds of the steps, instead of the recipe's schedule and averaging, and of the best on validation.
    `hold_out` and `with_validation` say how `training` and `validation` were chosen; they are only written down, for
    `resume` to compare and for what is made of the checkpoint later. `compiled` runs the network through
    `torch.compile`, which needs a C++ compiler on a CPU and some minutes at every new size of crop: a step of `streets`
    took 113 ms a crop after it and 128 before on one core of an AMD EPYC (Zen 5, bfloat16).

    Returns:
        the best checkpoint; with `swa`, the last.

    Raises:
        CheckpointError: when there is nothing to resume, or it was begun with other settings.
        DataError: when pictures or labels are not those that the task speaks of.
        DivergenceError: when the loss is no longer a number.
        TrainingError: when nothing can be written into `run`, or the learning rate is no number.
    """
    for data in (training, validation):
        if data is not None:
            task.check(data)
    epochs = epochs or task.recipe.epochs
    recipe = _adjusted(task.recipe, learning_rate, only_last_stage=initial is not None, swa=swa)
    task = replace(task, recipe=recipe)
    torch.manual_seed(seed)
    model = task.build().to(device.torch)
    device = device.suited_to(recipe)
    model.to(memory_format=device.memory_format)  # type: ignore[call-overload] # the stub lacks it
    optimizer = _optimizer(model, recipe)
    if initial is not None:
        model.load_state_dict(initial.model)
    average = get_swa_multi_avg_fn() if swa else moving_average(recipe.averaging)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=average)
    mean_from = epochs // 3 if swa else 0
    settings = {
        "learning-rate": recipe.learning_rate,
        "init": initial and initial.digest(),
        "init-with-validation": (initial is not None and initial.saw_validation_of(task)) or None,
        "hold-out": hold_out,
        "with-validation": with_validation,
        "swa": swa or None,  # as where it is missing, in a checkpoint from before there was any
        "recipe": task.digest(),
    }
    _check_writable(run)
    state = Checkpoint(task.name, plain_config(task), 0, epochs, seed, {}, commit=current_commit(), settings=settings)
    if resume:
        state = _resume(run, state, model, averaged, optimizer)
        since = mean_from if state.epoch >= mean_from else 0
        averaged.n_averaged.fill_((state.epoch - since) * _steps(recipe, training))
    if compiled:
        model.compile()
    weights = {s.class_weight_exponent: task.class_weights(training, s.class_weight_exponent) for s in recipe.stages}
    training, validation = training.to(device.torch), validation.to(device.torch) if validation else None

    for epoch in range(state.epoch, epochs):
        started = time.monotonic()
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)  # so that a resumed run goes the same way
        torch.manual_seed(seed * 1_000_003 + epoch)  # dropout
        if epoch == mean_from:
            averaged.n_averaged.zero_()  # the mean begins anew, with what the first step makes of the weights
        stage = recipe.stage(epoch, epochs)
        stage_weights = weights[stage.class_weight_exponent]
        loss = train_one_epoch(
            task,
            model,
            training,
            device,
            optimizer=optimizer,
            averaged=averaged,
            augmentation=stage.augmentation,
            generator=generator,
            weights=None if stage_weights is None else stage_weights.to(device.torch),
            epoch=epoch,
            epochs=epochs,
        )
        entry = {"epoch": epoch + 1, "loss": round(loss, 5), "seconds": round(time.monotonic() - started, 1)}
        last = epoch + 1 == epochs
        improved = last and validation is None
        if last or (epoch + 1) % recipe.validate_every == 0:
            refresh_batch_norm(averaged.module, training, device, recipe.batch_size)
            if validation is not None:
                metric = validate(task, averaged.module, validation, device)
                # Of equals the later, which has learnt for longer. Mean IoU is NaN where no pixel is labelled: then
                # anything is better. A mean of weights that is not whole yet is none to keep, however well it does.
                improved = last if swa else metric >= state.best or not math.isfinite(state.best)
                state.best = metric if improved else state.best
                entry[task.metric] = round(metric, 5)
        state.epoch, state.model = epoch + 1, averaged.module.state_dict()
        state.history.append(entry)
        state.optimizer, state.averaged_from = optimizer.state_dict(), model.state_dict()
        _write(state, run, improved=improved)
        tqdm.write(json.dumps(entry))
    return Checkpoint.load(run / "best.pt")


def train_one_epoch(
    task: Task,
    model: nn.Module,
    data: LabelledImages,
    device: Device,
    *,
    optimizer: torch.optim.Optimizer,
    averaged: AveragedModel,
    augmentation: Augmentation,
    generator: torch.Generator,
    weights: Tensor | None,
    epoch: int,
    epochs: int,
) -> float:
    """One pass over `data` in random order, `averaged` following `model`; returns the mean loss.

    Raises:
        DivergenceError: when the loss is no longer a number.
    """
    model.train()
    recipe = task.recipe
    steps = _steps(recipe, data)
    total = 0.0
    batches: Iterable[tuple[Tensor, Tensor]] = data.batches(recipe.batch_size, shuffle=generator)
    for step, (pictures, labels) in enumerate(
        tqdm(batches, f"epoch {epoch + 1}/{epochs}", steps, leave=False, disable=None)
    ):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.schedule((epoch + step / steps) / epochs)
        images, targets = augmentation(pictures.float() / 255, labels, generator)
        with device.autocast():
            logits = model(images.contiguous(memory_format=device.memory_format))
        loss = task.loss(logits, targets, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(model)
        total += float(loss.detach())
        if not math.isfinite(total):
            raise DivergenceError(f"the loss became {total} in epoch {epoch + 1}; lower the learning rate")
    return total / steps


def moving_average(decay: float) -> Callable[[_Weights, _Weights, Tensor | int], None]:
    """An exponential moving average of weights, for `AveragedModel`.

    After n steps its decay is (1 + n) / (10 + n) until that reaches `decay`, as in TensorFlow's
    `ExponentialMovingAverage` with `num_updates`. Without that, 60 steps at 0.999 would leave 94% of the average with
    the random weights that training began from.
    """

    def update(averaged: _Weights, current: _Weights, steps: Tensor | int) -> None:
        done = float(steps)
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averaged, current, steps)  # type: ignore[no-untyped-call]

    return update


@torch.inference_mode()
def refresh_batch_norm(model: nn.Module, data: LabelledImages, device: Device, batch_size: int) -> None:
    """Measure batch normalisation's statistics anew, over whole pictures as they are (`SegNet` takes its two looks).

    The running ones follow the last few batches of augmented crops, which are not what will be asked: on `streets`
    they cost 1.7 points of mean IoU. A network without batch normalisation is left as it is.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over all batches
        layer.train()
    batches = data.batches(batch_size, torch.Generator().manual_seed(0))
    for images, _ in islice(batches, _REFRESH_BATCHES):
        with device.autocast():
            model((images.float() / 255).contiguous(memory_format=device.memory_format))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


@torch.inference_mode()
def validate(task: Task, model: nn.Module, data: LabelledImages, device: Device) -> float:
    """The task's metric (accuracy or mean IoU, 0…1) on un-augmented `data`."""
    model.eval()
    classes = len(task.classes)
    matrix = np.zeros((classes, classes), np.int64)
    for images, targets in data.batches(256 if task.kind == "classification" else 4):
        with device.autocast():
            logits = model((images.float() / 255).contiguous(memory_format=device.memory_format))
        matrix += confusion_matrix(targets.cpu().numpy(), logits.argmax(1).cpu().numpy(), classes)
    if task.kind == "segmentation":
        return segmentation_scores(matrix).mean_iou
    return float(np.trace(matrix) / matrix.sum())


def _adjusted(recipe: Recipe, learning_rate: float | None, *, only_last_stage: bool, swa: bool) -> Recipe:
    if swa:
        recipe = replace(recipe, schedule=constant_after_warmup)
    if learning_rate is not None:
        if not math.isfinite(learning_rate):
            raise TrainingError(f"a learning rate of {learning_rate} is none: give a number, such as 0.001")
        recipe = replace(recipe, learning_rate=learning_rate)
    return replace(recipe, stages=(replace(recipe.stages[-1], start=0.0),)) if only_last_stage else recipe


def _check_writable(run: Path) -> None:
    """Find out now, not after the first epoch."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run):
            pass
    except OSError as error:
        raise TrainingError(f"nothing can be written into {run} ({error}); choose another folder with --run") from error


def _write(state: Checkpoint, run: Path, *, improved: bool) -> None:
    """What a training leaves after an epoch; `last.pt` comes before the log, which is made of it."""
    if improved:
        state.weights_only().save(run / "best.pt")
    state.save(run / "last.pt")
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in state.history), encoding="utf-8")


def _steps(recipe: Recipe, data: LabelledImages) -> int:
    """Steps an epoch."""
    return max(1, len(data) // recipe.batch_size)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    # Biases and normalisation (one-dimensional) are not decayed: shrinking them regularises nothing.
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return recipe.optimizer(groups, recipe.learning_rate)


def _resume(
    run: Path, fresh: Checkpoint, model: nn.Module, averaged: AveragedModel, optimizer: torch.optim.Optimizer
) -> Checkpoint:
    state = Checkpoint.load(run / "last.pt")
    state.check_resumable(fresh, run / "last.pt")
    assert state.optimizer is not None
    assert state.averaged_from is not None
    model.load_state_dict(state.averaged_from)
    averaged.module.load_state_dict(state.model)
    optimizer.load_state_dict(state.optimizer)
    return state
