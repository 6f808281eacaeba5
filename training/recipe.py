"""How a network is trained: the recipe that a task names."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Augmentation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Stage:
    """From the fraction `start` (0…1) of all epochs on, batches are augmented by `augmentation`.

    `class_weight_exponent` is that of a segmenter's class weights (`training.losses.tempered_class_weights`); with 0
    all classes count alike.
    """

    start: float
    augmentation: Augmentation
    class_weight_exponent: float = 0.0


def cosine(progress: float, warmup: float = 0.05) -> float:
    """From 0 to 1 over the fraction `warmup` of a training, then along a cosine to 0 (arXiv:1608.03983)."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def constant_after_warmup(progress: float, warmup: float = 0.05) -> float:
    """From 0 to 1 over the fraction `warmup` of a training, then 1."""
    return min(1.0, progress / warmup)


def adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    return torch.optim.AdamW(groups, lr=learning_rate)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training split.
        batch_size: pictures a step.
        learning_rate: the highest.
        weight_decay: of all weights but biases and normalisation.
        stages: augmentation and class weights over time; the first starts at 0.
        validate_every: epochs between validations; the last epoch is always validated.
        averaging: decay, a step, of the exponential moving average of the weights that is validated and kept, less in
            the first steps (`training.train.moving_average`); 0 keeps the last weights themselves.
        schedule: the fraction (0…1) of the steps that are done → the fraction of the learning rate.
        optimizer: of parameter groups, with a learning rate.
        bfloat16: whether to use bfloat16 where the device is fast in it.
        channels_last_in_float32: whether channels_last is the faster memory format in float32 on a CPU; in bfloat16 and
            on CUDA it is for every network.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    stages: tuple[Stage, ...]
    validate_every: int = 1
    averaging: float = 0.0
    schedule: Callable[[float], float] = cosine
    optimizer: Callable[[list[dict[str, Any]], float], torch.optim.Optimizer] = adamw
    bfloat16: bool = True
    channels_last_in_float32: bool = True

    def stage(self, epoch: int, epochs: int) -> Stage:
        """The stage that `epoch` (from 0) out of `epochs` belongs to."""
        return next(stage for stage in reversed(self.stages) if epoch >= stage.start * epochs)


def digest(*values: object) -> str:
    """Tells values from others, in any process: recipes, losses, and what these are made of.

    Named functions are told apart by their names, lambdas and functions within functions by their code and what they
    are made with; methods of an object by that object; modules, tensors and other objects by what they hold.
    """
    return hashlib.sha256(_described(values).encode()).hexdigest()[:12]


def _described(value: object, around: tuple[object, ...] = ()) -> str:
    """`around` are the functions and objects that hold the value, since one may hold itself."""
    if isinstance(value, dict):
        value = list(value.items())
    elif isinstance(value, set | frozenset):
        value = sorted(_described(each, around) for each in value)
    elif isinstance(value, MethodType):
        value = [value.__qualname__, value.__self__]
    if isinstance(value, tuple | list):
        return str([_described(each, around) for each in value])
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {_described(value.co_consts, around)}"
    name = getattr(value, "__qualname__", None)
    if name is not None:
        if not isinstance(value, FunctionType) or "<" not in name or any(value is each for each in around):
            return str(name)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        made_of = [value.__code__, cells, value.__defaults__, value.__kwdefaults__]
        return f"{name} {_described(made_of, (*around, value))}"
    held = {} if any(value is each for each in around) else _held(value)
    return repr(value) if held is None else f"{type(value).__qualname__} {_described(held, (*around, value))}"


def _held(value: object) -> dict[str, object] | None:
    """What a value consists of; None where its text says that already."""
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, Tensor | np.ndarray):  # the text of a large one leaves most of it out
        flat = torch.as_tensor(value).detach().cpu().contiguous().view(-1)
        content = hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest()
        return {"type": str(value.dtype), "shape": tuple(value.shape), "content": content}
    # A module's text names its parts alone. What it is to learn begins at random, and is no part of a recipe.
    if isinstance(value, nn.Module):
        held = {name: each for name, each in vars(value).items() if name not in {"training", "_parameters"}}
        return held | {name: each for name, each in value.named_parameters(recurse=False) if not each.requires_grad}
    # Python's own text of an object says where it is in memory, which differs from run to run.
    return vars(value) if type(value).__repr__ is object.__repr__ else None
