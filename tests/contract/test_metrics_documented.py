from pathlib import Path

from service.exporter.documentation import document

METRICS = Path(__file__).parents[2] / "prometheus" / "METRICS.md"


def test_the_table_of_metrics_is_what_is_exported() -> None:
    assert METRICS.read_text() == document()
