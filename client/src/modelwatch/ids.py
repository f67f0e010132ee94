"""Prediction ids that sort by time."""

import os
import random
import time

# Not the module's functions: a host that seeds them would make the same ids twice.
_random = random.Random()  # noqa: S311 - ids are no secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)
_LOW_62 = (1 << 62) - 1


def new_prediction_id() -> str:
    """Return a UUIDv7 as 32 hexadecimal digits."""
    noise = _random.getrandbits(74)
    stamp = time.time_ns() // 1_000_000
    value = (stamp << 80) | _VERSION_AND_VARIANT | ((noise >> 62) << 64) | (noise & _LOW_62)
    return f"{value:032x}"
