"""Raw results: one JSON object a line, appended as they come, so that a run which was stopped goes on where it was."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Results:
    """The lines of one file. `key` of a row is what it measures: a row is measured once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def has(self, **key: object) -> bool:
        """Whether a row with these values is there."""
        return any(_matches(row, key) for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row, on the disk before this returns."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def select(self, **key: object) -> list[Row]:
        """The rows with these values."""
        return [row for row in self.rows if _matches(row, key)]


def _matches(row: Row, key: Mapping[str, object]) -> bool:
    return all(row.get(name) == value for name, value in key.items())


def values(rows: Iterable[Row], name: str) -> list[float]:
    """One column, without the rows that have none."""
    return [float(row[name]) for row in rows if row.get(name) is not None]
