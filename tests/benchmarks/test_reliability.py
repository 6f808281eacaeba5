"""The report of what hostile input got: rows anew, sections that were not made anew as they were."""

from pathlib import Path

import orjson
import pytest

from benchmarks import reliability

ROW = {"row": "a", "case": "b|c", "must": "422", "seen": "422", "seconds": 0.5, "peak_mb": None, "kept_mb": 1.2}


def test_sections_stay_until_they_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, rows, soak = tmp_path / "reliability.md", tmp_path / "rows.jsonl", tmp_path / "soak.md"
    monkeypatch.setattr(reliability, "REPORT", report)
    rows.write_bytes(orjson.dumps(ROW | {"where": "edge"}) + b"\n")
    soak.write_text("## Soak\n\nfirst\n")
    reliability.main([str(rows), str(soak), str(tmp_path / "none.md")])
    assert "| *edge:* a | b\\|c | 422 | 422 | 500 ms | – | 1 MB |" in report.read_text()
    (tmp_path / "fuzzing.md").write_text("## Fuzzing\n\nnone\n")
    reliability.main([str(rows), str(tmp_path / "fuzzing.md")])
    soak.write_text("## Soak\n\nsecond\n")
    reliability.main([str(rows), str(soak)])
    text = report.read_text()
    assert text.endswith("|\n\n## Fuzzing\n\nnone\n\n## Soak\n\nsecond\n")
    assert text.count("*edge:*") == 1
