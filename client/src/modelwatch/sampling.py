"""Which predictions a sample holds: the same ones in every process, whatever else is logged."""

from __future__ import annotations

import hashlib


def is_sampled(prediction_id: str, rate: float) -> bool:
    """Say whether a sample of that rate holds a prediction.

    A smaller sample is part of a larger one.

    >>> is_sampled("0190c7", 1.0), is_sampled("0190c7", 0.0)
    (True, False)
    """
    digest = hashlib.blake2b(prediction_id.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2**64
