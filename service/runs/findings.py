"""What was found in the rows of a window: kept by engine, for the judgements of just these rows."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from service.evaluation.evidently import ENGINE as EVIDENTLY
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.evaluation.rows import ENGINE, LABELLED_ENGINE, engines_for
from service.ledger.calendar import calendar_start
from service.ledger.marks import Item, mark
from service.ledger.tables import DueWork
from service.profiles.profile import FeatureProfile
from service.registry.monitor import MonitorDocument
from service.runs.tables import RowFinding

# Its child process imports for seconds: it waits until the verdicts that people wait for are out.
ROW_STAGE_DELAY = timedelta(seconds=15)

# In the order in which they are judged and recorded.
ENGINES = (EVIDENTLY, ENGINE, LABELLED_ENGINE)


@dataclass(frozen=True, slots=True)
class Basis:
    """Which rows and labels something was found in, and what was asked.

    ``data_digest`` names the rows together with the reference that they are compared with.
    """

    data_digest: str
    reference_revision: int | None
    config_revision: int
    labelled: int


def digest_of(features: FeatureProfile, reference_revision: int | None) -> str:
    """Return a digest of a window's rows as far as its profile tells them apart.

    Of counts alone: sums over the same rows in another order differ in their last digits.
    """
    digest = hashlib.sha256(repr((reference_revision, features.rows)).encode())
    for name, column in sorted(features.columns.items()):
        digest.update(repr((name, column.missing, column.minimum, column.maximum)).encode())
        digest.update(column.counts.tobytes())
    return digest.hexdigest()


def wanted_engines(item: Item, document: MonitorDocument, basis: Basis) -> tuple[str, ...]:
    """Return the engines that are to see the rows of a window.

    Windows that slide over each other share their rows: one after the other is enough, but for
    those whose verdict waits.
    """
    zone = ZoneInfo(document.timezone)
    slides = calendar_start(item.start, document.window, zone) != item.start
    if basis.reference_revision is None:
        return ()
    if slides:
        return (EVIDENTLY,) if document.drift.waits_for_rows else ()
    return (EVIDENTLY, *engines_for(basis.labelled))


def load_findings(session: Session, item: Item) -> Sequence[RowFinding]:
    """Return what was found in the rows of a window, whatever rows it had then."""
    return session.scalars(
        select(RowFinding).where(
            RowFinding.version_id == item.version_id,
            RowFinding.start == item.start,
            RowFinding.end == item.end,
        )
    ).all()


def held_findings(
    findings: Collection[RowFinding], basis: Basis
) -> dict[str, tuple[Measurement, ...]]:
    """Return by engine what still holds: found in the same rows, and labels where it used them."""
    held = {
        finding.engine: tuple(map(_from_json, finding.content))
        for finding in findings
        if finding.data_digest == basis.data_digest
        and finding.config_revision == basis.config_revision
        and (finding.engine != LABELLED_ENGINE or finding.labelled == basis.labelled)
    }
    return {engine: held[engine] for engine in ENGINES if engine in held}


def store_findings(
    session: Session, item: Item, basis: Basis, found: Mapping[str, Sequence[Measurement]]
) -> None:
    """Keep what was found, in the place of what the same engines found before."""
    if not found:
        return
    statement = pg_insert(RowFinding)
    session.execute(
        statement.on_conflict_do_update(
            constraint="pk_row_finding",
            set_={
                name: statement.excluded[name]
                for name in ("data_digest", "config_revision", "labelled", "content", "found_at")
            },
        ),
        [
            {
                "version_id": item.version_id,
                "start": item.start,
                "end": item.end,
                "engine": engine,
                "data_digest": basis.data_digest,
                "config_revision": basis.config_revision,
                "labelled": basis.labelled,
                "content": [asdict(measured) for measured in measurements],
            }
            for engine, measurements in found.items()
        ],
    )


def ask_for_findings(
    session: Session, item: Item, basis: Basis, engines: Sequence[str], *, at_once: bool = False
) -> None:
    """Make the row stage measure a window; what is under way for other rows is asked for again."""
    details = {**asdict(basis), "engines": list(engines)}
    asked = session.scalar(
        select(DueWork.details).where(
            DueWork.kind == "evidently",
            DueWork.model_id == item.model_id,
            DueWork.version_id == item.version_id,
            DueWork.start == item.start,
            DueWork.end == item.end,
        )
    )
    if asked == details:
        return
    if at_once:
        mark(session, "evidently", [item], details=details)
    else:
        after = timedelta(0)
        mark(session, "evidently", [item], after_end=after, quiet=ROW_STAGE_DELAY, details=details)


def _from_json(content: dict[str, Any]) -> Measurement:
    fields = dict(content)
    verdict = fields["verdict"]
    fields["direction"] = Direction(str(fields["direction"]))
    fields["verdict"] = Verdict(str(verdict)) if verdict is not None else None
    return Measurement(**fields)
