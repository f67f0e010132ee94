"""How the service itself is: what comes in, what is worked on, what goes out."""

from typing import Any

from grafana import frame, ingest
from grafana.counting import RATE, of, percentile, rate
from grafana.palette import BAD, GOOD, NEUTRAL, STALE, WARN, steps
from grafana.panels import Panel, lines, rows, styled, tile
from grafana.sources import PROCESS, query

WEBHOOKS = ("Webhooks", f"{frame.SERVICE}/v1/webhooks")
READY = ("Readiness", f"{frame.SERVICE}/readyz")


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
            ("Ingest", ingest.panels()),
            ("Jobs", _jobs()),
            ("Webhooks", _webhooks()),
            ("Export and processes", _processes()),
        ],
        since="now-6h",
        to=[READY, WEBHOOKS],
    )


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
            query(ingest.failing(), now=True),
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
