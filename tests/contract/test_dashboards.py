"""A dashboard asks only for what is exported."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXPORTED = set(re.findall(r"`(modelwatch_\w+)`", (ROOT / "prometheus" / "METRICS.md").read_text()))
DASHBOARDS = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))


def _panels(path: Path) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return panels


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_is_about_exported_metrics(path: Path) -> None:
    queries = [target["expr"] for panel in _panels(path) for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"modelwatch_\w+", query)}
    assert asked
    assert asked <= EXPORTED


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_panel_says_what_it_shows(path: Path) -> None:
    for panel in _panels(path):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_there_is_a_dashboard() -> None:
    assert DASHBOARDS
