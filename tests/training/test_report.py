"""The report: what it finds, its figures and its page, on made-up data and a tiny exported model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from training import command_line
from training.data.labelled import LabelledImages
from training.errors import DataError, ReportError, TrainingError
from training.evaluate import open_model
from training.export import export
from training.models.segnet import SegNet, SegNetConfig
from training.report.charts import confusion_chart, iou_chart, learning_curves, reliability_chart, wilson_interval
from training.report.findings import classification_findings, segmentation_findings, worst_apart
from training.report.log import read_log
from training.report.page import PICTURES, html, write_report
from training.report.pictures import errors_in_color, mistakes_grid
from training.report.sections import Section, _confusions_title, classification_sections, segmentation_sections
from training.tasks import DIGITS, STREETS

TINY_CONFIG = SegNetConfig(widths=(4, 6, 8), encoder_blocks=(0, 0), decoder_blocks=(0, 0), dilations=(1,))
TINY_STREETS = replace(STREETS, config=TINY_CONFIG, build=lambda: SegNet(TINY_CONFIG))
NAMES = [name for name, _ in DIGITS.classes]


def _texts(figure: Figure) -> str:
    def of(artist: object) -> list[str]:
        own = [artist.get_text()] if hasattr(artist, "get_text") else []
        return own + [text for child in artist.get_children() for text in of(child)]  # type: ignore[attr-defined]

    return "\n".join(of(figure))


def _digits() -> tuple[np.ndarray, LabelledImages]:
    """Five digits: 0, 1, 2 read rightly, a 4 as 9 at 58%, a 9 as 4 at 90%."""
    truth, answers, sure = [0, 1, 4, 2, 9], [0, 1, 9, 2, 4], [0.99, 0.95, 0.58, 0.78, 0.9]
    probabilities = np.full((5, 10), 0.0, np.float32)
    for i in range(5):
        probabilities[i] = (1 - sure[i]) / 9
        probabilities[i, answers[i]] = sure[i]
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 28, 28, 1) * 50
    return probabilities, LabelledImages(images, torch.tensor(truth, dtype=torch.uint8), "here")


def _streets() -> tuple[np.ndarray, LabelledImages]:
    """Three frames of 4×10 pixels: right everywhere; half of the sky a building; nothing labelled."""
    truth = np.zeros((3, 4, 10), np.uint8)
    truth[:, 2:] = 3
    truth[0, 0, :5] = 11
    truth[2] = 11
    answers = np.where(truth == 11, 7, truth).astype(np.uint8)
    answers[1, 0] = 1
    images = torch.full((3, 4, 10, 3), 100, dtype=torch.uint8)
    return answers, LabelledImages(images, torch.from_numpy(truth), "here")


def test_mistakes_come_with_the_surest_first() -> None:
    probabilities, data = _digits()
    found = classification_findings(DIGITS, probabilities, data)
    assert [(m.index, m.truth, m.answer) for m in found.mistakes] == [(4, 9, 4), (2, 4, 9)]
    assert found.mistakes[0].probability == pytest.approx(0.9)
    assert found.mistakes[0].probability_of_truth == pytest.approx(0.1 / 9)
    assert found.scores.values["accuracy"] == pytest.approx(0.6)
    # Right at 99, 95 and 78%, wrong at 58 and 90%: of six pairs, only 78 against 90 stands the wrong way round.
    assert found.scores.values["AUROC of errors"] == pytest.approx(5 / 6)
    # Fifteen bins hold 0.99 and 0.95 together and the others alone.
    assert found.scores.values["calibration error"] == pytest.approx((0.06 + 0.22 + 0.58 + 0.9) / 5, abs=1e-6)


def test_classification_figures_say_what_was_found() -> None:
    probabilities, data = _digits()
    found = classification_findings(DIGITS, probabilities, data)
    grid = mistakes_grid(found.mistakes, data, NAMES, "made up")
    assert "9 → 4\n" in _texts(grid)
    assert "90.0%  #4" in _texts(grid)
    shown = [axes.images[0].get_array() for axes in grid.axes if axes.images]
    assert [int(np.asarray(picture)[0, 0]) for picture in shown] == [200, 100]
    short = _texts(mistakes_grid(found.mistakes, data, NAMES, "made up", most=1))
    assert "the surest 1 of 2" in short
    assert "#2" not in short
    chart = reliability_chart(found.reliability, "made up")
    assert "expected calibration error 35.20%, 15 bins" in _texts(chart)
    bars = {round(bar.get_x(), 3): bar.get_height() for bar in chart.axes[0].patches}  # type: ignore[attr-defined]
    assert bars == pytest.approx({0.533: 0, 0.733: 1, 0.867: 0, 0.933: 1})


def test_errors_are_coloured_and_the_diagonal_is_not() -> None:
    matrix = np.array([[9000, 2, 0], [0, 8000, 1], [0, 0, 0]])
    chart = confusion_chart(matrix, ["a", "b", "c"], "made up", shares=False)
    errors, diagonal = chart.axes[0].images
    assert _unmasked(errors) == [2, 1]
    assert errors.get_clim() == (0, 2)
    assert _unmasked(diagonal) == [9000, 8000, 0]
    assert {"9,000", "2", "8,000", "1"} <= set(_texts(chart).splitlines())
    shares = confusion_chart(np.array([[3, 1], [0, 0]]), ["a", "b"], "made up", shares=True)
    assert {"75", "25"} <= set(_texts(shares).splitlines())


def test_frames_come_with_the_worst_first_and_unlabelled_ones_not_at_all() -> None:
    answers, data = _streets()
    found = segmentation_findings(TINY_STREETS, answers, data)
    assert [frame.index for frame in found.frames] == [1, 0]
    worst = found.frames[0]
    assert worst.mean_iou == pytest.approx((0.5 + 0 + 1) / 3)  # sky, building, road
    assert worst.wrong == pytest.approx(0.25)
    assert worst.confusions(3) == [(0, 1, 0.25)]
    assert found.recall[0] == pytest.approx(25 / 35)
    assert found.precision[[0, 1]].tolist() == [1, 0]
    assert found.share[3] == pytest.approx(40 / 75)
    assert np.isnan(found.recall[2])


def test_neighbours_of_a_bad_frame_are_left_out() -> None:
    answers, data = _streets()
    frame = segmentation_findings(TINY_STREETS, answers, data).frames[0]
    frames = tuple(replace(frame, index=i) for i in (50, 51, 49, 60, 3, 59, 99))
    assert [f.index for f in worst_apart(frames, 3, apart=8)] == [50, 60, 3]
    assert [f.index for f in worst_apart(frames, 3, apart=1)] == [50, 51, 49]


def test_segmentation_figures_say_what_was_found() -> None:
    answers, data = _streets()
    found = segmentation_findings(TINY_STREETS, answers, data)
    texts = _texts(iou_chart(found, TINY_STREETS.classes, "made up"))
    assert "mean IoU 57.14%" in texts  # sky 25/35, building 0, road 1
    assert texts.count("does not occur") == 8
    sections = _by_title(segmentation_sections(TINY_STREETS, found, data, answers, "made up"))
    assert sections["Which classes are confused"].rows == [("sky → building", "13.33%")]
    figure = sections["The worst frames"].figure
    assert figure is not None
    assert "#1: mean IoU 50.0%\n25.0% of pixels wrong" in _texts(figure)
    assert "sky → building 25.0%" in _texts(figure)
    assert "bicyclist" in _texts(figure)


def test_only_labelled_pixels_are_shown_as_errors() -> None:
    truth, answer = np.array([[0, 0, 11]]), np.array([[0, 1, 1]])
    shown = errors_in_color(np.full((1, 3, 3), 100, np.uint8), truth, answer, 11)
    red = shown[..., 0] > shown[..., 1] + 0.2
    assert red.tolist() == [[False, True, False]]


def test_without_a_mistake_there_is_no_grid_of_mistakes() -> None:
    data = LabelledImages(torch.zeros(10, 28, 28, 1, dtype=torch.uint8), torch.arange(10, dtype=torch.uint8), "here")
    found = classification_findings(DIGITS, np.eye(10, dtype=np.float32), data)
    assert "AUROC of errors" not in found.scores.values
    assert "What was misread" not in _by_title(classification_sections(DIGITS, found, data, "made up"))


def test_wilson_interval_by_hand() -> None:
    # One of one, z = 2: the middle is (1 + 2) / 5, half the width sqrt(0 + 4 / 4) · 2 / 5.
    low, high = wilson_interval(np.array([1.0]), np.array([1]), z=2)
    assert (low[0], high[0]) == pytest.approx((0.2, 1.0))


def _log(folder: Path, *entries: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return folder


def test_learning_curves_hold_epochs_with_and_without_a_validation(tmp_path: Path) -> None:
    entries = [{"epoch": e, "loss": 2.0 / e, "seconds": 1800.0} for e in range(1, 5)]
    log = read_log(_log(tmp_path, entries[0], {**entries[1], "mean IoU": 0.5}, entries[2], entries[3]), "mean IoU")
    assert (log.epochs, log.validated, log.values, log.hours) == ((1, 2, 3, 4), (2,), (0.5,), 2.0)
    chart = learning_curves(log, "mine")
    assert list(np.asarray(chart.axes[0].lines[0].get_ydata())) == pytest.approx([2, 1, 2 / 3, 0.5])
    assert "mine: 4 epochs in 2.0 hours" in _texts(chart)
    assert "best: 50.00% after epoch 2" in _texts(chart)
    young = read_log(_log(tmp_path, entries[0]), "mean IoU")
    assert "not validated yet" in _texts(learning_curves(young, "mine"))
    lost = read_log(_log(tmp_path, {**entries[0], "mean IoU": float("nan")}), "mean IoU")
    assert "not validated yet" in _texts(learning_curves(lost, "mine"))


def test_a_log_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*log\.jsonl; --run takes the folder of a training"):
        read_log(tmp_path, "accuracy")
    entry = {"epoch": 1, "loss": 1.0, "seconds": 1.0}
    with pytest.raises(DataError, match="has no 'accuracy'"):
        read_log(_log(tmp_path, {**entry, "mean IoU": 0.5}), "accuracy")
    with pytest.raises(DataError, match="line 2, is not one of a training's log"):
        read_log(_log(tmp_path, entry, {"epoch": 2}), "accuracy")
    (tmp_path / "log.jsonl").write_text(json.dumps(entry)[:9])
    with pytest.raises(DataError, match=r"line 1.*if it is being written, try again"):
        read_log(tmp_path, "accuracy")
    for damaged in (b"\xff", json.dumps({**entry, "epoch": float("inf")}).encode(), b"[" * 100_000):
        (tmp_path / "log.jsonl").write_bytes(damaged)
        with pytest.raises(DataError, match=r"line 1, is not one of a training's log"):
            read_log(tmp_path, "accuracy")
    for number in ({"epoch": 10**400}, {"epoch": 0}, {"loss": 1e308}, {"seconds": -1e308}, {"accuracy": 1e308}):
        with pytest.raises(DataError, match=r"line 1, is not one of a training's log"):
            read_log(_log(tmp_path, entry | number), "accuracy")
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_log(tmp_path, "accuracy")


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "digits.fp32.onnx"
    pictures = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    export(DIGITS, DIGITS.build().eval(), "fp32", pictures, path, version="3+b", name="mine")
    return path


def _report(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command_line.app, ["report", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, TrainingError), result.exception
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_the_command_writes_a_page_of_a_classifier(digits_file: Path, mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = _log(tmp_path / "run", {"epoch": 1, "loss": 1.0, "seconds": 60, "accuracy": 0.9})
    code, output = _report(digits_file, "--data", mnist, "--run", run, "--out", out)
    assert code == 0, output
    assert output.splitlines()[-1] == str(out / "index.html")
    pictures = {"learning-curves", "confusion-matrix", "misclassified", "reliability"}
    assert {path.stem for path in out.glob("*.png")} == pictures
    for name in pictures:
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'<img src="{name}.png"' in page for name in pictures)
    assert "<h1>mine fp32, MNIST test</h1>" in page
    assert "<td>model version</td><td>3+b</td>" in page
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    assert (scores["name"], scores["version"], scores["split"], scores["pictures"]) == ("mine", "3+b", "test", 40)
    matrix = np.array(scores["confusion_matrix"])
    assert matrix.sum() == 40
    assert scores["scores"]["accuracy"] == pytest.approx(np.trace(matrix) / 40)
    assert len(scores["mistakes"]) == 40 - np.trace(matrix)
    assert f"<td>accuracy</td><td>{np.trace(matrix) / 40:.2%}</td>" in page
    # A second report without the log leaves no picture of the first.
    assert "trained on these pictures" not in page
    code, output = _report(digits_file, "--data", mnist, "--out", out, "--split", "train")
    assert code == 0, output
    assert "It was trained on these pictures" in output
    assert not (out / "learning-curves.png").exists()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Learning curves" not in page
    assert "<td>trained on these pictures</td><td>yes" in page
    assert json.loads((out / "scores.json").read_text(encoding="utf-8"))["seen_in_training"] is True


def test_a_list_of_confusions_says_how_many_there_are() -> None:
    assert _confusions_title(np.eye(10, dtype=np.int64)) == "truth → answer"
    assert _confusions_title(np.ones((10, 10), np.int64)) == "truth → answer, the 12 most frequent of 90"


def test_texts_on_the_page_are_no_markup() -> None:
    page = html("<1>", [("<2>", "<3>")], [Section("<4>", "<5>", columns=("<6>",), rows=(("<7>",),))])
    for number in range(1, 8):
        assert f"&lt;{number}&gt;" in page
        assert f"<{number}>" not in page


def test_a_page_of_a_segmenter(camvid: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: nn.Module = TINY_STREETS.build().eval()
    data = TINY_STREETS.load(camvid, "val")
    path = tmp_path / "streets.fp32.onnx"
    export(TINY_STREETS, model, "fp32", data.images.repeat(4, 1, 1, 1).numpy(), path, version="1")
    session, manifest, task = open_model(path)
    page, scores = write_report(session, manifest, task, data, split="val", out=tmp_path / "out")
    assert {file.stem for file in (tmp_path / "out").glob("*.png")} == {"iou", "confusion-matrix", "worst-frames"}
    assert "<h1>streets fp32, CamVid val</h1>" in page.read_text(encoding="utf-8")
    written = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert np.array_equal(written["confusion_matrix"], scores.matrix)
    assert scores.iou is not None
    assert {name for name, value in written["iou"].items() if value is None} == {
        name for (name, _), value in zip(task.classes, scores.iou, strict=True) if np.isnan(value)
    }
    assert sorted(frame["index"] for frame in written["frames"]) == [0, 1]


def test_what_cannot_be_reported_is_explained(digits_file: Path, mnist: Path, tmp_path: Path) -> None:
    assert "there is no split 'tset'" in _report(digits_file, "--data", mnist, "--split", "tset")[1]
    assert "no file" in _report(tmp_path / "x.onnx", "--data", mnist)[1]
    assert "--run takes the folder" in _report(digits_file, "--data", mnist, "--run", tmp_path)[1]
    proto = onnx.load(digits_file)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "strange.onnx")
    assert "export it with `python -m training export`" in _report(tmp_path / "strange.onnx", "--data", mnist)[1]
    (tmp_path / "file").write_text("")
    session, manifest, task = open_model(digits_file)
    with pytest.raises(ReportError, match="choose another folder with --out"):
        write_report(session, manifest, task, task.load(mnist, "test"), split="test", out=tmp_path / "file")


def test_the_pictures_that_a_report_replaces_are_those_it_writes(tmp_path: Path) -> None:
    probabilities, digits = _digits()
    answers, streets = _streets()
    sections = [
        *classification_sections(DIGITS, classification_findings(DIGITS, probabilities, digits), digits, "made up"),
        *segmentation_sections(
            TINY_STREETS, segmentation_findings(TINY_STREETS, answers, streets), streets, answers, "made up"
        ),
    ]
    assert {section.picture for section in sections} - {""} == set(PICTURES) - {"learning-curves"}
    for section in sections:
        if section.figure is not None:
            section.figure.savefig(tmp_path / f"{section.picture}.png")  # a warning would be an error


def _unmasked(image: AxesImage) -> list[float]:
    array = image.get_array()
    assert array is not None
    return [float(value) for value in np.ma.compressed(array)]


def _by_title(sections: Sequence[Section]) -> dict[str, Section]:
    return {section.title: section for section in sections}
