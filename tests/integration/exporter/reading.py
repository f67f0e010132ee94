"""What an exposition says, as a dictionary."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session, sessionmaker

from service.exporter.collector import read_results, render_results


def exported(content: bytes) -> dict[tuple[Any, ...], float]:
    return {
        (
            sample.name.removeprefix("modelwatch_"),
            *(v for k, v in sample.labels.items() if k not in {"model", "model_version"}),
        ): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def collected(sessions: sessionmaker[Session], **options: Any) -> dict[tuple[Any, ...], float]:
    with sessions() as session:
        return exported(render_results(read_results(session), **options).content)
