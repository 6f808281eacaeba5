"""The command line of training, from data to exported files."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import ROOT
from tests.training.test_training import SHORT, TINY_STREETS
from training import checkpoint, command_line, registry
from training.ablation import rows
from training.ablation.rows import CHAPTER, Row
from training.checkpoint import Checkpoint, plain_config
from training.errors import TrainingError
from training.evaluate import open_model
from training.tasks import DIGITS, STREETS


def _run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, TrainingError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_a_data_set_is_fetched_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Path] = []
    monkeypatch.setattr(command_line, "TASKS", {"digits": replace(SHORT, download=fetched.append)})
    code, output = _run("download", "digits", "--data", tmp_path)
    assert (code, fetched) == (0, [tmp_path]), output
    assert f"MNIST is in {tmp_path}" in output.replace("\n", "")
    code, output = _run("download", "letters", "--data", tmp_path)
    assert (code, output) == (1, "there is nothing to train called 'letters'; there are digits")


def test_train_export_evaluate_from_the_command_line(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "TASKS", {})  # the command line must not read it anew; see below
    monkeypatch.setattr(command_line, "TASKS", {"digits": SHORT})
    run, models = tmp_path / "run", tmp_path / "models"
    train_it = ("train", "digits", "--data", mnist, "--run", run, "--device", "cpu")
    code, output = _run(*train_it, "--epochs", 1)
    assert code == 0, output
    assert "200 pictures to train on, 5,000 to validate, on CPU, float32\n" in output  # wherever bfloat16 is fast
    code, output = _run(*train_it, "--epochs", 1)
    assert code == 1
    assert "already holds a training" in output
    assert "a learning rate of inf is none" in _run(*train_it[:4], "--run", tmp_path / "x", "--learning-rate", "inf")[1]
    code, output = _run("evaluate", run / "best.pt", "--data", mnist)
    assert code == 1
    assert "a checkpoint is exported first" in output
    (tmp_path / "file").touch()
    assert (
        "is a file: --out names the folder"
        in _run("export", run / "best.pt", "--data", mnist, "--out", tmp_path / "file")[1]
    )
    code, output = _run("export", run / "best.pt", "--data", mnist, "--out", models)
    assert code == 0, output
    assert sorted(p.name for p in models.iterdir()) == ["digits.fp16.onnx", "digits.fp32.onnx"]
    code, output = _run("evaluate", models / "digits.fp32.onnx", "--data", mnist, "--split", "test")
    assert code == 0, output
    assert "of 40 correct" in output
    assert "top-5 accuracy" in output
    assert "It was trained on these pictures" not in output
    output = _run("evaluate", models / "digits.fp32.onnx", "--data", mnist, "--split", "train")[1]
    assert "It was trained on these pictures, so this is not how it does on others." in output
    _, manifest, _ = open_model(models / "digits.fp32.onnx")
    shown = next(line for line in output.splitlines() if line.startswith("accuracy"))
    assert shown.split()[-1] == f"{manifest['provenance']['value']:.2%}"


def test_an_ensemble_from_the_command_line(mnist: Path, tmp_path: Path) -> None:
    paths, networks = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(DIGITS.build().eval())
        paths.append(tmp_path / f"{seed}.pt")
        Checkpoint("digits", plain_config(DIGITS), 1, 1, seed, networks[-1].state_dict(), commit="abc").save(paths[-1])
    code, output = _run("export", *paths, "--data", mnist, "--out", tmp_path)
    assert code == 1
    assert "give it a name with --name" in output
    code, output = _run("export", *paths, "--data", mnist, "--out", tmp_path, "--name", "digits-ensemble")
    assert code == 0, output
    session, manifest, _ = open_model(tmp_path / "digits-ensemble.fp32.onnx")
    assert manifest["name"] == "digits-ensemble"
    assert manifest["provenance"]["commit"] == "abc"
    pictures = DIGITS.load(mnist, "test").images
    (answer,) = session.run(None, {"images": pictures.numpy()})
    with torch.inference_mode():
        floats = pictures.permute(0, 3, 1, 2) / 255
        expected = torch.stack([network(floats).softmax(1) for network in networks]).mean(0).numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_training_on_everything_validates_nothing(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "TASKS", {"digits": SHORT, "streets": STREETS})
    arguments = ("train", "digits", "--data", mnist, "--run", tmp_path / "run", "--device", "cpu", "--epochs", 1)
    code, output = _run(*arguments, "--with-validation", "--hold-out", "0001TP")
    assert code == 1
    assert "exclude each other" in output
    code, output = _run(*arguments, "--hold-out", "0001TP")
    assert code == 1
    assert "digits has no sequences" in output
    code, output = _run(*arguments, "--with-validation")
    assert code == 0, output
    assert "5,200 pictures to train on, 0 to validate" in output
    assert "not validated" in output
    code, output = _run(*arguments, "--resume")
    assert code == 1
    assert "begun with with-validation True, now False" in output
    best, last = (Checkpoint.load(tmp_path / "run" / name) for name in ("best.pt", "last.pt"))
    assert all(torch.equal(best.model[name], last.model[name]) for name in best.model)


def test_a_held_out_sequence_from_the_command_line(camvid: Path, tmp_path: Path) -> None:
    code, output = _run("train", "streets", "--data", camvid, "--run", tmp_path / "run", "--hold-out", "0001TP")
    assert code == 1
    assert "one of several can be held out" in output


def test_an_ablation_from_the_command_line(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rows.ROWS, "digits", lambda: [Row("plain", CHAPTER)])
    monkeypatch.setitem(rows.PARTS, "digits", ("0",))
    out = tmp_path / "out"
    code, output = _run("ablate", "digits", "--data", mnist, "--out", out, "--epochs", 1, "--device", "cpu")
    assert code == 0, output
    assert (out / "table.md").read_text() in output
    assert "| plain | 123,552 | 1 | " in output


def test_wrong_names_are_explained(mnist: Path, tmp_path: Path) -> None:
    assert "there is no device 'tpu'" in _run("train", "digits", "--data", mnist, "--device", "tpu")[1]
    assert _run("train", "letters", "--data", mnist)[1].startswith("there is nothing to train called 'letters'")
    assert "no file" in _run("evaluate", tmp_path / "x.onnx", "--data", mnist)[1]
    (tmp_path / "x.onnx").write_bytes(b"no model")
    assert "cannot be opened" in _run("evaluate", tmp_path / "x.onnx", "--data", mnist)[1]


def test_several_seeds_from_the_command_line(mnist: Path, tmp_path: Path) -> None:
    paths, correct = [], []
    validation, test = DIGITS.load(mnist, "val"), DIGITS.load(mnist, "test")
    for seed in range(3):
        torch.manual_seed(seed)
        network = DIGITS.build().eval()
        paths.append(tmp_path / f"{seed}.pt")
        Checkpoint("digits", plain_config(DIGITS), 1, 1, seed, network.state_dict()).save(paths[-1])
        with torch.inference_mode():
            answers = [network(part.images.permute(0, 3, 1, 2) / 255).argmax(1) for part in (validation, test)]
        correct.append(
            [
                (answer == part.targets).double().mean().item()
                for answer, part in zip(answers, (validation, test), strict=True)
            ]
        )
    code, output = _run("seeds", *paths, "--data", mnist, "--keep", tmp_path / "best.pt")
    assert code == 0, output
    best = int(np.argmax([on_validation for on_validation, _ in correct]))
    lines = output.splitlines()
    for seed, (on_validation, on_test) in enumerate(correct):
        expected = [str(seed), f"{on_validation:.2%}", f"{on_test:.2%}", *(["chosen"] if seed == best else [])]
        assert lines[1 + seed].split() == expected
    values = np.array(correct)[:, 1]
    assert lines[4] == f"accuracy, test: {values.mean():.2%} ± {values.std(ddof=1):.2%} over 3 seeds"
    assert Checkpoint.load(tmp_path / "best.pt").seed == best
    assert "different seeds" in _run("seeds", paths[0], paths[0], "--data", mnist)[1]


def test_an_interruption_says_how_to_go_on(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "train_model", interrupted)
    code, output = _run("train", "digits", "--data", mnist, "--run", tmp_path, "--device", "cpu")
    assert code == 130
    assert "stopped; no epoch was finished: begin again" in output
    code, output = _run("train", "digits", "--data", mnist, "--run", tmp_path, "--device", "cpu", "--resume")
    assert (code, output.startswith(f"there is nothing to resume in {tmp_path}: leave --resume out")) == (1, True)
    (tmp_path / "last.pt").touch()
    code, output = _run("train", "digits", "--data", mnist, "--run", tmp_path, "--device", "cpu", "--resume")
    assert code == 130
    assert "stopped; `--resume` goes on from the last finished epoch" in output


def test_help_names_the_folders_that_are_written_by_default() -> None:
    for command, folder in {"train": "runs/NAME", "report": "runs/report-NAME", "ablate": "runs/ablation-NAME"}.items():
        assert folder in _run(command, "--help")[1]


def test_a_score_on_what_the_weights_were_trained_on_says_so(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (command_line, checkpoint):
        monkeypatch.setattr(module, "TASKS", {"streets": TINY_STREETS})
    trained = ("train", "streets", "--data", camvid, "--device", "cpu", "--run")
    assert _run(*trained, tmp_path / "both", "--with-validation")[0] == 0
    code, output = _run(*trained, tmp_path / "tuned", "--init", tmp_path / "both" / "last.pt")
    assert code == 0, output
    assert "after epoch 1, on pictures that the weights it began with were trained on; " in output
    code, output = _run(*trained, tmp_path / "alone")
    assert "after epoch 1; " in output


def test_what_cannot_be_written_is_one_line(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    torch.manual_seed(0)
    Checkpoint("digits", plain_config(DIGITS), 1, 1, 0, DIGITS.build().state_dict()).save(tmp_path / "x.pt")
    command = [sys.executable, "-m", "training", "export", f"{tmp_path}/x.pt", "--data", f"{mnist}", "--out"]
    made = subprocess.run([*command, f"{tmp_path}/file/models"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert made.stderr.count("\n") == 1
    assert made.stderr.startswith("error: ")
    assert "file" in made.stderr


def test_without_what_it_needs_it_says_how_to_get_it() -> None:
    pretending = "import runpy, sys; sys.modules['typer'] = None; runpy.run_module('training', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretending], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("Training needs the package typer, which is not installed: run scripts/install")
    assert done.stderr.count("\n") == 1
