"""The loop, checkpoints, export and the command line, on tiny networks and data that are made here."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.conftest import ROOT
from training.checkpoint import Checkpoint, plain_config
from training.data.digit_augmentation import DigitAugmentation
from training.data.labelled import LabelledImages
from training.data.mnist import load_mnist
from training.data.street_augmentation import StreetAugmentation
from training.device import Device, choose_device
from training.errors import CheckpointError, DataError, DivergenceError, ExportError, TrainingError
from training.evaluate import evaluate, open_model, table
from training.export import IR_VERSION, OPSET, PARITY_BATCH_SIZES, answers, check_parity, export, served
from training.losses import tempered_class_weights
from training.manifest import Precision
from training.models.deep_cnn import DeepCNN, DeepCNNConfig
from training.models.segnet import SegNet, SegNetConfig
from training.recipe import Augmentation, Recipe, Stage, constant_after_warmup, cosine, digest
from training.tasks import DIGITS, STREETS, Task
from training.train import refresh_batch_norm, train

# The bars of the made digits are told apart by their place, so they are not shifted about.
_AS_IT_IS = Stage(0.0, lambda images, targets, _: (images, targets))
# The average's decay is the full recipe's: these sixty steps are to learn all the same.
SHORT = replace(DIGITS, recipe=replace(DIGITS.recipe, batch_size=20, stages=(_AS_IT_IS,)))
TINY_CONFIG = SegNetConfig(widths=(4, 6, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0), dilations=(1,))
TINY_STREETS = replace(
    STREETS,
    config=TINY_CONFIG,
    build=lambda: SegNet(TINY_CONFIG),
    recipe=Recipe(
        epochs=1,
        batch_size=2,
        learning_rate=1e-2,
        weight_decay=0,
        stages=(Stage(0, StreetAugmentation(crop=(64, 64))),),
    ),
)
# Shapes are the CPU's to work out; every other operator of a graph must run on CUDA and in TensorRT.
SHAPE_OPERATORS = {"Shape", "Size", "NonZero", "ConstantOfShape", "Range", "Where", "Expand", "If", "Loop", "Scan"}
ON_CUDA_AND_TENSORRT = {
    "Add",
    "And",
    "ArgMax",
    "AveragePool",
    "Cast",
    "Clip",
    "Concat",
    "Conv",
    "DepthToSpace",
    "Div",
    "Equal",
    "Exp",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "Log",
    "MatMul",
    "MaxPool",
    "Mul",
    "Not",
    "Or",
    "Reciprocal",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def digits(mnist: Path) -> tuple[LabelledImages, LabelledImages]:
    return load_mnist(mnist, "train"), load_mnist(mnist, "val")[:100]


def test_training_learns_and_keeps_the_best(digits: tuple[LabelledImages, LabelledImages], tmp_path: Path) -> None:
    best = train(SHORT, *digits, tmp_path / "run", choose_device("cpu"), epochs=6)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert best.best == pytest.approx(max(entry["accuracy"] for entry in log))
    assert best.best > 0.5  # ten classes: chance is 0.1
    assert best.optimizer is None


def test_of_equals_on_validation_the_later_is_kept(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.25, 0.75, 0.75, 0.5])
    monkeypatch.setattr("training.train.validate", lambda *_: next(scores))
    best = train(SHORT, *digits, tmp_path / "run", choose_device("cpu"), epochs=4)
    assert (best.epoch, best.best) == (3, 0.75)


def test_compiling_is_asked_of_the_trained_network_alone(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def compile_(module: torch.nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    train(SHORT, *digits, tmp_path / "plain", choose_device("cpu"), epochs=1)
    assert not compiled
    best = train(SHORT, *digits, tmp_path / "compiled", choose_device("cpu"), epochs=1, compiled=True)
    assert len(compiled) == 1  # not its average, which is only ever evaluated
    assert not any(name.startswith("_orig_mod") for name in best.model)


@pytest.mark.parametrize(("averaging", "swa"), [(0.0, False), (0.5, False), (0.999, False), (0.999, True)])
def test_a_resumed_training_goes_the_same_way(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path, averaging: float, swa: bool
) -> None:
    device = choose_device("cpu")
    task = replace(SHORT, recipe=replace(SHORT.recipe, averaging=averaging))
    train(task, *digits, tmp_path / "whole", device, epochs=3, seed=5, swa=swa)

    class _Interrupted(Exception):  # noqa: N818 -- no error
        pass

    class _StopsAfterTwo(LabelledImages):
        passes = 0

        def to(self, device: torch.device) -> LabelledImages:
            del device
            return self

        def batches(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            _StopsAfterTwo.passes += 1
            if _StopsAfterTwo.passes == 5:  # each epoch passes over it to train and to refresh batch normalisation
                raise _Interrupted
            return super().batches(*arguments, **options)  # type: ignore[arg-type]

    training = _StopsAfterTwo(digits[0].images, digits[0].targets, "here")
    with pytest.raises(_Interrupted):
        train(task, training, digits[1], tmp_path / "cut", device, epochs=3, seed=5, swa=swa)
    assert Checkpoint.load(tmp_path / "cut" / "last.pt").epoch == 2
    train(task, *digits, tmp_path / "cut", device, epochs=3, seed=5, swa=swa, resume=True)
    whole, cut = (Checkpoint.load(tmp_path / name / "last.pt").model for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def _watched(task: Task) -> tuple[Task, list[torch.Tensor]]:
    """The same task, and a list that its training fills with the output's biases before each step."""
    seen: list[torch.Tensor] = []

    class _Watched(DeepCNN):
        def forward(self, digits: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(self.output.bias.detach().clone())
            return super().forward(digits)

    return replace(task, build=lambda: _Watched(DeepCNNConfig(batch_norm=True))), seen


@pytest.mark.parametrize(("averaging", "kept"), [(0.1, 0.1), (0.999, 2 / 11)])
def test_kept_weights_are_averages_over_the_steps(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path, averaging: float, kept: float
) -> None:
    task = replace(SHORT, recipe=replace(SHORT.recipe, averaging=averaging, batch_size=len(digits[0]) // 2))
    watched, seen = _watched(task)
    train(watched, *digits, tmp_path, choose_device("cpu"), epochs=1)
    last = Checkpoint.load(tmp_path / "last.pt")
    assert last.averaged_from is not None
    # Two steps: the average begins as the weights after the first, and keeps so much of them after the second.
    expected = torch.lerp(last.averaged_from["output.bias"], seen[1], kept)
    torch.testing.assert_close(last.model["output.bias"], expected)
    assert not torch.equal(seen[1], last.averaged_from["output.bias"])


def test_stochastic_weight_averaging_keeps_the_plain_mean_of_the_last_two_thirds(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    steps = 2
    task = replace(SHORT, recipe=replace(SHORT.recipe, batch_size=len(digits[0]) // steps))
    watched, seen = _watched(task)
    train(watched, *digits, tmp_path, choose_device("cpu"), epochs=3, learning_rate=1e-3, swa=True)
    last = Checkpoint.load(tmp_path / "last.pt")
    assert last.averaged_from is not None
    assert last.optimizer is not None
    after = [*seen[1:], last.averaged_from["output.bias"]]
    torch.testing.assert_close(last.model["output.bias"], torch.stack(after[steps:]).mean(0))
    assert len({tuple(biases.tolist()) for biases in after}) == 3 * steps
    best = Checkpoint.load(tmp_path / "best.pt")  # the whole mean, even if an earlier epoch did better on validation
    assert best.epoch == 3
    assert best.best == last.history[-1]["accuracy"]
    assert [group["lr"] for group in last.optimizer["param_groups"]] == [1e-3, 1e-3]


def test_resuming_with_other_settings_is_refused(digits: tuple[LabelledImages, LabelledImages], tmp_path: Path) -> None:
    device = choose_device("cpu")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train(SHORT, *digits, tmp_path, device, epochs=1, resume=True)
    train(SHORT, *digits, tmp_path, device, epochs=1)
    with pytest.raises(CheckpointError, match="begun with seed 0, now 1"):
        train(SHORT, *digits, tmp_path, device, epochs=1, seed=1, resume=True)
    with pytest.raises(CheckpointError, match="begun with epochs 1, now 2"):
        train(SHORT, *digits, tmp_path, device, epochs=2, resume=True)
    turned = replace(SHORT, recipe=replace(SHORT.recipe, stages=(Stage(0.0, DigitAugmentation(rotation_degrees=5)),)))
    with pytest.raises(CheckpointError, match=r"begun with recipe [0-9a-f]{12}, now [0-9a-f]{12} is"):
        train(turned, *digits, tmp_path, device, epochs=1, resume=True)


def test_how_a_task_is_trained_is_told_from_other_ways_in_any_process() -> None:
    def turned(degrees: float) -> Stage:
        return Stage(0.0, partial(_turned, degrees=degrees))

    digests = {DIGITS.digest(), STREETS.digest(), replace(STREETS, jaccard=0.1).digest()}
    digests |= {replace(STREETS, ignored_label=12).digest()}
    for other in (
        {"batch_size": 1},
        {"schedule": constant_after_warmup},
        {"stages": DIGITS.recipe.stages * 2},
        {"stages": (Stage(0.0, DigitAugmentation(shear=0.2)),)},
        {"stages": (Stage(0.0, DigitAugmentation(shear=0.2), class_weight_exponent=0.1),)},
        {"stages": (Stage(0.0, lambda images, targets, _: (images, targets)),)},
        {"stages": (Stage(0.0, lambda images, targets, _: (images * 0, targets)),)},
        {"stages": (turned(1),)},
        {"stages": (turned(2),)},
        {"stages": (Stage(0.0, _Noise(0.1)),)},
        {"stages": (Stage(0.0, _Noise(0.2)),)},
        {"stages": (Stage(0.0, _Noise(0.1).again),)},
        {"stages": (Stage(0.0, _Noise(0.2).again),)},
        {"stages": (Stage(0.0, _Filter(0.1)),)},
        {"stages": (Stage(0.0, _Filter(0.2)),)},
        {"stages": (Stage(0.0, _scaled(1.0)),)},
        {"stages": (Stage(0.0, _scaled(2.0)),)},
    ):
        digests.add(replace(DIGITS, recipe=replace(DIGITS.recipe, **other)).digest())
    assert len(digests) == 21
    by_name = replace(DIGITS, recipe=replace(DIGITS.recipe, epochs=1, learning_rate=1.0))  # compared by their names
    assert by_name.digest() == DIGITS.digest()
    assert digest(_Noise(0.1), _Noise(0.1).again) == digest(_Noise(0.1), _Noise(0.1).again)
    assert digest(_Filter(0.1)) == digest(_Filter(0.1))
    for part in ("kernel", "fixed", "array"):  # each by itself
        changed = _Filter(0.1)
        setattr(changed, part, getattr(_Filter(0.2), part))
        assert digest(changed) != digest(_Filter(0.1))
    program = (
        "from tests.training.test_training import _scaled, digest; from training.tasks import STREETS;"
        "print(STREETS.digest(), digest(_scaled(1.0)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [STREETS.digest(), digest(_scaled(1.0))]


def _scaled(factor: float) -> Augmentation:
    """A function that knows itself, a value from outside, a set, and code within its code."""

    def scale(
        images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if images.ndim in {5, 6, "seven"}:
            return scale(images[0], targets[0], generator)
        return images * sum(factor for _ in range(len({"a", "b"}))), targets

    return scale


def _turned(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, degrees: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return DigitAugmentation(rotation_degrees=degrees)(images, targets, generator)


class _Noise:
    """An augmentation that is no dataclass."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return images + self.amount * torch.rand(images.shape, generator=generator), targets

    def again(
        self, images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self(*self(images, targets, generator), generator)


class _Filter(torch.nn.Module):
    """An augmentation that is a module, with a kernel and with weights that begin at random."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.full((40, 40), 1.0).index_put_((torch.tensor(20),), torch.tensor(amount)))
        self.fixed = torch.nn.Parameter(torch.full((2,), amount), requires_grad=False)
        self.array = np.linspace(0, amount, 3000)
        self.learnt = torch.nn.Linear(3, 3)

    def forward(
        self, images: torch.Tensor, targets: torch.Tensor, _: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return images, targets


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.5}, "begun with learning-rate 0.25, now 0.5 is"),
        ({"learning_rate": None}, f"begun with learning-rate 0.25, now {DIGITS.recipe.learning_rate} is"),
        ({"initial": True}, "begun with no --init, now --init of the weights [0-9a-f]{12} is"),
        ({"hold_out": "0001TP"}, "begun with hold-out None, now 0001TP is"),
        ({"with_validation": True}, "begun with with-validation False, now True is"),
        ({"swa": True}, "begun with swa None, now True is"),
    ],
)
def test_resuming_what_was_begun_otherwise_names_the_setting(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    device, given = choose_device("cpu"), {"learning_rate": 0.25} | settings
    few = digits[0][:40], digits[1][:20]
    best = train(SHORT, *few, tmp_path, device, epochs=1, learning_rate=0.25)
    if "initial" in given:
        given["initial"] = best
    with pytest.raises(CheckpointError, match=message):
        train(SHORT, *few, tmp_path, device, epochs=1, resume=True, **given)
    train(SHORT, *few, tmp_path, device, epochs=1, learning_rate=0.25, resume=True)


def test_other_initial_weights_are_told_apart_by_what_they_are(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    device, few = choose_device("cpu"), (digits[0][:40], digits[1][:20])
    first, second = (train(SHORT, *few, tmp_path / str(i), device, epochs=1, seed=i) for i in range(2))
    train(SHORT, *few, tmp_path / "tuned", device, epochs=1, initial=first)
    (tmp_path / "0" / "best.pt").rename(tmp_path / "moved.pt")
    moved = Checkpoint.load(tmp_path / "moved.pt")
    train(SHORT, *few, tmp_path / "tuned", device, epochs=1, initial=moved, resume=True)
    digests = f"{first.digest()}, now --init of the weights {second.digest()} is"
    with pytest.raises(CheckpointError, match=f"begun with --init of the weights {digests}"):
        train(SHORT, *few, tmp_path / "tuned", device, epochs=1, initial=second, resume=True)


def test_a_checkpoint_from_before_settings_were_kept_is_resumed(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    device, few = choose_device("cpu"), (digits[0][:40], digits[1][:20])
    train(SHORT, *few, tmp_path, device, epochs=1)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["settings"]
    torch.save(content, tmp_path / "last.pt")
    assert Checkpoint.load(tmp_path / "last.pt").settings is None
    train(SHORT, *few, tmp_path, device, epochs=1, learning_rate=0.5, resume=True)  # unknown, so nothing is refused
    with pytest.raises(CheckpointError, match="begun with seed 0, now 1"):
        train(SHORT, *few, tmp_path, device, epochs=1, seed=1, resume=True)


def test_a_checkpoint_from_before_recipes_were_kept_is_resumed(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    device, few = choose_device("cpu"), (digits[0][:40], digits[1][:20])
    train(SHORT, *few, tmp_path, device, epochs=1)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["settings"]["recipe"]
    torch.save(content, tmp_path / "last.pt")
    train(SHORT, *few, tmp_path, device, epochs=1, resume=True)
    with pytest.raises(CheckpointError, match="begun with learning-rate"):
        train(SHORT, *few, tmp_path, device, epochs=1, learning_rate=0.5, resume=True)


@pytest.mark.parametrize("name", ["digits", "digits-5x5", "streets"])
def test_the_committed_checkpoints_load(name: str) -> None:
    checkpoint = Checkpoint.load(ROOT / "models" / "checkpoints" / f"{name}.pt")
    assert checkpoint.optimizer is None  # only its weights are committed
    assert checkpoint.restore()[0].name == name


def test_weights_alone_are_a_copy_that_cannot_be_resumed(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    train(SHORT, digits[0][:40], digits[1][:20], tmp_path, choose_device("cpu"), epochs=1)
    whole = Checkpoint.load(tmp_path / "last.pt")
    kept = whole.weights_only()
    assert whole.optimizer is not None
    assert whole.averaged_from is not None
    assert (kept.optimizer, kept.averaged_from, kept.model) == (None, None, whole.model)
    with pytest.raises(CheckpointError, match=r"x\.pt holds weights only and cannot be resumed"):
        kept.check_resumable(whole, Path("x.pt"))


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_explained(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
        Checkpoint.load(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's device that is always full")
def test_a_full_disk_is_said_to_be_one_and_leaves_what_was_there(tmp_path: Path) -> None:
    state = Checkpoint("digits", plain_config(DIGITS), 1, 1, 0, DIGITS.build().state_dict())
    state.save(tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        state.save(tmp_path / "last.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_disk_that_fills_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """A limit on files' sizes fails in the middle of one as a full disk does."""
    pytest.importorskip("resource", reason="POSIX alone")
    program = f"""
import resource, signal
from pathlib import Path
from training.checkpoint import Checkpoint, plain_config
from training.tasks import DIGITS
state = Checkpoint("digits", plain_config(DIGITS), 1, 1, 0, DIGITS.build().state_dict())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
state.save(Path({str(tmp_path)!r}, "last.pt"))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr.splitlines()[-1], done.stderr
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_flipped_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    Checkpoint("digits", plain_config(DIGITS), 1, 1, 0, DIGITS.build().state_dict()).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="in it has another checksum"):
        Checkpoint.load(path)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 1, "task": Path("x")}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(tmp_path / "x.pt")


def test_a_loss_that_is_no_number_stops_the_training(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    wild = replace(SHORT, recipe=replace(SHORT.recipe, learning_rate=1e30))
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        train(wild, *digits, tmp_path, choose_device("cpu"), epochs=1)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    assert cosine(0, 0.1) == 0
    assert cosine(0.05, 0.1) == pytest.approx(0.5)
    assert cosine(0.1, 0.1) == pytest.approx(1)
    assert cosine(0.55, 0.1) == pytest.approx(0.5)
    assert cosine(1, 0.1) == pytest.approx(0)


def test_fine_tuning_begins_with_the_given_weights(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    device = choose_device("cpu")
    first = train(SHORT, *digits, tmp_path / "first", device, epochs=6)
    tuned = train(SHORT, *digits, tmp_path / "tuned", device, epochs=1, learning_rate=1e-9, initial=first)
    assert tuned.best == pytest.approx(first.best, abs=0.05)
    for name, value in DIGITS.build().named_parameters():
        del value
        torch.testing.assert_close(tuned.model[name], first.model[name], atol=1e-4, rtol=1e-4)


def test_a_device_takes_the_faster_memory_format_and_bfloat16_where_the_recipe_wants_it() -> None:
    plain, fast = (Device(torch.device("cpu"), bfloat16=bfloat16) for bfloat16 in (False, True))
    assert plain.suited_to(STREETS.recipe).memory_format == torch.contiguous_format
    assert fast.suited_to(STREETS.recipe) == fast
    assert fast.suited_to(DIGITS.recipe) == plain
    assert plain.memory_format == torch.channels_last
    assert Device(torch.device("cuda"), bfloat16=False).suited_to(STREETS.recipe).memory_format == torch.channels_last


def test_batch_norm_is_measured_over_pictures_as_they_are() -> None:
    torch.manual_seed(0)
    model = DeepCNN(DeepCNNConfig(batch_norm=True))
    pictures = torch.full((40, 28, 28, 1), 200, dtype=torch.uint8)
    data = LabelledImages(pictures, torch.zeros(40, dtype=torch.uint8), "here")
    refresh_batch_norm(model, data, Device(torch.device("cpu"), bfloat16=False), batch_size=20)
    first = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    convolution = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    expected = convolution(torch.full((20, 1, 28, 28), 200 / 255)).mean(dim=(0, 2, 3))
    assert first.running_mean is not None
    torch.testing.assert_close(first.running_mean, expected.detach(), atol=1e-4, rtol=1e-3)
    assert first.momentum == 0.1


def test_stages_follow_one_another() -> None:
    first, second = StreetAugmentation(crop=(8, 8)), StreetAugmentation(crop=(16, 16))
    recipe = replace(STREETS.recipe, stages=(Stage(0, first), Stage(0.5, second)))
    assert [recipe.stage(epoch, 4).augmentation for epoch in range(4)] == [first, first, second, second]


def test_each_stage_weighs_classes_in_its_own_way(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor | None] = []

    def loss(self: Task, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        seen.append(weights)
        return original(self, logits, targets, weights)

    original = Task.loss
    monkeypatch.setattr(Task, "loss", loss)
    augmentation = StreetAugmentation(crop=(64, 64))
    stages = (Stage(0, augmentation), Stage(0.5, augmentation, class_weight_exponent=0.5))
    task = replace(TINY_STREETS, recipe=replace(TINY_STREETS.recipe, stages=stages, bfloat16=False))
    frames = task.load(camvid, "train")
    train(task, frames, None, tmp_path, choose_device("cpu"), epochs=2)
    steps = len(seen) // 2
    assert steps > 0
    assert all(weights is None for weights in seen[:steps])
    expected = tempered_class_weights(frames, len(task.classes), 0.5)
    assert all(weights is not None and torch.equal(weights, expected) for weights in seen[steps:])


def _networks() -> list[tuple[Task, nn.Module]]:
    torch.manual_seed(0)
    networks: list[tuple[Task, nn.Module]] = []
    for task in (DIGITS, STREETS):
        model = task.build()
        if task is STREETS:
            # Weights that were trained: to random ones most pixels are near-ties, which say nothing of a precision.
            model.load_state_dict(Checkpoint.load(ROOT / "models/checkpoints/streets.pt").model)
        else:
            # Statistics and scales as a training leaves them, not the neutral ones of a start.
            for _ in range(2):
                model(torch.rand(2, 1, 28, 28))
        networks.append((task, model.eval()))
    return networks


@pytest.mark.parametrize(("task", "model"), _networks(), ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_exported_file_fulfils_the_contract(task: Task, model: nn.Module, precision: str, tmp_path: Path) -> None:
    assert precision in ("fp32", "fp16")
    channels = 1 if task.color == "L" else 3
    # Smooth pictures: noise has no classes, and its many near-ties say nothing of a precision.
    if task.kind == "classification":
        coarse = np.random.default_rng(0).integers(0, 256, (8, 7, 7, 1), dtype=np.uint8)
        pictures = np.ascontiguousarray(coarse.repeat(4, axis=1).repeat(4, axis=2))
    else:
        street = Image.open(ROOT / "examples/street.jpg").convert("RGB").resize((task.width, task.height))
        pictures = np.stack([np.roll(np.asarray(street), 40 * i, axis=1) for i in range(8)])
    path = tmp_path / f"x.{precision}.onnx"
    export(task, model, precision, pictures, path, version="7", name="mine")  # type: ignore[arg-type]

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert given.shape[1:] == [task.height, task.width, channels]
    assert isinstance(given.shape[0], str)
    if task.kind == "classification":
        assert (answer.name, answer.type, answer.shape[1:]) == ("probabilities", "tensor(float)", [10])
        (probabilities,) = session.run(None, {"images": pictures[:3]})
        assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-3)
    else:
        assert (answer.name, answer.type) == ("labels", "tensor(uint8)")
        assert answer.shape[1:] == [task.height, task.width]
    manifest = json.loads(session.get_modelmeta().custom_metadata_map["sightline"])
    assert (manifest["schema"], manifest["name"], manifest["version"]) == (1, "mine", "7")
    assert manifest["precision"] == precision

    proto = onnx.load(path)
    operators = {node.op_type for node in proto.graph.node}
    assert not operators & SHAPE_OPERATORS
    assert operators <= ON_CUDA_AND_TENSORRT, operators - ON_CUDA_AND_TENSORRT
    assert proto.ir_version == 10
    assert [o.version for o in proto.opset_import if o.domain == ""] == [18]
    convolutions = {node.input[1] for node in proto.graph.node if node.op_type == "Conv"}
    weights = {t.data_type for t in proto.graph.initializer if t.name in convolutions}
    assert weights == {onnx.TensorProto.FLOAT if precision == "fp32" else onnx.TensorProto.FLOAT16}
    assert str(Path.cwd()) not in path.read_bytes().decode("latin-1")  # no trace of the machine it was made on


def test_an_export_that_answers_otherwise_fails(tmp_path: Path) -> None:
    task, model = _networks()[0]
    pictures = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    path = tmp_path / "digits.fp32.onnx"
    export(task, model, "fp32", pictures, path, version="1")
    proto = onnx.load(path)
    weight = next(t for t in proto.graph.initializer if list(t.dims) == [10, 50])
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.5), weight.name))
    onnx.save(proto, path)
    expected = answers(served(task, task.finish(model), torch.float32), pictures)
    with pytest.raises(ExportError, match="batch size 1 probabilities differ"):
        check_parity(task, "fp32", path, pictures, expected)
    with pytest.raises(ExportError, match=r"batch size 1 .* answers float32\[1, 10\], PyTorch float32\[1, 9\]"):
        check_parity(task, "fp32", path, pictures, expected[:, :9])
    assert PARITY_BATCH_SIZES == (1, 2, 5, 8)


def _bytes_as_answers(path: Path, dtype: int) -> Path:
    """A network whose answer to pictures N×H×W are their own values, as `dtype`."""
    node = onnx.helper.make_node("Cast", ["images"], ["answers"], to=dtype)
    ends = [
        onnx.helper.make_tensor_value_info(name, kind, ["N", "H", "W"])
        for name, kind in (("images", onnx.TensorProto.UINT8), ("answers", dtype))
    ]
    graph = onnx.helper.make_graph([node], "answers", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", OPSET)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION), path)
    return path


@pytest.mark.parametrize(
    ("precision", "allowed", "refused"), [("fp32", 5e-5, 1e-3), ("fp16", 1e-2, 5e-2), ("fp32", 0, np.nan)]
)
@pytest.mark.parametrize(("row", "named"), [(0, 1), (1, 2), (4, 5), (7, 8)])
def test_probabilities_that_differ_are_found_in_any_row(
    *, row: int, named: int, precision: Precision, allowed: float, refused: float, tmp_path: Path
) -> None:
    path = _bytes_as_answers(tmp_path / "digits.onnx", onnx.TensorProto.FLOAT)
    pictures = np.random.default_rng(0).integers(0, 2, (8, 10, 10), dtype=np.uint8)
    expected = pictures.astype(np.float32)
    expected[row, 3, 3] += allowed
    check_parity(DIGITS, precision, path, pictures, expected)
    expected[row, 3, 3] += refused
    with pytest.raises(ExportError, match=f"at batch size {named} probabilities differ"):
        check_parity(DIGITS, precision, path, pictures, expected)


@pytest.mark.parametrize(("precision", "allowed", "refused"), [("fp32", 0, 0.001), ("fp16", 0.004, 0.01)])
@pytest.mark.parametrize(("row", "named"), [(0, 1), (7, 8)])
def test_labels_that_differ_are_found_in_any_row(
    *, row: int, named: int, precision: Precision, allowed: float, refused: float, tmp_path: Path
) -> None:
    path = _bytes_as_answers(tmp_path / "streets.onnx", onnx.TensorProto.UINT8)
    pictures = np.random.default_rng(0).integers(0, 11, (8, 10, 100), dtype=np.uint8)
    expected = pictures.copy()
    labels = expected[row].reshape(-1)
    labels[: round(allowed * named * 1000)] += 1
    check_parity(STREETS, precision, path, pictures, expected)
    labels[: round(refused * named * 1000)] += 1
    with pytest.raises(ExportError, match=f"at batch size {named} only .* of the labels agree"):
        check_parity(STREETS, precision, path, pictures, expected)


def test_the_streets_way_from_training_to_scores(camvid: Path, tmp_path: Path) -> None:
    training, validation = TINY_STREETS.load(camvid, "train"), TINY_STREETS.load(camvid, "val")
    best = train(TINY_STREETS, training, validation, tmp_path / "run", choose_device("cpu"))
    model = TINY_STREETS.build()
    model.load_state_dict(best.model)
    path = tmp_path / "streets.fp32.onnx"
    pictures = validation.images.repeat(4, 1, 1, 1).numpy()
    export(TINY_STREETS, model.eval(), "fp32", pictures, path, version="1")
    session, _, _ = open_model(path)
    scores = evaluate(session, TINY_STREETS, validation)
    assert scores.matrix.sum() == 2 * (360 - 10) * 480  # unlabelled pixels are not counted
    assert scores.values["mean IoU"] == pytest.approx(best.best, abs=1e-3)
    assert "bicyclist" in table(TINY_STREETS, scores)


def test_bfloat16_is_used_on_a_cpu_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (({}, False), ({"amx_bf16": True}, True), ({"avx512_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert choose_device("cpu").bfloat16 is expected


def test_data_that_is_not_what_the_task_speaks_of_is_refused(tmp_path: Path) -> None:
    digit, frame = torch.zeros(2, 28, 28, 1, dtype=torch.uint8), torch.zeros(2, 360, 480, 3, dtype=torch.uint8)
    labels, pixels = torch.zeros(2, dtype=torch.uint8), torch.zeros(2, 360, 480, dtype=torch.uint8)
    DIGITS.check(LabelledImages(digit, labels, "here"))
    STREETS.check(LabelledImages(frame, pixels + 11, "here"))
    for task, images, targets, message in (
        (DIGITS, digit, labels + 10, r"here holds the label 10; digits has 0 to 9$"),
        (DIGITS, digit[:, :27], labels, r"here holds pictures of \(27, 28, 1\); digits takes \(28, 28, 1\)"),
        (DIGITS, digit, pixels, r"here holds labels of \(2, 360, 480\); \(2,\) are expected"),
        (STREETS, frame, pixels + 12, "here holds the label 12; streets has 0 to 10, and 11 of unlabelled pixels"),
        (STREETS, digit, pixels, r"here holds pictures of \(28, 28, 1\); streets takes \(360, 480, 3\)"),
        (DIGITS, digit[:0], labels[:0], "here holds no pictures"),
        (STREETS, frame, labels, r"here holds labels of \(2,\); \(2, 360, 480\) are expected"),
    ):
        with pytest.raises(DataError, match=message):
            train(task, LabelledImages(images, targets, "here"), None, tmp_path, choose_device("cpu"), epochs=1)
    assert not list(tmp_path.iterdir())


def test_a_network_of_another_number_of_classes_is_refused(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    other = replace(SHORT, build=lambda: DeepCNN(DeepCNNConfig(classes=12)))
    with pytest.raises(TrainingError, match="the network of digits gives 12 values a picture, and it has 10 classes"):
        train(other, *digits, tmp_path, choose_device("cpu"), epochs=1)
    pictures = digits[0].images[:8].numpy()
    with pytest.raises(ExportError, match="the network names 12 classes, and digits has 10"):
        export(replace(other, finish=lambda model: model), other.build(), "fp32", pictures, tmp_path / "x", version="1")


def test_a_batch_in_which_nothing_is_labelled_teaches_nothing() -> None:
    logits = torch.randn(2, 11, 4, 6, requires_grad=True)
    loss = STREETS.loss(logits, torch.full((2, 4, 6), 11), None)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named_at_once(
    digits: tuple[LabelledImages, LabelledImages], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TrainingError, match="choose another folder with --run"):
        train(SHORT, *digits, tmp_path / "run", choose_device("cpu"), epochs=1)


def test_a_run_that_is_a_file_is_named_at_once(digits: tuple[LabelledImages, LabelledImages], tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"nothing can be written into .*run .*; choose another folder with --run"):
        train(SHORT, *digits, tmp_path / "run", choose_device("cpu"), epochs=1)


def test_weights_of_another_network_are_explained() -> None:
    kept = Checkpoint.load(ROOT / "models" / "checkpoints" / "digits.pt")
    name = next(iter(kept.model))
    missing = {key: value for key, value in kept.model.items() if key != name}
    for weights in (missing, kept.model | {"other": torch.zeros(1)}, kept.model | {name: torch.zeros(3)}):
        with pytest.raises(
            CheckpointError, match=r"the checkpoint's weights are not those of digits as it is now: \S"
        ) as said:
            replace(kept, model=weights).restore()
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"later": 1},
        {"model": [1]},
        {"model": {"x": 1}},
        {"config": []},
        {"settings": "x"},
        {"task": ["digits"]},
        {"commit": 5},
        {"epoch": "1"},
        {"config": {"width": torch.zeros(3)}},
        {"config": {"widths": (1, [torch.zeros(3)])}},
        {"settings": {"with-validation": torch.zeros(3)}},
    ],
)
def test_a_checkpoint_of_other_fields_is_none_of_this_version(tmp_path: Path, change: dict[str, Any]) -> None:
    content = torch.load(ROOT / "models" / "checkpoints" / "digits.pt", weights_only=True) | change
    torch.save({name: value for name, value in content.items() if value is not None}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt is not a checkpoint of this version"):
        Checkpoint.load(tmp_path / "x.pt")


def test_weights_are_told_apart_in_whatever_precision() -> None:
    kept = Checkpoint.load(ROOT / "models" / "checkpoints" / "digits.pt")
    halved = replace(kept, model={name: value.bfloat16() for name, value in kept.model.items()})
    digests = {halved.digest(), kept.digest(), replace(halved, model=halved.model | {"x": torch.zeros(())}).digest()}
    assert len(digests) == 3


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_the_committed_files_hold_what_cuda_and_tensorrt_have(path: Path) -> None:
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & SHAPE_OPERATORS
    assert operators <= ON_CUDA_AND_TENSORRT, operators - ON_CUDA_AND_TENSORRT
