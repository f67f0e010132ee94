"""Checks of a window's rows as a whole: what ingest could not store, and what contradicts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from service.detection.duplicates import count_repeats, pool_repeats, repeats_tail
from service.detection.metric_value import wilson
from service.detection.quality import binomial_tail
from service.evaluation.quality_check import Check, ratio_check, varying_tail
from service.evaluation.traffic import Traffic
from service.profiles.columns import Column
from service.profiles.profile import Contents, FeatureProfile, Performance

# What a warning names; the rest is counted.
NAMED = 10
CONFLICTING_LABELS = "conflicting_label_ratio"


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


def check_duplicates(
    before: FeatureProfile,
    after: FeatureProfile,
    chunks: Sequence[FeatureProfile],
    tolerance: float,
) -> Check:
    """Check the rows whose content another row of the window has under another id.

    The reference's own level is that of as many rows; where its pieces repeat themselves more
    often than rows drawn from all of it, that of the pieces.
    """
    new, old = after.contents, before.contents
    check = Check("duplicate_ratio", None, "poisson", None, new.rows, old.rows)
    if not old.rows and before.rows:
        return replace(check, reason="the reference is of a time before contents were counted")
    if not new.rows or not old.rows:
        return check
    size = min(new.rows, old.rows)
    now, usual = count_repeats(new, size), count_repeats(old, size)
    pieces = [chunk.contents for chunk in chunks if chunk.contents.rows]
    if len(pieces) > 1:
        own = pool_repeats([count_repeats(piece, min(size, piece.rows)) for piece in pieces])
        usual = max(usual, own, key=lambda repeats: repeats.ratio)
    p_value = max(
        repeats_tail(now, usual),
        varying_tail(_repeated(new), _repeated(old), [_repeating(piece) for piece in pieces]),
    )
    whole = count_repeats(new, new.rows).ratio
    # What more rows add to the window's own ratio, they would have added to the reference's.
    level = usual.ratio + whole - now.ratio
    threshold = min(level + tolerance, (1 + level) / 2)
    return replace(
        check, value=whole, reference_value=level, threshold=threshold, p_value=p_value,
        beyond=whole > threshold,
        finding=f"{100 * whole:.1f} % of the rows repeat another one",
    )  # fmt: skip


def _repeated(contents: Contents) -> tuple[int, int]:
    rows = int(contents.counts.sum())
    return rows - len(contents.counts), rows


def _repeating(contents: Contents) -> tuple[int, int]:
    repeated, rows = _repeated(contents)
    return repeated, rows - repeated


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


def check_labels(performance: Performance, tolerance: float) -> Iterator[Check]:
    """Check the rows that were given different labels at different times; none without labels.

    No reference has any, so that the tolerance alone is the level that chance must exceed.
    """
    count, rows = performance.relabelled, performance.labelled + performance.unusable
    if not rows:
        return
    check = ratio_check(CONFLICTING_LABELS, None, "binomial", (count, rows), (-1, 0.0), tolerance)
    yield replace(
        check, p_value=binomial_tail(count, rows, tolerance), interval=wilson(count / rows, rows),
        finding=f"{100 * count / rows:.1f} % of the labelled rows were given different labels",
    )  # fmt: skip


def traffic_warnings(traffic: Traffic) -> list[dict[str, str]]:
    """Name the features that were sent though the version's schema lacks them."""
    unknown = traffic.unknown_features
    if not unknown:
        return []
    named = sorted(filter(None, unknown), key=lambda name: (-unknown[name], name))
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    if "" in unknown:
        more = " and many more"
    detail = f"rows were refused for features that the schema lacks: {', '.join(named[:NAMED])}"
    return [{"code": "unknown-features", "detail": detail + more}]
