"""`scripts/train-digits` and `scripts/train-streets`: what they run, in which order, and what each step is given.

The trainings take hours, so a program in Python's place notes what it is asked and leaves the files that the real one
would. That the real one takes such options is checked against its own command line.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from tests.conftest import ROOT
from training.command_line import app

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts are for a POSIX shell")

_STAND_IN = """#!{python}
import pathlib, sys
command, *words = sys.argv[3:]
asked = [word for word in words if word.endswith(".pt")]
option = {{"train": "--run", "average": "--out", "seeds": "--keep"}}.get(command)
made = pathlib.Path(words[words.index(option) + 1]) if option else None
for path in map(pathlib.Path, asked):
    assert path == made or path.is_file(), f"{{path}} is not there yet"
with open("asked", "a") as log:
    print(command, *words, file=log)
if command == "train":
    made.mkdir(parents=True, exist_ok=True)
    (made / "last.pt").touch(), (made / "best.pt").touch()
elif made:
    made.parent.mkdir(parents=True, exist_ok=True)
    made.touch()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts beside an environment that is complete, whose Python is the stand-in."""
    folder = tmp_path / "My Projects" / "sightline"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/train-digits", "scripts/train-streets", "scripts/environment.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # Asked for its version (`-c`), it is new enough.
    python.write_text(
        _STAND_IN.format(python=sys.executable).replace("\n", '\nimport sys; "-c" in sys.argv and sys.exit()\n', 1)
    )
    python.chmod(0o755)
    shutil.copy(ROOT / "pyproject.toml", folder / ".venv" / ".sightline-cpu-train")
    return folder


def _asked(checkout: Path, script: str) -> list[list[str]]:
    """The commands that a run of the script asks of `python -m training`, each of which must be one."""
    (checkout / "asked").unlink(missing_ok=True)
    subprocess.run(["/bin/sh", script, "pictures", "out"], cwd=checkout, check=True)
    commands = [line.split() for line in (checkout / "asked").read_text().splitlines()]
    group = typer.main.get_group(app)
    for name, *words in commands:
        parsed = group.commands[name].make_context(name, list(words))
        assert parsed.params["data"] == Path("pictures")
    return commands


def _of(commands: list[list[str]], name: str) -> list[list[str]]:
    return [words for command, *words in commands if command == name]


@pytest.mark.parametrize("script", ["scripts/train-digits", "scripts/train-streets"])
@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("-h", 0), ("--data", 2)])
def test_what_is_no_folder_is_told_the_usage_and_trains_nothing(
    checkout: Path, script: str, word: str, code: int
) -> None:
    told = subprocess.run(["/bin/sh", script, word], cwd=checkout, check=False, capture_output=True, text=True)
    assert told.returncode == code
    assert f"{script} [DATA [OUT]]" in told.stderr
    assert not (checkout / "asked").exists()


def test_train_digits(checkout: Path) -> None:
    commands = _asked(checkout, "scripts/train-digits")
    trained = [(words[0], words[words.index("--seed") + 1]) for words in _of(commands, "train")]
    seeds = [("digits", str(seed)) for seed in range(5)]
    assert trained == [*seeds, ("digits-5x5", "0")]
    assert all("--download" in words for words in _of(commands, "train"))  # of what is there, nothing is fetched
    assert not any("--resume" in words for words in _of(commands, "train"))
    alone, together = _of(commands, "export")
    assert "--name" not in alone
    assert together[together.index("--name") + 1] == "digits-ensemble"
    members = [word for word in together if word.endswith(".pt")]
    assert [Path(member).parent.name for member in members] == ["digits", "digits-5x5"]
    assert members[:1] == [word for word in alone if word.endswith(".pt")]

    assert all("--resume" in words for words in _of(_asked(checkout, "scripts/train-digits"), "train"))


def test_train_streets(checkout: Path) -> None:
    commands = _asked(checkout, "scripts/train-streets")
    assert [command for command, *_ in commands] == ["train", "train", "export"] * 2
    alone, alone_on, served, served_on = _of(commands, "train")
    assert not any("--with-validation" in words for words in (alone, alone_on))
    assert all("--with-validation" in words for words in (served, served_on))
    assert "--download" in alone
    assert not any({"--init", "--resume", "--epochs"} & set(words) for words in (alone, served))
    for begun, on in ((alone, alone_on), (served, served_on)):
        assert on[on.index("--init") + 1] == begun[begun.index("--run") + 1] + "/last.pt"
        assert "--epochs" in on
    for trained, exported, split in zip((alone_on, served_on), _of(commands, "export"), ("val", "train"), strict=True):
        assert exported[0] == trained[trained.index("--run") + 1] + "/last.pt"
        assert exported[exported.index("--split") + 1] == split
    assert exported[exported.index("--out") + 1] == "out"

    assert all("--resume" in words for words in _of(_asked(checkout, "scripts/train-streets"), "train"))
