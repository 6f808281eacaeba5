"""The dashboard and the alerts look at what the service says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.service.conftest import PNG, Serve, digit_png, street_png

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/monitoring/alerts.yml"
DASHBOARD = ROOT / "deploy/monitoring/grafana/dashboards/sightline.json"
_METRIC = re.compile(r"\b(?:sightline|process)_\w+")
_SELECTOR = re.compile(r"\b((?:sightline|process)_\w+)\{([^}]*)\}")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


@pytest.fixture
async def scraped(serve: Serve) -> str:
    """What is there after an answer of each endpoint and a refusal."""
    async with serve() as service:
        await service.client.post("/classify", content=digit_png(), headers=PNG)
        await service.client.post("/segment", content=street_png(), headers=PNG)
        await service.client.post("/classify", content=b"", headers=PNG)
        return (await service.client.get("/metrics")).text


def test_every_expression_names_metrics_and_labels_that_exist(scraped: str) -> None:
    names = set(re.findall(r"^(\w+)", scraped, re.MULTILINE))
    checked = 0
    for expression in expressions():
        used = set(_METRIC.findall(expression))
        assert used, expression
        assert used <= names, f"{expression}: there is no {used - names}"
        for name, matchers in _SELECTOR.findall(expression):
            there = {
                label
                for labels in re.findall(rf"^{name}\{{(.*)\}}", scraped, re.MULTILINE)
                for label in re.findall(r"(\w+)=", labels)
            }
            for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\"", matchers):
                assert label in there | {"instance", "job"}, f"{expression}: {name} has no label {label}"
        checked += 1
    assert checked >= 30


def test_every_documented_metric_exists_and_the_reverse(scraped: str) -> None:
    families = set(re.findall(r"^# TYPE (sightline_\w+)", scraped, re.MULTILINE))
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    documented = {
        name
        for row in re.findall(r"^\| (`sightline_.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"sightline_\w+", row)
    }
    assert documented == families


def test_each_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 8
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        own = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", ALERTS),
        ("check", "config", ROOT / "deploy/monitoring/prometheus.yml"),
        ("test", "rules", ROOT / "tests/service/alerts.test.yml"),
    ],
    ids=["rules", "configuration", "when-they-fire"],
)
@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: .ci/run takes it out of Debian's prometheus"
)
def test_prometheus_takes_what_it_is_given(arguments: tuple[str | Path, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    tried = yaml.safe_load((ROOT / "tests/service/alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    names = {each["alertname"] for test in tried for each in test["alert_rule_test"]}
    assert names == {rule["alert"] for rule in rules()}
