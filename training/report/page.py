"""Writes a report: one page for a browser, its pictures, and the same figures as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import onnxruntime

from training.data.labelled import LabelledImages, Split
from training.errors import ReportError
from training.evaluate import Scores, answer, saw
from training.report.findings import (
    ClassificationFindings,
    SegmentationFindings,
    classification_findings,
    segmentation_findings,
)
from training.report.log import TrainingLog
from training.report.sections import Section, classification_sections, curves_section, segmentation_sections
from training.tasks import Task

PICTURES = ("learning-curves", "confusion-matrix", "misclassified", "reliability", "iou", "worst-frames")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em }
img { max-width: 100%; display: block; margin: 1em 0 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { padding: .15em 1em .15em 0; text-align: right }
th:first-child, td:first-child { text-align: left } th { border-bottom: 1px solid #bbb }
"""


def write_report(
    session: onnxruntime.InferenceSession,
    manifest: dict[str, Any],
    task: Task,
    data: LabelledImages,
    *,
    split: Split,
    out: Path,
    log: TrainingLog | None = None,
) -> tuple[Path, Scores]:
    """Run all of `data` through an exported file and write what it got right and wrong into the folder `out`.

    `out` gets `index.html`, its pictures and `scores.json`; those of an earlier report are replaced.

    Args:
        session: of the file, with its `manifest` and `task`, as `open_model` gives them.
        manifest: the same.
        task: the same.
        data: the split of that name.
        split: `train`, `val` or `test`.
        out: made when it is not there.
        log: of the training the file came from, for the learning curves.

    Returns:
        the path of the page, and the scores.

    Raises:
        ReportError: when `out` cannot be written into.
    """
    _make(out)
    answers = answer(session, task, data)
    title = f"{manifest['name']} {manifest['precision']}, {task.dataset} {split}"
    findings: ClassificationFindings | SegmentationFindings
    if task.kind == "classification":
        findings = classification_findings(task, answers, data)
        sections = classification_sections(task, findings, data, title)
    else:
        findings = segmentation_findings(task, answers, data)
        sections = segmentation_sections(task, findings, data, answers, title)
    if log is not None:
        sections.append(curves_section(log, manifest["name"]))
    about = {
        "name": manifest["name"],
        "version": manifest["version"],
        "precision": manifest["precision"],
        "dataset": task.dataset,
        "split": split,
        "seen_in_training": saw(manifest, split),
        "pictures": len(data),
    }
    try:
        for section in sections:
            if section.figure is not None:
                section.figure.savefig(out / f"{section.picture}.png")
        summary = json.dumps({**about, **figures(task, findings)}, indent=1, allow_nan=False)
        (out / "scores.json").write_text(summary + "\n", encoding="utf-8")
        page = out / "index.html"
        page.write_text(html(title, _facts(about, findings.scores), sections), encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{out} cannot be written into ({error}); choose another folder with --out") from error
    return page, findings.scores


def figures(task: Task, findings: ClassificationFindings | SegmentationFindings) -> dict[str, Any]:
    """What was found, as plain values; null where there is no figure."""
    names = [name for name, _ in task.classes]
    scores = findings.scores
    plain: dict[str, Any] = {
        "scores": {name: _number(value) for name, value in scores.values.items()},
        "classes": names,
        "confusion_matrix": scores.matrix.tolist(),
    }
    if isinstance(findings, ClassificationFindings):
        plain["mistakes"] = [
            {**asdict(mistake), "truth": names[mistake.truth], "answer": names[mistake.answer]}
            for mistake in findings.mistakes
        ]
        return plain
    assert scores.iou is not None
    by_class = {"iou": scores.iou, "recall": findings.recall, "precision": findings.precision, "share": findings.share}
    plain |= {what: dict(zip(names, map(_number, values), strict=True)) for what, values in by_class.items()}
    plain["frames"] = [
        {"index": frame.index, "mean_iou": _number(frame.mean_iou), "wrong": frame.wrong} for frame in findings.frames
    ]
    return plain


def html(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The page; its pictures are expected beside it."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        _table((), facts),
    ]
    for section in sections:
        parts += [f"<h2>{escape(section.title)}</h2>", f"<p>{escape(section.text)}</p>"]
        if section.figure is not None:
            file = f"{section.picture}.png"
            parts.append(f'<a href="{file}"><img src="{file}" alt="{escape(section.title)}"></a>')
        if section.rows:
            parts.append(_table(section.columns, section.rows))
    return "\n".join([*parts, "</body></html>", ""])


def _facts(about: dict[str, Any], scores: Scores) -> list[tuple[str, str]]:
    facts = [("pictures", f"{about['pictures']:,}"), ("model version", str(about["version"]))]
    if about["seen_in_training"]:
        facts.append(("trained on these pictures", "yes, so this is not how it does on others"))
    return facts + [(name, f"{value:.2%}") for name, value in scores.values.items()]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>"]
    if columns:
        lines.append("<tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr>")
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _make(out: Path) -> None:
    """Make the folder and take an earlier report's pictures out of it: this one may have fewer."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in PICTURES:
            (out / f"{name}.png").unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"{out} cannot be written into ({error}); choose another folder with --out") from error
