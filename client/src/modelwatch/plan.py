"""What a monitor was told when it was made, and by the environment."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from modelwatch.buffer import LABELS, POLICIES, PREDICTIONS

if TYPE_CHECKING:
    from modelwatch.encoding import Redact
    from modelwatch.queues import Routes
    from modelwatch.spooling import Spooling
    from modelwatch.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8080"
MODES = ("on", "off", "memory")


class Plan(NamedTuple):
    """Settings that a fork does not change."""

    whose: str
    mode: str
    routes: Routes
    connect: Callable[[], Transport] | None
    spooling: Spooling | None
    redact: Redact | None
    policy: str
    max_rows: int
    max_bytes: int
    batch: int
    interval: float
    timeout: float


def make_plan(
    model: str,
    version: str,
    *,
    url: str | None,
    api_key: str | None,
    mode: str | None,
    spool: str | os.PathLike[str] | None,
    spool_bytes: int,
    spool_days: float,
    policy: str,
    timeout: float,
    **others: Any,
) -> Plan:
    """Return the settings, those of the environment where none were given."""
    environment = os.environ  # noqa: TID251 - the SDK's own settings, read once
    mode = mode or environment.get("MODELWATCH_MODE") or "on"
    _require("mode", mode, MODES)
    _require("policy", policy, POLICIES)
    for name in ("max_rows", "max_bytes", "batch", "interval"):
        if not others[name] > 0:
            message = f"{name} is a number above 0"
            raise ValueError(message)
    address = url or environment.get("MODELWATCH_URL") or DEFAULT_URL
    key = api_key or environment.get("MODELWATCH_API_KEY")
    place = spool or environment.get("MODELWATCH_SPOOL")
    connect, spooling = None, None
    if mode == "on":
        # Here and not with the package: a host that has it switched off does without.  And not
        # later: a fork in the middle of an import would leave a child with half a module.
        from modelwatch.transport import Transport  # noqa: PLC0415 - as said

        connect = partial(Transport, address, key, timeout)
    if mode == "on" and place:
        from modelwatch.spooling import spooling as keep  # noqa: PLC0415 - as said

        spooling = keep(place, spool_bytes, spool_days, address, model)
    routes = {
        PREDICTIONS: ("/v1/predictions", _head({"model": model, "version": version})),
        LABELS: ("/v1/labels", _head({"model": model})),
    }
    whose = f"modelwatch: {model} {version}"
    return Plan(whose, mode, routes, connect, spooling, policy=policy, timeout=timeout, **others)


def sample_rate(given: float | None) -> float:
    """Return which share of the predictions is to be sent."""
    environment = os.environ  # noqa: TID251 - as above
    rate = float(environment.get("MODELWATCH_SAMPLE") or 1 if given is None else given)
    if not 0 < rate <= 1:
        message = "sample is a rate above 0, and at most 1"
        raise ValueError(message)
    return rate


def _require(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        message = f"{name} is one of {', '.join(known)}"
        raise ValueError(message)


def _head(envelope: dict[str, str]) -> bytes:
    return json.dumps(envelope)[:-1].encode() + b', "records": ['
