"""A task of the tests' own: what `training/registry.py` promises, that adding it to `TASKS` is enough."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import onnx
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from training import command_line
from training.data.camvid import load_camvid
from training.data.labelled import LabelledImages, Split
from training.data.street_augmentation import StreetAugmentation
from training.errors import ExportError
from training.evaluate import open_model, saw
from training.export import IR_VERSION, METADATA_KEY, OPSET, manifest, served
from training.recipe import Recipe, Stage
from training.registry import TASKS
from training.tasks import DIGITS, STREETS, LabelsPixels, Task

ROAD = 3  # of CamVid's classes


@dataclass(frozen=True)
class PixelwiseConfig:
    """Dimensions of a `Pixelwise`."""

    classes: int = 2
    width: int = 4


class Pixelwise(nn.Module):
    """Classes of single pixels by their colour alone."""

    def __init__(self, config: PixelwiseConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, config.width, 1), nn.ReLU(), nn.Conv2d(config.width, config.classes, 1)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits N×classes×H×W."""
        logits: Tensor = self.layers(pictures)
        return logits


class OwnLabels(Pixelwise):
    """One whose labels can be told from the maximum of its logits."""

    def predict(self, pictures: Tensor) -> Tensor:
        """The less probable class."""
        return self.forward(pictures).argmin(1)


def _roads(data: Path, split: Split) -> LabelledImages:
    """CamVid with two classes, road and anything else; four times, since the made one is too small to export with."""
    frames = load_camvid(data, split)
    targets = torch.where(frames.targets < len(STREETS.classes), (frames.targets == ROAD).byte(), frames.targets)
    return LabelledImages(frames.images.repeat(4, 1, 1, 1), targets.repeat(4, 1, 1), frames.source)


def _task(network: type[Pixelwise] = Pixelwise) -> Task:
    config = PixelwiseConfig()
    return replace(
        STREETS,
        name="roads",
        classes=(("other", "#000000"), ("road", "#804080")),
        config=config,
        build=lambda: network(config),
        load=_roads,
        hold_out=None,
        recipe=Recipe(
            epochs=2,
            batch_size=2,
            learning_rate=1e-1,
            weight_decay=0,
            stages=(Stage(0, StreetAugmentation(crop=(64, 64))),),
        ),
    )


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(command_line.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_trained_exported_and_scored_by_its_name(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "roads", _task())
    run, models = tmp_path / "run", tmp_path / "models"
    _run("train", "roads", "--data", camvid, "--run", run, "--device", "cpu")
    _run("export", run / "best.pt", "--data", camvid, "--out", models, "--name", "mine")
    session, exported, task = open_model(models / "mine.fp32.onnx")
    assert (exported["name"], exported["provenance"]["task"], task.name) == ("mine", "roads", "roads")
    assert session.get_outputs()[0].name == "labels"
    output = _run("evaluate", models / "mine.fp32.onnx", "--data", camvid)
    assert [line.split()[0] for line in output.splitlines()[-2:]] == ["other", "road"]  # not the eleven of `streets`
    output = _run("report", models / "mine.fp32.onnx", "--data", camvid, "--out", tmp_path / "report")
    assert "road" in output


@pytest.mark.parametrize("network", [Pixelwise, OwnLabels])
def test_its_own_labels_are_what_is_exported(network: type[Pixelwise]) -> None:
    torch.manual_seed(0)
    model = network(PixelwiseConfig()).eval()
    pictures = torch.randint(0, 256, (2, 6, 8, 3), dtype=torch.uint8)
    found = served(_task(network), model, torch.float32)(pictures)
    most_probable = model(pictures.permute(0, 3, 1, 2) / 255).argmax(1)
    assert isinstance(model, LabelsPixels) is (network is OwnLabels)
    assert found.dtype == torch.uint8
    assert torch.equal(found, 1 - most_probable if network is OwnLabels else most_probable)


def _exported(task: Task, path: Path, /, **provenance: str | None) -> Path:
    """A tiny file with the task's manifest, `provenance` changed in it (None: taken out)."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, ["N"]) for name in ("images", "labels")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["images"], ["labels"])], "x", ends[:1], ends[1:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content = manifest(task, "fp32", "1")
    changed = content["provenance"] | provenance
    content["provenance"] = {name: value for name, value in changed.items() if value is not None}
    proto.metadata_props.add(key=METADATA_KEY, value=json.dumps(content))
    onnx.save(proto, path)
    return path


def test_files_that_do_not_name_what_they_were_trained_on_were_on_the_training_split(tmp_path: Path) -> None:
    _, manifest, _ = open_model(_exported(STREETS, tmp_path / "x.onnx", trained_on=None))
    assert [split for split in get_args(Split) if saw(manifest, split)] == ["train"]


def test_files_that_do_not_name_their_task_are_of_the_first_with_their_data(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    for task in (DIGITS, STREETS):
        assert open_model(_exported(task, path, task=None))[2] is task
    with pytest.raises(ExportError, match=r"for segmentation into other, road, but streets for .* into sky, building"):
        open_model(_exported(_task(), path, task=None))
    with pytest.raises(ExportError, match="trained on 'KITTI' for segmentation; no task here has that data"):
        open_model(_exported(STREETS, path, task=None, dataset="KITTI"))


def test_a_named_task_must_be_here_and_have_the_same_classes(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    assert open_model(_exported(TASKS["book"], path))[2].name == "book"
    with pytest.raises(ExportError, match=r"is of the task 'roads'; there are digits, digits-5x5, .*, streets"):
        open_model(_exported(_task(), path))
    with pytest.raises(ExportError, match="into other, road, but streets"):
        open_model(_exported(_task(), path, task="streets"))
    with pytest.raises(ExportError, match="damaged 'sightline' metadata"):
        open_model(_exported(STREETS, path, task=None, dataset=None))
