"""Ablations: what their rows change, and that trials are run once, counted and tabled."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_training import TINY_STREETS
from training.ablation import rows, trials
from training.ablation.half_size import half_size, halve
from training.ablation.rows import CHAPTER, PARTS, Row, digits_rows, streets_rows
from training.ablation.tables import table
from training.ablation.trials import Shortening, read_trials, run, trial_folder
from training.data.labelled import LabelledImages
from training.data.street_augmentation import StreetAugmentation
from training.device import Device
from training.errors import TrainingError
from training.models.deep_cnn import DeepCNN
from training.tasks import DIGITS, STREETS

CPU = Device(torch.device("cpu"), bfloat16=False)


@pytest.mark.parametrize("row", [*digits_rows(), *streets_rows()], ids=lambda row: row.name)
def test_every_row_trains(row: Row) -> None:
    task = row.task
    torch.manual_seed(0)
    model = task.build()
    generator = torch.Generator().manual_seed(0)
    side = 28 if task.kind == "classification" else 64
    pictures = torch.rand(2, 1 if task.color == "L" else 3, side, side)
    targets = torch.tensor([3, 4]) if task.kind == "classification" else torch.randint(0, 11, (2, side, side))
    for epoch in range(10):  # in every stage
        augmented, labels = task.recipe.stage(epoch, 10).augmentation(pictures, targets, generator)
    if task.kind == "classification":
        pictures, targets = augmented, labels
    else:
        assert labels.shape == augmented[:, 0].shape
    optimizer = task.recipe.optimizer([{"params": list(model.parameters())}], 1e-3)
    loss = task.loss(model(pictures), targets, None)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_weather_there_is_none() -> None:
    (row,) = (row for row in streets_rows() if row.name == "no weather")
    for stage in row.task.recipe.stages:
        augmentation = stage.augmentation
        assert isinstance(augmentation, StreetAugmentation)
        weather = ("illumination", "haze", "dusk", "night", "rain", "shadow", "noise", "blur_probability")
        assert {getattr(augmentation, name) for name in weather} == {0.0}


def test_rows_have_names_of_their_own() -> None:
    for each in (digits_rows(), streets_rows()):
        assert len({trial_folder(Path(), row.name, "0", Shortening(1), "") for row in each}) == len(each)


def test_the_first_row_is_the_chapters_training() -> None:
    model = CHAPTER.build()
    assert isinstance(model, DeepCNN)
    assert not model.config.batch_norm
    assert (model.config.dropout, model.config.output_dropout) == (0.5, 0.5)
    assert CHAPTER.recipe.schedule(0.01) == CHAPTER.recipe.schedule(0.99) == 1
    picture = torch.rand(1, 1, 28, 28)
    assert CHAPTER.recipe.stage(0, 1).augmentation(picture, torch.tensor([1]), torch.Generator())[0] is picture


def test_trials_are_run_once_and_tabled(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = replace(CHAPTER, recipe=replace(CHAPTER.recipe, batch_size=20, learning_rate=1e-2))
    monkeypatch.setitem(rows.ROWS, "digits", lambda: [Row("quick", quick), Row("never", DIGITS)])
    monkeypatch.setitem(rows.PARTS, "digits", ("0", "1"))
    out = tmp_path / "out"
    run("digits", mnist, out, CPU, only=["qu"], shortening=Shortening(2, 40))
    lines = read_trials(out)
    expected_lines = [("quick", "0", 2, 40), ("quick", "1", 2, 40)]
    assert [(line["row"], line["part"], line["epochs"], line["pictures"]) for line in lines] == expected_lines
    labels = DIGITS.load(mnist, "test").targets.numpy()
    folders = [trial_folder(out, "quick", part, Shortening(2, 40), lines[0]["recipe"]) for part in ("0", "1")]
    answers = [np.load(folder / "probabilities.npy") for folder in folders]
    assert not np.array_equal(*answers)
    for line, answer in zip(lines, answers, strict=True):
        assert line["value"] == pytest.approx((answer.argmax(1) == labels).mean())
    together = ((answers[0] + answers[1]).argmax(1) == labels).mean()
    values = np.array([line["value"] for line in lines])
    expected = f"| quick | 123,552 | 2 | {values.mean():.2%} ± {values.std(ddof=1):.2%} | {together:.2%} |"
    assert table("digits", out, mnist).splitlines()[-1] == expected

    with monkeypatch.context() as patched:
        patched.setattr(trials, "run_trial", lambda *_, **__: pytest.fail("a trial that is done was run again"))
        run("digits", mnist, out, CPU, only=["quick"], shortening=Shortening(2, 40))
    assert read_trials(out) == lines

    # Another recipe under the same name is not trained into a table in which it could not stand.
    changed = replace(quick, recipe=replace(quick.recipe, weight_decay=0.5))
    with monkeypatch.context() as patched:
        patched.setitem(rows.ROWS, "digits", lambda: [Row("quick", changed)])
        with pytest.raises(TrainingError, match="trials of 'quick' of different epochs, pictures, sizes or recipes"):
            run("digits", mnist, out, CPU, shortening=Shortening(2, 40))
        elsewhere = out.with_name("changed")
        run("digits", mnist, elsewhere, CPU, shortening=Shortening(2, 40))
    assert len({line["recipe"] for line in [*lines, *read_trials(elsewhere)]}) == 2

    with pytest.raises(TrainingError, match="trials of 'quick' of different epochs, pictures, sizes or recipes"):
        run("digits", mnist, out, CPU, only=["quick"], shortening=Shortening(1, 40))
    assert read_trials(out) == lines

    # Neither is what was put together by hand, nor what an interruption cut.
    written = (out / "trials.jsonl").read_text()
    (out / "trials.jsonl").write_text(written + json.dumps(lines[0] | {"epochs": 1}) + "\n")
    with pytest.raises(TrainingError, match="trials of 'quick' of different epochs"):
        table("digits", out, mnist)
    (out / "trials.jsonl").write_text(written + '{"row": "qu')
    with pytest.raises(TrainingError, match=r"line 3 of .*trials\.jsonl is no result of a trial"):
        table("digits", out, mnist)
    earlier = [{name: value for name, value in line.items() if name != "recipe"} for line in lines]  # not kept at first
    (out / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in earlier))
    with pytest.raises(TrainingError, match="trials of 'quick' of different epochs"):
        run("digits", mnist, out, CPU, only=["quick"], shortening=Shortening(2, 40))


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ([], ["deep", "net", "net-wide"]),
        (["net"], ["net"]),
        (["net-"], ["net-wide"]),
        (["ne"], ["net", "net-wide"]),
        (["net-w", "deep"], ["deep", "net-wide"]),
    ],
)
def test_a_rows_whole_name_is_that_row_alone(
    only: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("deep", "net", "net-wide")
    monkeypatch.setitem(rows.ROWS, "digits", lambda: [Row(name, CHAPTER) for name in names])
    monkeypatch.setattr(trials, "run_trial", lambda row, *_, **__: ({"row": row.name, "part": "0"}, None))
    run("digits", tmp_path, tmp_path, CPU, only=only, parts=["0"], shortening=Shortening(1))
    assert [line["row"] for line in read_trials(tmp_path)] == expected


def test_the_table_of_held_out_sequences(tmp_path: Path) -> None:
    assert PARTS["streets"] == ("0001TP", "0006R0", "0016E5")
    results = [("ours", "0001TP", 0.5), ("ours", "0006R0", 0.6), ("ours", "0016E5", 0.4), ("half", "0006R0", 0.3)]
    lines = [
        {
            "row": row,
            "part": part,
            "epochs": 9,
            "recipe": "abc",
            "value": value,
            "validation": value + 0.1,
            "parameters": 2_500_000,
        }
        for row, part, value in results
    ]
    del lines[-1]["validation"]  # a result from before it was scored
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    late = {**lines[0], "row": "SegNet", "value": 0.2, "validation": 0.1}  # run last, and still the first row
    with (tmp_path / "trials.jsonl").open("a") as trials:
        trials.write(json.dumps(late) + "\n")
    assert table("streets", tmp_path, tmp_path).splitlines()[2:] == [
        "| SegNet | 2.50 M | 20.0% | – | – | – | 10.0% |",
        "| ours | 2.50 M | 50.0% | 60.0% | 40.0% | 50.0% | 65.0% |",
        "| half | 2.50 M | – | 30.0% | – | – | – |",
    ]


def test_a_held_out_sequence_is_scored(camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def hold_out(data: Path, part: str) -> tuple[object, object]:
        seen["part"] = part
        return STREETS.load(data, "train"), STREETS.load(data, "val")

    monkeypatch.setitem(rows.ROWS, "streets", lambda: [Row("tiny", replace(TINY_STREETS, hold_out=hold_out))])  # type: ignore[arg-type]
    monkeypatch.setitem(rows.PARTS, "streets", ("0006R0",))
    run("streets", camvid, tmp_path / "out", CPU, shortening=Shortening(1, half_size=True))
    (line,) = read_trials(tmp_path / "out")
    assert seen["part"] == "0006R0"
    assert len(line["iou"]) == 11
    assert line["half_size"]
    assert 0 <= line["value"] <= 1


def test_unknown_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no ablation of 'cats'; there are digits, streets"):
        run("cats", tmp_path, tmp_path, CPU)
    with pytest.raises(TrainingError, match=r"no row of digits begins with 'SGDD'; there are: the chapter's training;"):
        run("digits", tmp_path, tmp_path, CPU, only=["no dropout", "SGDD"])
    with pytest.raises(TrainingError, match="digits has no 7; there are 0, 1, 2, 3, 4"):
        run("digits", tmp_path, tmp_path, CPU, parts=["7", "1"])


def test_halved_scenes_keep_every_second_label_and_are_padded_with_ignored_ones() -> None:
    images = torch.arange(2 * 12 * 16 * 3, dtype=torch.uint8).reshape(2, 12, 16, 3)
    targets = torch.randint(0, 11, (2, 12, 16), dtype=torch.uint8)
    halved = halve(LabelledImages(images, targets, "made"), ignored_label=11)
    assert halved.images.shape == (2, 8, 8, 3)
    assert torch.equal(halved.targets[:, :6], targets[:, ::2, ::2])
    assert (halved.targets[:, 6:] == 11).all()
    window = images[1, 4:6, 10:12, 2].float()
    assert halved.images[1, 2, 5, 2] == window.mean().round()
    assert torch.equal(halved.images[:, 6], halved.images[:, 5])


def test_half_size_halves_crops_and_is_for_street_scenes() -> None:
    crops = [stage.augmentation.crop for stage in half_size(STREETS).recipe.stages]  # type: ignore[attr-defined]
    assert crops == [(96, 120), (128, 160), (184, 240)]
    with pytest.raises(TrainingError, match="only street scenes can be trained at half their size, not 'digits'"):
        half_size(DIGITS)
