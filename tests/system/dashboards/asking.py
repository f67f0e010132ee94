"""What Grafana does with a panel's query before it asks the data source."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from grafana.__main__ import documents

RATE_INTERVAL = "1m"
# What is shown, and how far apart its points are: as the test asks.
RANGE, INTERVAL = "7d", "3h"


@dataclass(frozen=True)
class Target:
    """One query of one panel."""

    dashboard: str
    panel: str
    kind: str
    query: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return what a test calls it."""
        return f"{self.dashboard}: {self.panel} {self.query['refId']}"


def targets() -> Iterator[Target]:
    """Yield every query of every panel of every dashboard."""
    for name, document in documents().items():
        for panel in document["panels"]:
            for query in panel.get("targets", ()):
                title, kind = str(panel.get("title")), str(panel["type"])
                yield Target(name.removesuffix(".json"), title, kind, query)


def promql(expr: str, values: Mapping[str, str]) -> str:
    """Return the expression with what a person has chosen in it."""
    found = expr.replace("$__rate_interval", RATE_INTERVAL)
    found = found.replace("$__range", RANGE).replace("$__interval", INTERVAL)
    for name, value in values.items():
        literal = value.replace("\\", r"\\")
        found = re.sub(rf"\$({name}\b|\{{{name}(:\w+)?\}})", literal, found)
    assert "$" not in found, found
    return found


def sql(text: str, values: Mapping[str, str], start: datetime, end: datetime) -> str:
    """Return the statement with its macros expanded and its variables quoted."""
    span = f"BETWEEN '{start.isoformat()}' AND '{end.isoformat()}'"
    found = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 {span}", text)
    for name, value in values.items():
        quoted = "'" + value.replace("'", "''") + "'"
        found = found.replace(f"${{{name}:sqlstring}}", quoted)
    assert "$" not in found, found
    return found
