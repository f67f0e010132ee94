"""What comes in, and what becomes of it."""

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.counting import RATE, of, percentile, rate
from grafana.panels import Panel, heat_rows, lines
from grafana.sources import query

# As the rules have it.
INGEST = 'route=~"/v1/(predictions|labels|cloudevents|import/sagemaker)"'


def failing() -> str:
    """Return the share of ingest requests that the service could not answer well."""
    every, bad = (
        f"sum(rate({of('http_request_duration_seconds_count', which)}{RATE}))"
        for which in (INGEST, f'code=~"5..",{INGEST}')
    )
    return f"({bad} or 0 * {every}) / ({every} > 0) or 0 * {every}"


def panels() -> list[Panel]:
    """Return what comes in, how fast it is stored, and what of it is not judged."""
    duration = "ingest_batch_duration_seconds"
    buckets = f"sum by (le) (increase({of(f'{duration}_bucket')}{RATE}))"
    kinds = percentile(0.99, duration, "kind")
    return [
        lines(
            "Rows",
            "Rows a second by kind, and what became of them.",
            query(rate("ingest_rows_total", "kind, result"), "{{kind}}: {{result}}"),
            w=8,
            unit="rowsps",
            stepped=False,
            zero=True,
        ),
        lines(
            "Requests",
            "Ingest requests a second, by how they were answered.",
            query(rate("ingest_batches_total", "outcome"), "{{outcome}}"),
            w=8,
            unit="reqps",
            stepped=False,
            zero=True,
        ),
        lines(
            "Time to store a batch",
            "From the first byte of a request to its answer, which comes after the commit.",
            query(percentile(0.5, duration), "median"),
            query(percentile(0.99, duration), "99 %", ref="B"),
            query(kinds, "99 % of {{kind}}", ref="C"),
            w=8,
            unit="s",
            stepped=False,
            zero=True,
        ),
        heat_rows(
            "Time to store a batch, all requests",
            "How many requests took how long.",
            query(buckets, "{{le}}").format(PromQueryFormat.HEATMAP),
            w=12,
            h=8,
            unit="short",
            buckets=True,
            interval="1m",
        ),
        lines(
            "Slowest routes",
            "99th percentile of the time to answer, of the five slowest routes.",
            query(
                f"topk(5, {percentile(0.99, 'http_request_duration_seconds', 'method, route')})",
                "{{method}} {{route}}",
            ),
            w=12,
            unit="s",
            stepped=False,
            zero=True,
        ),
        _lost(),
    ]


def _lost() -> Panel:
    kinds = {
        "rows that the database refused": "ingest_dead_letters_total",
        "labels whose prediction never came": "labels_expired_total",
        "events whose other half never came": "foreign_orphans_total",
        "Arrow streams that ended their reader": "ingest_parser_deaths_total",
    }
    counted = (
        query(f"sum(increase({of(name)}[1h])) or vector(0)", said, ref=ref)
        for (said, name), ref in zip(kinds.items(), "ABCD", strict=True)
    )
    return lines(
        "What came and is not judged, an hour",
        "What clients sent and no window sees: refused, given up, or half of an inference.",
        *counted,
        w=24,
        h=6,
        zero=True,
    )
