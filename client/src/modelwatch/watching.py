"""``Monitor.watch``: a function whose calls are predictions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Callable, TypeVar, Union

from modelwatch.adapters import Harmless
from modelwatch.context import Outermost

if TYPE_CHECKING:
    from modelwatch.monitor import Monitor

Function = TypeVar("Function", bound=Callable[..., Any])
Features = Union[str, Callable[..., Any], None]
Output = Union[Callable[[Any], Any], None]


def watched(monitor: Monitor, function: Function, features: Features, output: Output) -> Function:
    """Return the function with its calls logged; what it returns and raises is untouched."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = "a generator has no one result to log; watch the function that predicts"
        raise TypeError(message)
    call = _Call(monitor, _extractor(function, features), output)
    wrapper: Any = _async(call, function) if _is_async(function) else _sync(call, function)
    functools.update_wrapper(wrapper, function)
    watching: Function = wrapper
    return watching


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - whether it is async is the question
    )


def _sync(call: _Call, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with Outermost(call.monitor) as is_outermost:
            seen = call.before(args, kwargs) if is_outermost else None
            result = function(*args, **kwargs)
        call.after(seen, result)
        return result

    return wrapper


def _async(call: _Call, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with Outermost(call.monitor) as is_outermost:
            seen = call.before(args, kwargs) if is_outermost else None
            result = await function(*args, **kwargs)
        call.after(seen, result)
        return result

    return wrapper


class _Call:
    def __init__(self, monitor: Monitor, extract: Callable[..., Any], output: Output) -> None:
        self.monitor = monitor
        self._extract = extract
        self._output = output

    def before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Return the features as they come in: the function may change its arguments."""
        with Harmless(self.monitor):
            return as_mapping(self._extract(*args, **kwargs))
        return None

    def after(self, features: dict[str, Any] | None, result: Any) -> None:
        """Log what came of them."""
        if features is not None:
            with Harmless(self.monitor):
                split = result if self._output is None else self._output(result)
                self.monitor.log(features, **_outcome(split))


def _extractor(function: Callable[..., Any], features: Features) -> Callable[..., Any]:
    """Return what finds the features in the arguments of a call."""
    if callable(features):
        return features
    signature = inspect.signature(function)
    if features is not None:
        return _argument(signature, features)

    def all_of_them(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        call.arguments.pop("self", None)
        return call.arguments

    return all_of_them


def _argument(signature: inspect.Signature, name: str) -> Callable[..., Any]:
    if name not in signature.parameters:
        message = f"the function has no argument {name!r}"
        raise ValueError(message)
    wanted = signature.parameters[name]
    at = list(signature.parameters).index(name)
    by_name_only = wanted.kind is inspect.Parameter.KEYWORD_ONLY

    def argument(*args: Any, **kwargs: Any) -> Any:
        if name in kwargs:
            return kwargs[name]
        return wanted.default if by_name_only or at >= len(args) else args[at]

    return argument


def as_mapping(value: Any) -> dict[str, Any]:
    """Return the features of a mapping, a pydantic model, a dataclass or a named tuple."""
    if isinstance(value, Mapping):
        return dict(value)
    for name in ("model_dump", "_asdict"):
        method = getattr(value, name, None)
        if callable(method):
            return dict(method())
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    message = f"{type(value).__name__} holds no named features"
    raise TypeError(message)


def _outcome(split: Any) -> dict[str, Any]:
    """Return the keywords of ``log``: from themselves, or from prediction and score."""
    if isinstance(split, Mapping):
        return dict(split)
    if isinstance(split, tuple):
        prediction, score = split
        return {"prediction": prediction, "score": score}
    return {"prediction": split}
