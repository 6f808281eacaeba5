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


@pytest.mark.parametrize("content", [None, b"{not JSON\n"])
def test_rows_that_cannot_be_read_are_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    rows = tmp_path / "rows.jsonl"
    if content is not None:
        rows.write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        reliability.main([str(rows)])
    assert str(rows) in capsys.readouterr().err
