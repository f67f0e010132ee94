"""``Monitor.wrap``: a fitted model whose predictions are logged."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Callable

from modelwatch.adapters import Harmless
from modelwatch.context import Outermost, take_ids
from modelwatch.tables import read_inputs

if TYPE_CHECKING:
    from modelwatch.monitor import Monitor

METHODS = ("predict", "predict_proba", "decision_function")
# Python looks these up in the class, where no attribute of the model is found.
SPECIAL = ("__call__", "__contains__", "__getitem__", "__iter__", "__len__")
CHUNK = 1_000
TWO = 2
Outcomes = list[dict[str, Any]]


class WatchedModel:
    """Stands before a model: logs what its predicting methods are given and return.

    Everything else is the model's own: attributes, ``isinstance``, ``repr``.  A copy, a pickle and
    a clone of scikit-learn are of the model alone, so that neither training nor a stored artefact
    logs anything.
    """

    __slots__ = (
        "__weakref__",
        "_modelwatch_features",
        "_modelwatch_methods",
        "_modelwatch_monitor",
        "_modelwatch_of",
    )

    def __init__(
        self, monitor: Monitor, model: Any, features: Sequence[str] | None, methods: Collection[str]
    ) -> None:
        if unknown := set(methods) - set(METHODS):
            message = f"methods are some of {', '.join(METHODS)}; not {', '.join(sorted(unknown))}"
            raise ValueError(message)
        own = object.__setattr__
        own(self, "_modelwatch_monitor", monitor)
        own(self, "_modelwatch_of", model)
        own(self, "_modelwatch_features", None if features is None else [*features])
        own(self, "_modelwatch_methods", frozenset(methods))

    @property  # type: ignore[misc]  # what isinstance() asks, and what a property may answer
    def __class__(self) -> type:
        return type(self._modelwatch_of)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._modelwatch_of, name)
        return self._modelwatch_logged(name, found) if name in self._modelwatch_methods else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._modelwatch_of, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._modelwatch_of, name)

    def __dir__(self) -> list[str]:
        return dir(self._modelwatch_of)

    def __repr__(self) -> str:
        return repr(self._modelwatch_of)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._modelwatch_of.__reduce_ex__(protocol)

    def _modelwatch_logged(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def logged(*args: Any, **kwargs: Any) -> Any:
            with Outermost(self._modelwatch_monitor) as is_outermost:
                result = method(*args, **kwargs)
            if is_outermost:
                # Not every library calls its first argument X.
                inputs = next(iter((*args, *kwargs.values())), None)
                self._modelwatch_log(name, inputs, result)
            return result

        return logged

    def _modelwatch_log(self, name: str, inputs: Any, result: Any) -> None:
        monitor, model = self._modelwatch_monitor, self._modelwatch_of
        with Harmless(monitor):
            given = self._modelwatch_features or _names_in(model)
            ids = take_ids(monitor.key, len(result))
            now = time.time()
            names, parts = read_inputs(inputs, given, CHUNK)
            for start, rows in zip(itertools.count(0, CHUNK), parts):
                outcomes = OUTCOMES[name](model, _plain(result[start : start + CHUNK]))
                for row, outcome, identity in zip(rows, outcomes, ids):
                    features = dict(zip(names, row))
                    monitor.log(features, ts=now, prediction_id=identity, **outcome)


def stand_before(
    monitor: Monitor, model: Any, features: Sequence[str] | None, methods: Collection[str]
) -> WatchedModel:
    """Return the model with its predictions logged."""
    defined = {name for kind in type(model).__mro__ for name in vars(kind)}
    own = {name: _forwarded(name) for name in SPECIAL if name in defined}
    kind = type("WatchedModel", (WatchedModel,), {"__slots__": (), **own})
    watched: WatchedModel = kind(monitor, model, features, methods)
    return watched


def _forwarded(name: str) -> Callable[..., Any]:
    def forwarded(self: WatchedModel, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._modelwatch_of, name)(*args, **kwargs)

    return forwarded


def _names_in(model: Any) -> Sequence[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _predicted(_model: Any, values: list[Any]) -> Outcomes:
    """Return each prediction; of a column of them, as of a network's one output, its values."""
    rows = [value if isinstance(value, list) else [value] for value in values]
    if any(len(row) != 1 for row in rows):
        message = "a row with several outputs is no one prediction"
        raise ValueError(message)
    return [{"prediction": value} for (value,) in rows]


def _probable(model: Any, rows: list[Any]) -> Outcomes:
    """Return the likeliest class of each row; of two classes the second's is the score."""
    classes = _plain(model.classes_)
    likeliest = [classes[_highest(row)] for row in rows]
    if len(classes) == TWO:
        pairs = zip(likeliest, rows)
        return [{"prediction": value, "score": score} for value, (_, score) in pairs]
    names = [_text(each) for each in classes]
    return [
        {"prediction": value, "scores": dict(zip(names, row))}
        for value, row in zip(likeliest, rows)
    ]


def _decided(model: Any, rows: list[Any]) -> Outcomes:
    """Return the class that each decision is for: its distance is no probability."""
    classes = _plain(getattr(model, "classes_", (-1, 1)))
    if rows and isinstance(rows[0], list):
        if len(rows[0]) != len(classes):
            message = "decisions of one class against one do not say the class"
            raise ValueError(message)
        return [{"prediction": classes[_highest(row)]} for row in rows]
    return [{"prediction": classes[value >= 0]} for value in rows]


def _highest(row: list[float]) -> int:
    return row.index(max(row))


def _text(value: Any) -> str:
    """Return a class as the server names it: 1.0 is 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plain(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


OUTCOMES: dict[str, Callable[[Any, Any], Outcomes]] = {
    "predict": _predicted,
    "predict_proba": _probable,
    "decision_function": _decided,
}
