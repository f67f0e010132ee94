"""Checks of a window's rows as a whole: what ingest could not store, or not wholly."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from service.detection.quality import binomial_tail
from service.evaluation.quality_check import Check, ratio_check
from service.evaluation.traffic import Traffic
from service.profiles.columns import Column

# What a warning names; the rest is counted.
NAMED = 10


def check_types(
    columns: Sequence[Column], traffic: Traffic, rows: int, tolerance: float
) -> Iterator[Check]:
    """Check the features that came with a value of another type, and were stored without it.

    No reference has any, so that the tolerance alone is the level that chance must exceed.
    """
    for column in columns:
        count = min(traffic.type_errors.get(column.name, 0), rows)
        check = ratio_check(
            "type_error_ratio", column.name, "binomial", (count, rows), (-1, 0.0), tolerance
        )
        p_value = binomial_tail(count, rows, tolerance)
        yield replace(check, p_value=p_value, recorded=count > 0)


def check_rejected(traffic: Traffic, rows: int, tolerance: float) -> Check:
    """Check the rows that were sent and not stored; the reason names the commonest fault."""
    count = sum(traffic.rejected.values())
    sent = rows + count
    check = ratio_check("rejected_ratio", None, "binomial", (count, sent), (-1, 0.0), tolerance)
    if not count:
        return replace(check, p_value=1.0, recorded=False)
    code = max(sorted(traffic.rejected), key=lambda code: traffic.rejected[code])
    finding = f"{100 * count / sent:.1f} % of the rows were refused, most as {code}"
    return replace(check, p_value=binomial_tail(count, sent, tolerance), finding=finding)


def traffic_warnings(traffic: Traffic) -> list[dict[str, str]]:
    """Name the features that were sent though the version's schema lacks them."""
    unknown = traffic.unknown_features
    if not unknown:
        return []
    named = sorted(unknown, key=lambda name: (-unknown[name], name))
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    detail = f"rows were refused for features that the schema lacks: {', '.join(named[:NAMED])}"
    return [{"code": "unknown-features", "detail": detail + more}]
