import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.book import count_correct, import_book, read_arrays
from training.data.mnist import load_mnist
from training.errors import DataError
from training.models.deep_cnn import DeepCNN


def _arrays_of(model: DeepCNN) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        array = weight.detach().numpy().astype(np.float64)
        arrays[f"W{i}"] = array.T if array.ndim == 2 else array
        arrays[f"b{i}"] = bias.detach().numpy().astype(np.float64)
    return arrays


def test_weights_go_where_they_belong(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DeepCNN().eval()
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(_arrays_of(model)))
    digits = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(import_book(path)(digits), model(digits))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_Evil(), "which is not part of an array"),
        ({"W1": _Evil()}, "which is not part of an array"),
        ([1, 2], "does not hold a dict of arrays"),
        ({"W1": np.array(["text"])}, "does not hold a dict of arrays"),
        ({"W1": np.array([object()])}, "which is not part of an array|cannot be read|does not hold"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.pkl"
    try:
        path.write_bytes(pickle.dumps(content))
    except (TypeError, AttributeError, pickle.PicklingError):
        pytest.fail("the test's own content must pickle")
    with pytest.raises(DataError, match=message):
        read_arrays(path)
    assert not (tmp_path / "evil").exists()


def test_missing_or_misshapen_arrays_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "params.pkl"
    with pytest.raises(DataError, match="no file"):
        read_arrays(path)
    arrays = _arrays_of(DeepCNN())
    path.write_bytes(pickle.dumps({name: a for name, a in arrays.items() if name != "b8"}))
    with pytest.raises(DataError, match="lacks W8 or b8"):
        import_book(path)
    path.write_bytes(pickle.dumps(arrays | {"W3": np.zeros((1, 2, 3, 4))}))
    with pytest.raises(DataError, match=r"W3 has the shape \(1, 2, 3, 4\)"):
        import_book(path)


def test_rightly_read_digits_are_counted(mnist: Path) -> None:
    test = load_mnist(mnist, "test")
    torch.manual_seed(0)
    model = DeepCNN().eval()
    answers = model(test.images.permute(0, 3, 1, 2) / 255).argmax(1)
    assert count_correct(model, test) == int((answers == test.targets).sum())
    assert count_correct(model, replace(test, targets=answers.byte())) == len(test)


@pytest.mark.data
def test_the_published_weights_score_what_the_book_says(data: Path) -> None:
    model = import_book(data / "book" / "deep_convnet_params.pkl")
    test = load_mnist(data, "test")
    assert count_correct(model, test) == 9938
