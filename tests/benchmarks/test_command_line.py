"""The picture benchmarks, asked for what cannot be."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import harder_pictures, harder_streets, without_a_digit
from tests.service import tiny_models

PROGRAMS = [harder_pictures.main, harder_streets.main, without_a_digit.main]
Main = Callable[[Sequence[str]], None]
NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize("main", PROGRAMS, ids=lambda main: main.__module__)
def test_data_that_is_not_there(main: Main, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"^error: no .* in {tmp_path}"):
        main(["--data", str(tmp_path), "--url", NOBODY])


@pytest.mark.parametrize(
    ("main", "option"),
    [(harder_pictures.main, "--digits"), (harder_streets.main, "--every"), (without_a_digit.main, "--count")],
)
def test_none_of_something(main: Main, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data", "data", option, "0"])
    assert f"argument {option}: 0 is less than 1" in capsys.readouterr().err


def test_a_service_that_is_not_there(mnist: Path) -> None:
    with pytest.raises(SystemExit, match=f"^error: {NOBODY}/classify.*: "):
        harder_pictures.main(["--data", str(mnist), "--url", NOBODY, "--digits", "1"])


def test_an_address_that_is_none(mnist: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: --url: Invalid port"):
        harder_pictures.main(["--data", str(mnist), "--url", "http://127.0.0.1:port", "--digits", "1"])


def test_a_model_that_is_not_there(mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.save_all(tmp_path)
    monkeypatch.setenv("SIGHTLINE_MODELS_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match=r"answered 404: There is no model 'none'"):
        harder_pictures.main(["--data", str(mnist), "--digits", "1", "--model", "none"])
