"""What trials amount to, as Markdown."""

from pathlib import Path
from typing import Any

import numpy as np

from training.ablation.rows import PARTS, ROWS, VALIDATION_SEQUENCE
from training.ablation.trials import Shortening, check_alike, read_trials, trial_folder
from training.tasks import DIGITS


def table(name: str, out: Path, data: Path) -> str:
    """The table of the ablation `name` in the folder `out`; those of `digits` need the test labels in `data`.

    Raises:
        TrainingError: a row holds trials of different epochs, numbers of pictures, sizes or recipes, which must not be
            averaged.
    """
    return digits_table(out, data) if name == "digits" else streets_table(out)


def digits_table(out: Path, data: Path) -> str:
    """Markdown: mean ± standard deviation over the seeds of each row, and what its networks score together."""
    truth = DIGITS.load(data, "test").targets.numpy()
    lines = ["| training | parameters | seeds | accuracy, mean ± sd | all seeds together |", "|---|---|---|---|---|"]
    for name, trials in _by_row("digits", out).items():
        values = np.array([trial["value"] for trial in trials])
        answers = [np.load(_folder(out, trial) / "probabilities.npy") for trial in trials]
        together = float((np.mean(answers, axis=0).argmax(1) == truth).mean())
        spread = f" ± {values.std(ddof=1):.2%}" if len(values) > 1 else ""
        parameters = f"{trials[0]['parameters']:,}"
        lines.append(f"| {name} | {parameters} | {len(values)} | {values.mean():.2%}{spread} | {together:.2%} |")
    return "\n".join(lines) + "\n"


def streets_table(out: Path) -> str:
    """Markdown: mean IoU of each row on each held-out sequence, their mean, and that on the validation frames.

    The latter is of the networks that trained on the validation frames' own drive, 0016E5, and shows by how much those
    frames flatter.
    """
    parts = PARTS["streets"]
    lines = [
        "| network and training | parameters | " + " | ".join(parts) + " | mean | validation |",
        "|---|---|" + "---|" * (len(parts) + 2),
    ]
    for name, trials in _by_row("streets", out).items():
        values = {trial["part"]: trial["value"] for trial in trials}
        others = [trial for trial in trials if trial["part"] != VALIDATION_SEQUENCE]
        validation = [trial["validation"] for trial in others if "validation" in trial]  # older results lack it
        cells = [f"{values[part]:.1%}" if part in values else "–" for part in parts]
        cells.append(f"{np.mean(list(values.values())):.1%}" if len(values) == len(parts) else "–")
        cells.append(f"{np.mean(validation):.1%}" if validation else "–")
        lines.append(f"| {name} | {trials[0]['parameters'] / 1e6:.2f} M | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _by_row(ablation: str, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Each row's trials, in the order of `ROWS`, in whatever order they were run; rows of earlier code come last."""
    rows: dict[str, list[dict[str, Any]]] = {row.name: [] for row in ROWS[ablation]()}
    for trial in read_trials(out):
        rows.setdefault(trial["row"], []).append(trial)
    rows = {name: trials for name, trials in rows.items() if trials}
    for name, trials in rows.items():
        check_alike(out, name, trials)
    return rows


def _folder(out: Path, trial: dict[str, Any]) -> Path:
    return trial_folder(out, trial["row"], trial["part"], Shortening.of(trial), trial.get("recipe"))
