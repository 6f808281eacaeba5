"""The task that docs/training.md describes is trained, exported and evaluated as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from service.images import prepare
from service.manifest import ModelInput
from tests.conftest import ROOT
from training.command_line import app
from training.registry import TASKS
from training.tasks import Task


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_task_is_registered_as_it_is_said(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "training", tmp_path / "training", ignore=shutil.ignore_patterns("__pycache__"))
    (code,), (change,) = blocks("python"), blocks("diff")
    (tmp_path / "training" / "letters.py").write_text(code, encoding="utf-8")
    registry = tmp_path / "training" / "registry.py"
    before = "".join(f"{line[1:]}\n" for line in change.splitlines() if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in change.splitlines() if not line.startswith("-"))
    text = registry.read_text(encoding="utf-8")
    assert before in text
    registry.write_text(text.replace(before, after), encoding="utf-8")
    command = [sys.executable, "-m", "training", "train", "letters", "--data", "nowhere", "--run", "run"]
    for option, said in ([], "there is no nowhere/letters/train/A/*.png"), (["--download"], "put them into"):
        answer = subprocess.run([*command, *option], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert answer.returncode == 1
        assert "Traceback" not in answer.stderr
        assert said in " ".join((answer.stdout + answer.stderr).split())


def test_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("python")
    defined: dict[str, Any] = {}
    exec(code, defined)
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for row, letter in enumerate("ABC"):
            folder = tmp_path / "data" / "letters" / split / letter
            folder.mkdir(parents=True)
            for number in range(40):
                pixels = random.integers(0, 60, (40, 40), np.uint8)
                pixels[4 + 12 * row : 12 + 12 * row] = 250  # a bar, whose height tells the class
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.setitem(cast("dict[str, Task]", TASKS), "letters", defined["TASK"])
    data, models, run = (str(tmp_path / name) for name in ("data", "models", "run"))
    runner = CliRunner()
    for command in (
        ["train", "letters", "--data", data, "--run", run, "--epochs", "12"],
        ["export", f"{run}/best.pt", "--data", data, "--out", models],
        ["evaluate", f"{models}/letters.fp32.onnx", "--data", data],
    ):
        result = runner.invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert "100.00%" in result.output
    # What the network learns from is what the service makes of the same picture.
    loaded, task = defined["load_letters"](tmp_path / "data", "test"), defined["TASK"]
    with Image.open(tmp_path / "data" / "letters" / "test" / "A" / "0.png") as picture:
        model_input = ModelInput(height=task.height, width=task.width, color=task.color)
        seen = prepare(picture.convert("RGB"), model_input, task.preparation).pixels
    difference = np.abs(loaded.images[0].numpy().astype(int) - seen)
    assert difference.max() <= 1
