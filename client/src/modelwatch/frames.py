"""``Monitor.log_frame``: the rows of a table, logged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable

from modelwatch.adapters import Harmless
from modelwatch.context import take_id
from modelwatch.tables import read_table

if TYPE_CHECKING:
    from modelwatch.monitor import Monitor

CHUNK = 1_000
POLL_SECONDS = 0.005
PREFIXES = ("scores", "tags", "attributions")


def queue_rows(
    monitor: Monitor,
    table: Any,
    columns: Mapping[str, str | None],
    features: Sequence[str] | None,
    timeout: float,
) -> list[str]:
    """Queue each row as ``log`` and ``label`` do, waiting for room; return the ids."""
    names, parts = read_table(table, CHUNK)
    layout = _Layout(names, columns, features)
    patience = _Patience(monitor._is_filling, timeout)  # noqa: SLF001 - of this package
    now = time.time()
    ids = []
    for rows in parts:
        for row in rows:
            patience.wait()
            ids.append(_log_row(monitor, layout, row, now))
    return ids


class _Layout:
    """Which column is what."""

    def __init__(
        self, names: list[str], columns: Mapping[str, str | None], features: Sequence[str] | None
    ) -> None:
        wanted = [name for name in columns.values() if name is not None] + [*(features or ())]
        if absent := [name for name in wanted if name not in names]:
            message = f"the table has no column {', '.join(map(repr, absent))}"
            raise ValueError(message)
        at = {name: index for index, name in enumerate(names)}
        # What is not said is found by its own name.
        self.of = {field: at.get(name or field) for field, name in columns.items()}
        self.groups = {
            prefix: {n[len(prefix) + 1 :]: i for n, i in at.items() if n.startswith(f"{prefix}.")}
            for prefix in PREFIXES
        }
        taken = {index for index in self.of.values() if index is not None}
        taken.update(index for group in self.groups.values() for index in group.values())
        chosen = [n for n, i in at.items() if i not in taken] if features is None else features
        self.features = [(name, at[name]) for name in chosen]

    def value(self, row: Sequence[Any], field: str) -> Any:
        """Return what a row holds there, or None where it is missing."""
        index = self.of[field]
        return None if index is None else present(row[index])


def _log_row(monitor: Monitor, layout: _Layout, row: Sequence[Any], now: float) -> str:
    identity = layout.value(row, "prediction_id")
    identity = take_id(monitor.key) if identity is None else str(identity)
    with Harmless(monitor):
        ts = now if layout.of["ts"] is None else _time(layout.value(row, "ts"))
        groups: dict[str, Any] = {
            prefix: {name: row[at] for name, at in group.items() if present(row[at]) is not None}
            for prefix, group in layout.groups.items()
            if group
        }
        monitor.log(
            {name: row[at] for name, at in layout.features},
            layout.value(row, "prediction"),
            score=layout.value(row, "score"),
            weight=layout.value(row, "weight"),
            subject=layout.value(row, "subject"),
            prediction_id=identity,
            ts=ts,
            **{prefix: group for prefix, group in groups.items() if group},
        )
        label = layout.value(row, "label")
        if label is not None:
            at = layout.value(row, "label_ts")
            monitor.label(identity, label, label_ts=None if at is None else _time(at))
    return identity


def present(value: Any) -> Any:
    """Return a value, or None for what libraries have instead: NaN, NaT, NA."""
    if value.__class__ is float:
        return value if value == value else None  # noqa: PLR0124 - NaN alone differs from itself
    return None if type(value).__name__ in {"NAType", "NaTType"} else value


def _time(value: Any) -> float | datetime:
    """Return an instant; of a text, which needs no zone if it is in UTC."""
    if isinstance(value, str):
        at = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
    if value is None:
        message = "the row has no time"
        raise ValueError(message)
    found: float | datetime = value
    return found


class _Patience:
    """Waits for room in the queue, up to the time in which none has come."""

    def __init__(self, is_filling: Callable[[], bool], timeout: float) -> None:
        self._is_filling = is_filling
        self._timeout = timeout
        self._spent = False

    def wait(self) -> None:
        if not self._is_filling():
            self._spent = False
            return
        deadline = time.monotonic() + self._timeout
        while not self._spent and self._is_filling():
            time.sleep(POLL_SECONDS)
            self._spent = time.monotonic() > deadline
