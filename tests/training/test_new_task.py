"""A task of the tests' own: what `training/registry.py` promises, that adding it to `TASKS` is enough.

And what `open_model` says of files: of which task they are, or that they are none of this project's.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from training import command_line
from training.data.camvid import load_camvid
from training.data.labelled import LabelledImages, Split
from training.data.street_augmentation import StreetAugmentation
from training.errors import DataError, ExportError
from training.evaluate import answer, open_model, saw, score
from training.export import IR_VERSION, OPSET, served
from training.manifest import METADATA_KEY, manifest
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


def _graph(task: Task, weight: float = 0.0) -> onnx.ModelProto:
    """A tiny graph with the task's ends: a picture's darkest channel, or `weight` for every byte of a digit."""
    node, channels = onnx.helper.make_node, 1 if task.color == "L" else 3
    pictures, shape = (task.height, task.width, channels), [task.height, task.width]
    name, kind, weights = "labels", onnx.TensorProto.UINT8, []
    if task.kind == "segmentation":
        nodes = [node("ArgMin", ["images"], ["x"], axis=3, keepdims=0), node("Cast", ["x"], [name], to=kind)]
    else:
        name, kind, shape = "probabilities", onnx.TensorProto.FLOAT, [len(task.classes)]
        size = (int(np.prod(pictures)), len(task.classes))
        weights = [onnx.helper.make_tensor("weights", kind, size, np.full(size, weight, np.float32))]
        nodes = [
            node("Flatten", ["images"], ["flat"]),
            node("Cast", ["flat"], ["bytes"], to=kind),
            node("MatMul", ["bytes", "weights"], [name]),
        ]
    ends = [
        onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", *pictures]),
        onnx.helper.make_tensor_value_info(name, kind, ["N", *shape]),
    ]
    graph = onnx.helper.make_graph(nodes, "x", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _save(proto: onnx.ModelProto, text: str, path: Path) -> Path:
    proto.metadata_props.add(key=METADATA_KEY, value=text)
    onnx.save(proto, path)
    return path


def _exported(task: Task, path: Path, /, **provenance: str | None) -> Path:
    """A tiny file with the task's manifest, `provenance` changed in it (None: taken out)."""
    content = manifest(task, "fp32", "1")
    changed = content["provenance"] | provenance
    content["provenance"] = {name: value for name, value in changed.items() if value is not None}
    return _save(_graph(task), json.dumps(content), path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": 2}, r"x\.onnx has metadata of schema 2, newer than the 1 read here: update Sightline"),
        *(({"schema": schema}, r"damaged .*\(the schema") for schema in ("1", float("nan"), 0, True, 1.0, None)),
        ({"name": "x/../../service/static/page"}, r"damaged .*\(the name 'x/\.\./"),
        ({"name": None}, "damaged"),
        ({"version": "1/2"}, r"damaged .*\(the version '1/2'"),
        ({"precision": "int8"}, r"damaged .*\(the precision 'int8'"),
        ({"preparation": "crop"}, r"damaged .*\(the preparation 'crop'"),
        ({"provenance": {"task": "digits", "value": 1.1}}, r"damaged .*\(the score 1\.1"),
        ({"provenance": {"task": "digits", "value": float("nan")}}, r"damaged .*\(the score nan"),
        ({"provenance": {"task": "digits", "trained_on": None}}, r"damaged .*\(trained_on None"),
        ({"provenance": {"task": "digits", "trained_on": "train"}}, r"damaged .*\(trained_on 'train'"),
        ({"provenance": {"task": "digits", "trained_on": [1]}}, r"damaged .*\(trained_on \[1\]"),
        ({"provenance": 5}, "damaged"),
        (
            {"input": {"height": 32, "width": 28, "color": "L"}},
            "is for pictures of .*32.*, but digits for those of .*28",
        ),
    ],
)
def test_a_manifest_that_was_not_written_here_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    text = json.dumps(manifest(DIGITS, "fp32", "1") | changes)
    with pytest.raises(ExportError, match=said):
        open_model(_save(_graph(DIGITS), text, tmp_path / "x.onnx"))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "5", "{"])
def test_metadata_that_are_no_manifest_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ExportError, match="damaged 'sightline' metadata"):
        open_model(_save(_graph(DIGITS), text, tmp_path / "x.onnx"))


def test_metadata_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = _save(_graph(DIGITS), json.dumps(manifest(DIGITS, "fp32", "1")), tmp_path / "x.onnx")
    path.write_bytes(path.read_bytes().replace(b'"schema"', b'"sch\xffma"'))
    with pytest.raises(ExportError, match="damaged 'sightline' metadata"):
        open_model(path)


def test_what_a_file_calls_its_classes_is_shown_in_one_line(tmp_path: Path) -> None:
    content = manifest(DIGITS, "fp32", "1")
    content["classes"] = [{"name": "a\n\x1b[31m"}, {"name": "b" * 50_000}]
    with pytest.raises(ExportError, match=r"classification into 'a\\n\\x1b\[31m', bb") as failure:
        open_model(_save(_graph(DIGITS), json.dumps(content), tmp_path / "x.onnx"))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 1000


def test_a_graph_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    text = json.dumps(manifest(DIGITS, "fp32", "1"))
    with pytest.raises(ExportError, match=r"holds a graph with the ends .*'labels'.*; digits has .*'probabilities'"):
        open_model(_save(_graph(STREETS), text, tmp_path / "x.onnx"))


def test_answers_that_are_none_are_not_scored(tmp_path: Path) -> None:
    data = LabelledImages(torch.ones(3, 28, 28, 1, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8), "here")
    for weight in (float("nan"), 1.0, -1.0):
        path = _save(_graph(DIGITS, weight), json.dumps(manifest(DIGITS, "fp32", "1")), tmp_path / "x.onnx")
        with pytest.raises(ExportError, match="something that is no probability"):
            answer(open_model(path)[0], DIGITS, data)
    one = replace(STREETS, classes=STREETS.classes[:2])
    frames = LabelledImages(
        torch.full((1, 360, 480, 3), 9, dtype=torch.uint8), torch.zeros(1, 360, 480, dtype=torch.uint8), "here"
    )
    frames.images[..., 2] = 0
    session = onnxruntime.InferenceSession(_save(_graph(STREETS), "{}", tmp_path / "x.onnx"))
    with pytest.raises(ExportError, match="names class 2, and streets has 2 classes"):
        answer(session, one, frames)


def test_without_a_labelled_pixel_there_is_nothing_to_score() -> None:
    labels = torch.full((1, 360, 480), 11, dtype=torch.uint8)
    data = LabelledImages(torch.zeros(1, 360, 480, 3, dtype=torch.uint8), labels, "here")
    with pytest.raises(DataError, match="here holds no labelled pixel"):
        score(STREETS, np.zeros((1, 360, 480), np.uint8), data)


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
