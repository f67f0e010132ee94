"""Write the dashboards: ``python -m grafana``."""

import json
from pathlib import Path
from typing import Any

from grafana import fleet, model, quality, service, slices

DASHBOARDS = Path(__file__).parent / "dashboards"


def documents() -> dict[str, dict[str, Any]]:
    """Return every dashboard by the name of its file."""
    return {
        "fleet.json": fleet.document(),
        "model.json": model.document(),
        "slices.json": slices.document(),
        "quality.json": quality.document(),
        "service.json": service.document(),
    }


def text(document: dict[str, Any]) -> str:
    """Return a dashboard as its file has it."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, document in documents().items():
        (DASHBOARDS / name).write_text(text(document))
