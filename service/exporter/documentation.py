"""All metrics in a table: ``python -m service.exporter.documentation >prometheus/METRICS.md``."""

import sys
from collections.abc import Iterable

from service.exporter.catalogue import CATALOGUE
from service.telemetry import PROCESS_METRICS

_HEAD = """# Metrics

Names, types and metric labels; a test holds this file equal to what is exported.

## `/metrics/models`: newest results of every live version

Read from the database every few seconds and served from memory. A value stays until a newer window
replaces it or its version is no longer live, so alert on the age of a result, not on its absence.
At most 50,000 series: those of models first, then those of declared slices, of classes and
buckets, and of features by importance.
"""

_PROCESS = """
## `/metrics`: this process

Beside these, `process_*` and `python_info` of the client library.
"""


def _table(rows: Iterable[tuple[str, str, Iterable[str], str]]) -> str:
    lines = ["| name | type | metric labels | meaning |", "|---|---|---|---|"]
    for name, kind, metric_labels, meaning in rows:
        named = ", ".join(f"`{label}`" for label in metric_labels)
        lines.append(f"| `{name}` | {kind} | {named} | {meaning} |")
    return "\n".join(lines)


def document() -> str:
    """Return the Markdown document."""
    models = _table((m.name, "gauge", m.metric_labels, m.meaning) for m in CATALOGUE.values())
    families = [
        (family, metric._labelnames)  # noqa: SLF001  the client has no accessor
        for metric in PROCESS_METRICS
        for family in metric.collect()
    ]
    process = _table(
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            labels,
            family.documentation,
        )
        for family, labels in families
    )
    return f"{_HEAD}\n{models}\n{_PROCESS}\n{process}\n"


if __name__ == "__main__":
    sys.stdout.write(document())
