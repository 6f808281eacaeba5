"""The mean of several trainings' weights, on tiny networks and streets that are made here."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.training.test_training import TINY_STREETS
from training import checkpoint, command_line
from training.checkpoint import Checkpoint, plain_config
from training.data.camvid import load_camvid
from training.device import choose_device
from training.train import refresh_batch_norm


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three checkpoints, the last two from one start, of a network that stands for `streets`."""
    monkeypatch.setattr(checkpoint, "TASKS", {"streets": TINY_STREETS})
    paths = []
    for seed, start in enumerate(("one", "two", "two")):
        torch.manual_seed(seed)
        model = TINY_STREETS.build()
        state = Checkpoint("streets", plain_config(TINY_STREETS), 1, 1, seed, model.state_dict())
        paths.append(tmp_path / f"{seed}.pt")
        settings = {"init": start, "with-validation": start == "two"}
        replace(state, settings=settings, commit=f"commit-{min(seed, 1)}").save(paths[-1])
    return paths


def _average(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line.app, ["average", *map(str, arguments)])
    return result.exit_code, str(result.exception) if result.exception else result.output


def test_weights_are_averaged_and_statistics_measured_anew(trained: list[Path], camvid: Path, tmp_path: Path) -> None:
    code, output = _average(*trained[1:], "--data", camvid, "--out", tmp_path / "mean.pt", "--device", "cpu")
    assert code == 0, output
    mean, *members = (Checkpoint.load(path) for path in (tmp_path / "mean.pt", *trained[1:]))
    assert mean.commit == "commit-1"
    _, model = mean.restore()
    for name, parameter in model.named_parameters():
        expected = (members[0].model[name] + members[1].model[name]) / 2
        torch.testing.assert_close(parameter.detach(), expected)
        # Normalisation's begin the same in every network.
        assert parameter.ndim < 4 or not torch.equal(parameter, members[0].model[name])
    # Measured again, nothing changes; the members' own statistics, those of no training, were 0 and 1.
    device = choose_device("cpu").suited_to(TINY_STREETS.recipe)
    model.to(memory_format=device.memory_format)  # type: ignore[call-overload] # the stub lacks it
    seen = load_camvid(camvid, "train") + load_camvid(camvid, "val")  # as their settings have it
    refresh_batch_norm(model, seen, device, TINY_STREETS.recipe.batch_size)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, mean.model[name], rtol=1e-3, atol=1e-3)  # summed in another order
        if name.endswith("running_var"):
            assert not torch.equal(value, members[0].model[name])


def test_weights_of_different_starts_are_refused(trained: list[Path], camvid: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean.pt"
    assert "the same weights (--init)" in _average(*trained, "--data", camvid, "--out", out)[1]
    changed = Checkpoint.load(trained[2])
    replace(changed, settings={"init": "two", "with-validation": False}).save(trained[2])
    assert "not trained on the same pictures" in _average(*trained[1:], "--data", camvid, "--out", out)[1]
    for path in trained[:2]:
        replace(Checkpoint.load(path), settings={"init": None}).save(path)
    assert "the same weights (--init)" in _average(*trained[:2], "--data", camvid, "--out", out)[1]
    assert not out.exists()


def test_what_a_training_began_from_may_be_averaged_with_it(trained: list[Path], camvid: Path, tmp_path: Path) -> None:
    start, child, other = map(Checkpoint.load, trained)
    replace(start, settings={"init": "none of these", "with-validation": True}).save(trained[0])
    replace(child, settings={"init": start.digest(), "with-validation": True}).save(trained[1])
    code, output = _average(*trained[1::-1], "--data", camvid, "--out", tmp_path / "mean.pt", "--device", "cpu")
    assert code == 0, output
    mean = Checkpoint.load(tmp_path / "mean.pt")
    name = next(iter(name for name, value in mean.model.items() if value.ndim == 4 and "encoder" in name))
    torch.testing.assert_close(mean.model[name], (start.model[name] + child.model[name]) / 2)
    assert mean.setting("init") == start.digest()
    # What it was trained on does not matter of the beginning, nor does its name: a task may have another's network.
    replace(start, task="other", settings={"with-validation": False}).save(trained[0])
    code, output = _average(*trained[:2], "--data", camvid, "--out", tmp_path / "mean.pt", "--device", "cpu")
    assert code == 0, output
    assert Checkpoint.load(tmp_path / "mean.pt").setting("with-validation")
    # One that began elsewhere does not belong to them, nor a grandchild to its grandparent.
    assert "the same weights (--init)" in _average(*trained, "--data", camvid, "--out", tmp_path / "three.pt")[1]
    replace(other, settings={"init": child.digest(), "with-validation": True}).save(trained[2])
    assert "the same weights (--init)" in _average(*trained, "--data", camvid, "--out", tmp_path / "three.pt")[1]
    assert not (tmp_path / "three.pt").exists()


def test_a_mean_of_one_is_refused(trained: list[Path], camvid: Path, tmp_path: Path) -> None:
    for alone in (trained[1:2], trained[1:2] * 2):
        assert "two checkpoints at least" in _average(*alone, "--data", camvid, "--out", tmp_path / "mean.pt")[1]
    assert f"{tmp_path} is a folder" in _average(*trained[1:], "--data", camvid, "--out", tmp_path)[1]
