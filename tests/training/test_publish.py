"""From checkpoints to the folder of served files, and what is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from training import export
from training.checkpoint import Checkpoint, plain_config
from training.data.labelled import LabelledImages, Split
from training.errors import CheckpointError, ExportError, TrainingError
from training.evaluate import evaluate, open_model, saw
from training.manifest import Precision
from training.publish import publish
from training.registry import TASKS
from training.seeds import score_seeds
from training.splits import training_and_validation
from training.tasks import DIGITS, STREETS, Task


def _checkpoint(name: str = "digits", *, seed: int = 0, commit: str = "abc") -> Checkpoint:
    torch.manual_seed(seed)
    task = TASKS[name]
    return Checkpoint(name, plain_config(task), 1, 1, seed, task.build().state_dict(), commit=commit)


def test_files_are_scored_and_entered_into_the_sums(mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    out.mkdir()
    (out / "SHA256SUMS").write_text("")
    made = publish([_checkpoint()], mnist, "test", out, version="4")
    assert [each.path.name for each in made] == ["digits.fp32.onnx", "digits.fp16.onnx"]
    assert {path.name for path in out.iterdir()} == {"SHA256SUMS", *(each.path.name for each in made)}
    for each in made:
        session, manifest, task = open_model(each.path)
        assert task is DIGITS
        assert each.scores.values == evaluate(session, task, DIGITS.load(mnist, "test")).values
        assert manifest["version"] == "4"
        assert manifest["provenance"] == {
            "task": "digits",
            "dataset": "MNIST",
            "split": "test",
            "metric": "accuracy",
            "value": each.scores.values["accuracy"],
            "commit": "abc",
            "trained_on": ["train"],
        }
        digest = hashlib.sha256(each.path.read_bytes()).hexdigest()
        assert f"{digest}  {each.path.name}" in (out / "SHA256SUMS").read_text().splitlines()


def test_what_cannot_answer_together_is_refused(tmp_path: Path) -> None:
    two = [_checkpoint(seed=seed) for seed in range(2)]
    with pytest.raises(TrainingError, match="give it a name"):
        publish(two, tmp_path, "test", tmp_path)
    for others in ([two[0], _checkpoint("streets")], [_checkpoint("streets")] * 2):
        with pytest.raises(TrainingError, match="only classifiers of the same pictures into the same classes"):
            publish(others, tmp_path, "test", tmp_path, name="both")


def test_members_of_an_ensemble_may_differ_in_their_network(mnist: Path, tmp_path: Path) -> None:
    members = [_checkpoint("digits", commit="abc"), _checkpoint("digits-5x5", seed=1, commit="def")]
    made = publish(members, mnist, "test", tmp_path, name="both")[0]
    session, manifest, task = open_model(made.path)
    assert (manifest["name"], manifest["provenance"]["commit"], task.name) == ("both", "abc, def", "digits")
    pictures = DIGITS.load(mnist, "test").images
    (answer,) = session.run(None, {"images": pictures.numpy()})
    with torch.inference_mode():
        floats = pictures.permute(0, 3, 1, 2) / 255
        each = [member.restore()[1].eval()(floats).softmax(1) for member in members]
    np.testing.assert_allclose(answer, torch.stack(each).mean(0).numpy(), atol=1e-5)
    assert (each[0] - each[1]).abs().max() > 1e-3  # not one of them twice


def test_an_empty_name_does_not_stand_for_the_tasks(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="would not serve the name ''"):
        publish([_checkpoint()], mnist, "test", tmp_path / "models", name="")
    assert not (tmp_path / "models").exists()


def test_too_few_pictures_leave_no_file(camvid: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    with pytest.raises(ExportError, match="there are 2 pictures to compare answers to; at least 8 are needed"):
        publish([_checkpoint("streets")], camvid, "test", out)
    assert not out.exists()
    _checkpoint("streets").save(tmp_path / "x.pt")
    with pytest.raises(ExportError, match="at least 8 are needed"):
        score_seeds([tmp_path / "x.pt"], camvid, "test")


def test_weights_to_begin_with_must_fit(tmp_path: Path) -> None:
    _checkpoint().save(tmp_path / "x.pt")
    assert Checkpoint.load_initial(tmp_path / "x.pt", DIGITS).task == "digits"
    with pytest.raises(CheckpointError, match=r"x\.pt is of digits, whose network is not that of streets"):
        Checkpoint.load_initial(tmp_path / "x.pt", STREETS)


def test_what_is_trained_and_validated_on(mnist: Path) -> None:
    def sizes(training: LabelledImages, validation: LabelledImages | None) -> tuple[int, int | None]:
        return len(training), None if validation is None else len(validation)

    assert sizes(*training_and_validation(DIGITS, mnist)) == (200, 5000)
    assert sizes(*training_and_validation(DIGITS, mnist, with_validation=True)) == (5200, None)
    with pytest.raises(TrainingError, match="digits has no sequences"):
        training_and_validation(DIGITS, mnist, hold_out="0001TP")
    with pytest.raises(TrainingError, match="exclude each other"):
        training_and_validation(STREETS, mnist, hold_out="0001TP", with_validation=True)


def test_a_failure_in_one_precision_leaves_both_as_they_were(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish([_checkpoint()], mnist, "test", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.onnx")}

    def fails(_task: Task, precision: Precision, *_: object) -> None:
        if precision == "fp16":
            raise ExportError("they differ")

    monkeypatch.setattr(export, "check_parity", fails)
    with pytest.raises(ExportError, match="they differ"):
        publish([_checkpoint(seed=1)], mnist, "test", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("digits*")} == before


def test_a_score_on_pictures_that_were_trained_on_is_not_called_validation(mnist: Path, tmp_path: Path) -> None:
    state = replace(_checkpoint(), settings={"with-validation": True})
    later = replace(_checkpoint(), settings={"with-validation": False, "init-with-validation": True})
    for each in (state, later):
        with pytest.raises(TrainingError, match="was trained on the validation split too"):
            publish([_checkpoint(), each], mnist, "val", tmp_path, name="both")
    made = publish([state], mnist, "test", tmp_path)[0]
    _, manifest, _ = open_model(made.path)
    assert [split for split in get_args(Split) if saw(manifest, split)] == ["train", "val"]


def test_seeds_are_compared_at_the_end_of_one_recipe(mnist: Path, tmp_path: Path) -> None:
    states = [replace(_checkpoint(seed=seed), settings={"recipe": "abc"}) for seed in range(2)]
    for other, message in (
        (replace(states[1], epochs=2), "1.pt is of epoch 1 of 2; seeds are compared at the end"),
        (replace(states[1], settings={"with-validation": True}), "1.pt, or what it began with, was trained on the"),
        (replace(states[1], settings={"recipe": "def"}), "different epochs, learning rates or recipes"),
        (replace(states[1], epoch=2, epochs=2), "different epochs, learning rates or recipes"),
    ):
        paths = [tmp_path / f"{seed}.pt" for seed in range(2)]
        for path, state in zip(paths, (states[0], other), strict=True):
            state.save(path)
        with pytest.raises(TrainingError, match=message):
            score_seeds(paths, mnist, "test")
