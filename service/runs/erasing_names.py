"""What only erased rows said, taken out of everything that names values."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import String, and_, cast, distinct, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from service.alerts.tables import Incident, Signal
from service.ingest.tables import prediction
from service.profiles.forget import ERASED, forget, named_values
from service.profiles.serialise import binning_from_bytes, binning_to_bytes
from service.registry.tables import Binning, Feature, Model
from service.retraining.tables import RetrainingRequest
from service.runs.erasing_rows import SLOT
from service.runs.tables import Measurement, RowFinding, Window
from service.webhooks.tables import Outbox

# A shorter one would be found inside of other words, and names nobody.
SHORTEST = 3

Column = dict[str, set[Any]]


def only_erased(session: Session, model_id: int, values: Column, kept: list[pa.Table]) -> Column:
    """Return, by the names of features and tags, the values that no row has any more.

    ``kept`` are what is left of the references of the model.  Numbers are looked for only where
    an edge is one.
    """
    slots = dict(_slots(session, model_id))
    said: Column = {}
    for name, found in values.items():
        # Tags, and features of a reference, come by their own names, those of rows by their slots.
        of_slot = [own for own, slot in slots.items() if f"{SLOT}{slot}" == name]
        for own in of_slot if name.startswith(SLOT) else [name]:
            said.setdefault(own, set()).update(found)
    edges = _edges(session, model_id, said)
    asked = {
        name: {v for v in found if isinstance(v, str) or v in edges.get(name, ())}
        for name, found in said.items()
    }
    gone = _gone(session, model_id, slots, {name: found for name, found in asked.items() if found})
    return {name: _without(found, name, kept) for name, found in gone.items()}


def _edges(session: Session, model_id: int, names: Iterable[str]) -> Column:
    found: Column = {}
    for content in session.scalars(select(Binning.content).where(Binning.model_id == model_id)):
        binning = binning_from_bytes(content)
        for name in names:
            found.setdefault(name, set()).update(named_values(binning, name))
    return found


def _slots(session: Session, model_id: int) -> Iterable[tuple[str, str]]:
    rows = session.execute(
        select(Feature.name, Feature.slot)
        .where(Feature.model_id == model_id, Feature.slot.is_not(None))
        .distinct()
    )
    return [(name, str(slot)) for name, slot in rows]


def _gone(session: Session, model_id: int, slots: Mapping[str, str], said: Column) -> Column:
    """Return what of the values no row of the model has; all columns are read at once."""
    cells = {name: cell for name in said if (cell := _cell(name, slots)) is not None}
    if not cells:
        return said
    there = [
        func.array_agg(distinct(cell)).filter(cell.in_(said[name])) for name, cell in cells.items()
    ]
    row = session.execute(select(*there).where(prediction.c.model_id == model_id)).one()
    left = dict(zip(cells, row, strict=True))
    return {name: found - set(left.get(name) or ()) for name, found in said.items()}


def _cell(name: str, slots: Mapping[str, str]) -> Any:
    if name.startswith("tags."):
        return prediction.c.tags[name.removeprefix("tags.")].astext
    return prediction.c[slots[name]] if name in slots else None


def _without(said: set[Any], name: str, tables: list[pa.Table]) -> set[Any]:
    for table in tables:
        if name in table.column_names and said:
            array = table.column(name)
            fitting = pa.types.is_string(array.type) == all(isinstance(v, str) for v in said)
            if fitting and (pa.types.is_string(array.type) or pa.types.is_floating(array.type)):
                found = pc.filter(array, pc.is_in(array, pa.array(list(said), array.type)))
                said = said - set(found.to_pylist())
    return said


def forget_edges(
    session: Session,
    model_id: int,
    gone: Column,
    nearest: Callable[[str, float], float],
) -> int:
    """Rewrite the edges of a model that name what is gone; return how many did."""
    number = 0
    for row in session.scalars(select(Binning).where(Binning.model_id == model_id)):
        binning = binning_from_bytes(row.content)
        named = {name: said & named_values(binning, name) for name, said in gone.items()}
        texts = {name: {v for v in said if isinstance(v, str)} for name, said in named.items()}
        moves = {
            name: {v: nearest(name, v) for v in said if isinstance(v, float)}
            for name, said in named.items()
        }
        if any(named.values()):
            row.content = binning_to_bytes(forget(binning, texts, moves))
            number += 1
    session.flush()
    return number


def nearest_value(
    session: Session, model_id: int, kept: list[pa.Table]
) -> Callable[[str, float], float]:
    """Return how to find the value of a row that is nearest to one that no row has."""
    slots = dict(_slots(session, model_id))

    def find(name: str, value: float) -> float:
        found: list[float] = []
        if slots.get(name, "") in prediction.c:
            cell = prediction.c[slots[name]]
            below = func.max(cell).filter(cell < value)
            above = func.min(cell).filter(cell > value)
            row = session.execute(
                select(below, above).where(prediction.c.model_id == model_id)
            ).one()
            found += [v for v in row if v is not None]
        for table in kept:
            if name in table.column_names and pa.types.is_floating(table.column(name).type):
                values = pc.drop_null(table.column(name)).to_pylist()
                found += [max((v for v in values if v < value), default=value)]
                found += [min((v for v in values if v > value), default=value)]
        return min((v for v in found if v != value), key=lambda v: abs(v - value), default=value)

    return find


def scrub(session: Session, model_id: int, gone: Column) -> int:
    """Replace what is gone in all that was ever said of the model; return in how many rows."""
    words = sorted(
        {v for said in gone.values() for v in said if isinstance(v, str) and len(v) >= SHORTEST},
        key=len,
        reverse=True,
    )
    number = 0
    windows = select(Window.id).where(Window.model_id == model_id)
    versions = select(Window.version_id).where(Window.model_id == model_id).distinct()
    source = "/monitors/" + session.scalars(select(Model.name).where(Model.id == model_id)).one()
    places: tuple[tuple[Any, Any, tuple[str, ...]], ...] = (
        (Measurement, Measurement.window_id.in_(windows), ("slice", "reason")),
        (Window, Window.model_id == model_id, ("reason", "warnings")),
        (Signal, Signal.version_id.in_(versions), ("cause", "slice", "reason")),
        (Incident, Incident.model_id == model_id, ("cause", "slice", "reason", "note")),
        (RetrainingRequest, RetrainingRequest.model_id == model_id, ("reason", "note")),
        (Outbox, Outbox.event["source"].astext == source, ("event",)),
        (RowFinding, RowFinding.version_id.in_(versions), ("content",)),
    )
    for word in words:
        for table, mine, names in places:
            number += _replace(session, table, mine, names, word)
    return number


def _replace(session: Session, table: Any, mine: Any, names: tuple[str, ...], word: str) -> int:
    changes: Mapping[str, Any] = {name: _replaced(getattr(table, name), word) for name in names}
    says = [_position(getattr(table, name), word) > 0 for name in names]
    done: Any = session.execute(
        update(table)
        .where(and_(mine, or_(*says)))
        .values(**changes)
        .execution_options(synchronize_session=False)
    )
    return int(done.rowcount)


def _is_json(column: Any) -> bool:
    return isinstance(column.type, JSONB)


def _spelled(column: Any, word: str) -> str:
    return json.dumps(word, ensure_ascii=False)[1:-1] if _is_json(column) else word


def _position(column: Any, word: str) -> Any:
    return func.strpos(func.coalesce(cast(column, String), ""), _spelled(column, word))


def _replaced(column: Any, word: str) -> Any:
    text = func.replace(cast(column, String), _spelled(column, word), f"[{ERASED}]")
    return cast(text, JSONB) if _is_json(column) else text
