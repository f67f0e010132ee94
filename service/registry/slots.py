"""Which column of the prediction table holds a feature."""

from collections.abc import Iterable, Iterator, Mapping

from service.errors import InvalidDocumentError
from service.registry.values import ATTRIBUTION

# The slots' names are fixed by the prediction table, which lies above in the house.
LIMITS: Mapping[str, int] = {"n": 256, "c": 64, "v": 4}
_PREFIXES = {
    **dict.fromkeys(("numeric", "boolean", "datetime", ATTRIBUTION), "n"),
    **dict.fromkeys(("categorical", "text"), "c"),
    "embedding": "v",
}
_MEANINGS = {
    "n": "numeric, boolean and datetime features and attributions",
    "c": "categorical and text features",
    "v": "embedding features",
}


class TooManyFeaturesError(InvalidDocumentError):
    """The model's versions together have more features than there are slots."""

    code = "too-many-features"
    title = "Too many features"

    def __init__(self, prefix: str) -> None:
        limit = LIMITS[prefix]
        detail = f"the versions of a model hold at most {limit} {_MEANINGS[prefix]} together"
        super().__init__(detail, limit=limit)


def allocate(
    taken: Iterable[tuple[str, str, str]], wanted: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Give each wanted (name, kind) a slot, and return them by name.

    ``taken`` are the (name, kind, slot) of every version of the model.  The same feature keeps
    its slot over versions; one that changed its kind is another feature.
    """
    known = {(name, kind): slot for name, kind, slot in taken}
    used = set(known.values())
    free = {prefix: _free(prefix, used) for prefix in LIMITS}
    slots: dict[str, str] = {}
    for name, kind in wanted:
        prefix = _PREFIXES[kind]
        slot = known.get((name, kind)) or next(free[prefix], None)
        if slot is None:
            raise TooManyFeaturesError(prefix)
        slots[name] = slot
    return slots


def _free(prefix: str, used: set[str]) -> Iterator[str]:
    names = (f"{prefix}{number}" for number in range(1, LIMITS[prefix] + 1))
    return (name for name in names if name not in used)
