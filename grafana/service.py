"""How the service itself is: what comes in, what is worked on, what goes out."""

from typing import Any

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana import frame
from grafana.palette import BAD, GOOD, NEUTRAL, STALE, WARN, steps
from grafana.panels import Panel, heat_rows, lines, rows, styled, tile
from grafana.sources import PROCESS, metric, query

WEBHOOKS = ("Webhooks", f"{frame.SERVICE}/v1/webhooks")
READY = ("Readiness", f"{frame.SERVICE}/readyz")
RATE = "[$__rate_interval]"
# As the rules have it.
INGEST = 'route=~"/v1/(predictions|labels|cloudevents|import/sagemaker)"'


def document() -> dict[str, Any]:
    """Return the dashboard."""
    return frame.drawn(
        "service",
        "service",
        "How the service itself is: ingest, jobs, webhooks, export.",
        variables=[*frame.sources(postgres=False), frame.job()],
        annotations=[frame.alerts('alertname=~"Monitor.+"')],
        grid=[
            (None, _now()),
            ("Ingest", [*_ingest(), _lost()]),
            ("Jobs", _jobs()),
            ("Webhooks", _webhooks()),
            ("Export and processes", _processes()),
        ],
        since="now-6h",
        to=[READY, WEBHOOKS],
    )


def of(name: str, where: str = "") -> str:
    """Return the selector of a metric of any process."""
    return metric(name, where, of=PROCESS)


def rate(name: str, by: str, where: str = "") -> str:
    """Return how often a second something is counted."""
    return f"sum by ({by}) (rate({of(name, where)}{RATE}))"


def percentile(share: float, name: str, by: str = "") -> str:
    """Return a percentile of a histogram."""
    more = f", {by}" if by else ""
    return f"histogram_quantile({share}, sum by (le{more}) (rate({of(f'{name}_bucket')}{RATE})))"


def failing() -> str:
    """Return the share of ingest requests that the service could not answer well."""
    every, bad = (
        f"sum(rate({of('http_request_duration_seconds_count', which)}{RATE}))"
        for which in (INGEST, f'code=~"5..",{INGEST}')
    )
    return f"({bad} or 0 * {every}) / ({every} > 0) or 0 * {every}"


def _now() -> list[Panel]:
    beat = of("worker_heartbeat_timestamp_seconds")
    exported = of("export_refresh_timestamp_seconds")
    return [
        tile(
            "Last sign of a worker",
            "Time since any worker was known to be alive. After two minutes nobody judges windows.",
            query(f"clamp_min(time() - max({beat}), 0)", now=True),
            w=4,
            unit="s",
            colors=[(0, GOOD), (60, WARN), (120, BAD)],
            nothing="No worker yet",
        ),
        tile(
            "Work that is due",
            "Pieces of work that are due and not finished, of all queues.",
            query(f"sum(max by (queue) ({of('jobs_pending')}))", now=True),
            w=4,
            unit="short",
            filled=False,
        ),
        tile(
            "Oldest work",
            "How long the oldest unfinished piece of work has been due.",
            query(f"max({of('job_oldest_pending_age_seconds')})", now=True),
            w=4,
            unit="s",
            colors=[(0, GOOD), (300, WARN), (1800, BAD)],
        ),
        tile(
            "Ingest requests that failed",
            "Share of requests to store predictions or labels that were answered 5xx.",
            query(failing(), now=True),
            w=4,
            unit="percentunit",
            colors=[(0, GOOD), (0.001, WARN), (0.005, BAD)],
            nothing="No request yet",
        ),
        tile(
            "Results exported",
            "Age of what /metrics/models says; the database is away when it grows.",
            query(f"clamp_min(time() - max({exported}), 0)", now=True),
            w=4,
            unit="s",
            colors=[(0, GOOD), (60, WARN), (300, BAD)],
        ),
        tile(
            "Series left out",
            "Series that did not fit into the budget of 50,000.",
            query(f"max({of('export_series_dropped')})", now=True),
            w=4,
            unit="short",
            colors=[(0, GOOD), (1, STALE)],
        ),
    ]


def _ingest() -> list[Panel]:
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


def _jobs() -> list[Panel]:
    succeeded = of("job_last_success_timestamp_seconds")
    return [
        lines(
            "Work that is due, by queue",
            "Pieces of work that are due and not finished.",
            query(f"max by (queue) ({of('jobs_pending')})", "{{queue}}"),
            w=8,
            stacked=True,
            zero=True,
        ),
        lines(
            "Oldest work, by queue",
            "How long the oldest unfinished piece has been due.",
            query(f"max by (queue) ({of('job_oldest_pending_age_seconds')})", "{{queue}}"),
            w=8,
            unit="s",
            zero=True,
        ),
        lines(
            "Time since a job last ended well",
            "By the newest of all workers, as a multiple of how often it starts.",
            query(
                f"(time() - max by (job_name) ({succeeded}))"
                f" / max by (job_name) ({of('job_interval_seconds')})",
                "{{job_name}}",
            ),
            w=8,
            unit="none",
            nothing="No worker is scraped",
            zero=True,
        ),
        lines(
            "Jobs",
            "Jobs a second, by how they ended.",
            query(rate("job_runs_total", "job_name, outcome"), "{{job_name}}: {{outcome}}"),
            w=12,
            unit="ops",
            stepped=False,
            nothing="No worker is scraped",
            zero=True,
        ),
        lines(
            "Time of a job, 95 %",
            "Of nineteen in twenty runs.",
            query(percentile(0.95, "job_duration_seconds", "job_name"), "{{job_name}}"),
            w=12,
            unit="s",
            stepped=False,
            nothing="No worker is scraped",
            zero=True,
        ),
    ]


def _webhooks() -> list[Panel]:
    deliveries = of("webhook_deliveries_total")
    waiting = of("jobs_pending", 'queue="webhooks"')
    age = of("job_oldest_pending_age_seconds", 'queue="webhooks"')
    return [
        lines(
            "Deliveries an hour",
            "Attempts to deliver an event, by target and what came of them.",
            query(
                f"sum by (target, outcome) (increase({deliveries}[1h]))", "{{target}}: {{outcome}}"
            ),
            w=12,
            zero=True,
            nothing="No delivery in this time",
            to=[WEBHOOKS],
        ),
        styled(
            lines(
                "Events that wait",
                "Events that are not delivered yet; they are tried again until they are abandoned.",
                query(f"max({waiting})", "events"),
                w=6,
                zero=True,
                to=[WEBHOOKS],
            ),
            "events",
            NEUTRAL,
        ),
        lines(
            "Oldest event that waits",
            "How long the oldest undelivered event has waited.",
            query(f"max({age})", "waits"),
            w=6,
            unit="s",
            zero=True,
            to=[WEBHOOKS],
        ),
    ]


def _processes() -> list[Panel]:
    memory = f"process_resident_memory_bytes{{{PROCESS}}}"
    processor = f"process_cpu_seconds_total{{{PROCESS}}}"
    return [
        lines(
            "Series",
            "Series of /metrics/models, and the budget of 50,000.",
            query(f"max({of('export_series')})", "series"),
            w=6,
            colors=steps("transparent", (50_000, BAD)),
            zero=True,
        ),
        lines(
            "Time to refresh the results",
            "What reading and rendering takes; no scrape waits for it.",
            query(f"max({of('export_refresh_duration_seconds')})", "refresh"),
            w=6,
            unit="s",
            zero=True,
        ),
        lines(
            "Memory",
            "Resident memory of each process.",
            query(f"max by (instance) ({memory})", "{{instance}}"),
            w=6,
            unit="bytes",
            zero=True,
        ),
        lines(
            "Processor",
            "Cores that each process uses.",
            query(f"sum by (instance) (rate({processor}{RATE}))", "{{instance}}"),
            w=6,
            unit="none",
            stepped=False,
            zero=True,
        ),
        rows(
            "What runs",
            "Version of the service and of Python, of each process.",
            query(f"max by (instance, version, python) ({of('build_info')})", table=True),
            w=24,
            h=5,
            names={"instance": "Process", "version": "modelwatch", "python": "Python"},
            hidden=["Value"],
        ),
    ]
