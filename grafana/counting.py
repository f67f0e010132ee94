"""What processes count, as expressions."""

from grafana.sources import PROCESS, metric

RATE = "[$__rate_interval]"


def of(name: str, where: str = "") -> str:
    """Return the selector of a metric of any process."""
    return metric(name, where, of=PROCESS)


def rate(name: str, by: str) -> str:
    """Return how often a second something is counted."""
    return f"sum by ({by}) (rate({of(name)}{RATE}))"


def percentile(share: float, name: str, by: str = "") -> str:
    """Return a percentile of a histogram."""
    more = f", {by}" if by else ""
    return f"histogram_quantile({share}, sum by (le{more}) (rate({of(f'{name}_bucket')}{RATE})))"
