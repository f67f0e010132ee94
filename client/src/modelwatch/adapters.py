"""The methods of ``Monitor`` for a model server, a fitted model and a batch job.

What they need is imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, TypeVar, cast, overload

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from modelwatch.monitor import Monitor
    from modelwatch.watching import Features, Function, Output

Model = TypeVar("Model")


class Harmless:
    """Counts a failure to log instead of raising it: what is watched goes on."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def __enter__(self) -> None:
        """Let what follows fail."""

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: object) -> bool:
        if not isinstance(fault, Exception):
            return False
        self._monitor._miscarry(fault)  # noqa: SLF001 - of this package, and no promise to hosts
        return True


@overload
def watch(monitor: Monitor, function: Function) -> Function: ...


@overload
def watch(
    monitor: Monitor, *, features: Features = None, output: Output = None
) -> Callable[[Function], Function]: ...


def watch(
    monitor: Monitor, function: Any = None, *, features: Features = None, output: Output = None
) -> Any:
    """Log the calls of a function, plain or ``async``; what it returns and raises is untouched.

    Its arguments are the features; or ``features`` names the one that holds them (a mapping, a
    pydantic model, a dataclass), or is called with the arguments and returns them.  The result
    is the prediction, prediction and score, or a mapping with the keywords of ``log``; or
    ``output`` makes one of these of it.

    >>> monitor = Monitor("loans", version="7", mode="off")
    >>> @monitor.watch(output=lambda p: (int(p > 0.5), p))
    ... def repay(income: float, region: str) -> float:
    ...     return 0.83
    >>> repay(41_000.0, "north")
    0.83
    """
    from modelwatch.watching import watched  # noqa: PLC0415 - paid for by those who use it

    def decorate(function: Any) -> Any:
        return watched(monitor, function, features, output)

    return decorate if function is None else decorate(function)


def wrap(
    monitor: Monitor,
    model: Model,
    *,
    features: Sequence[str] | None = None,
    methods: Collection[str] = ("predict", "predict_proba", "decision_function"),
) -> Model:
    """Return the model with its predictions logged; in everything else it is as it was.

    Features have the names of the frame's columns, else those given, else those the model
    was fitted with, else ``x0``, ``x1`` and so on.  Where a server calls two ``methods`` for
    each row, name the one that is to be logged.
    """
    from modelwatch.wrapping import stand_before  # noqa: PLC0415 - as in `watch`

    return cast("Model", stand_before(monitor, model, features, methods))


def log_frame(
    monitor: Monitor,
    table: Any,
    *,
    prediction: str | None = None,
    score: str | None = None,
    label: str | None = None,
    prediction_id: str | None = None,
    ts: str | None = None,
    label_ts: str | None = None,
    weight: str | None = None,
    subject: str | None = None,
    features: Sequence[str] | None = None,
    timeout: float = 60.0,
) -> list[str]:
    """Queue each row of a table, with its label if it has one, and return the ids.

    Of pandas, polars or pyarrow; of a list of records, or a mapping of columns.  A column is
    found by the name of its field unless the argument has another (``score="p_repaid"``);
    ``scores.<class>``, ``tags.<name>`` and ``attributions.<feature>`` are such fields as well.
    All others are features.  Times without a zone are in UTC.

    Unlike ``log`` it waits while the queue is filling, until no room has come for ``timeout``
    seconds; then rows may be dropped, as ``flush`` tells.

    Raises
    ------
    ValueError, TypeError
        If a named column does not exist, or the table is none; never because of its rows.
    """
    from modelwatch.frames import queue_rows  # noqa: PLC0415 - as in `watch`

    columns = {
        "prediction": prediction,
        "score": score,
        "label": label,
        "prediction_id": prediction_id,
        "ts": ts,
        "label_ts": label_ts,
        "weight": weight,
        "subject": subject,
    }
    return queue_rows(monitor, table, columns, features, timeout)
