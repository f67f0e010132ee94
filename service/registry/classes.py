"""Classes are canonical text, whatever type a client logs them as."""

import math
from collections.abc import Collection

_LARGEST_EXACT = 1 << 53
_WORDS = {True: "true", False: "false"}


def class_text(value: object, declared: Collection[str] = ()) -> str | None:
    """Return the text of a class; ``True``, ``1`` and ``1.0`` are one class, ``None`` is none.

    A boolean is written as a word only where the ``declared`` classes are words.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        word = _WORDS[value]
        return word if word in declared else str(int(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        integral = value.is_integer() and abs(value) <= _LARGEST_EXACT
        return str(int(value)) if integral else repr(value)
    return None
