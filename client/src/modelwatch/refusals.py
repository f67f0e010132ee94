"""What a server refused, in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

MOST_CODES = 5
MOST_SAID = 100


class Refusals:
    """Refused records by code; what was told once is not told again."""

    def __init__(self) -> None:
        self._codes: Counter[str] = Counter()
        self._field: str | None = None

    def add(self, rows: int, status: int | None, document: dict[str, Any]) -> None:
        """Count the ``rows`` that an answer refuses; its list may name only the first of them."""
        listed = document.get("rejected")
        faults = (
            [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        )
        for fault in faults[:rows]:
            self._codes[str(fault.get("code"))[:MOST_SAID]] += 1
            self._field = self._field or str(fault.get("field") or "")[:MOST_SAID]
        if faults and rows > len(faults):
            self._codes["not named"] += rows - len(faults)
        elif not faults:
            self._codes[_whole(status, document)] += rows

    def told(self) -> str:
        """Return a clause about what was refused since the last call, or an empty text."""
        codes, self._codes = self._codes, Counter()
        field, self._field = self._field, None
        rows = sum(codes.values())
        if not rows:
            return ""
        named = [f"{code} ({count})" for code, count in codes.most_common(MOST_CODES)]
        if len(codes) > MOST_CODES:
            named.append("...")
        subject = "1 record was" if rows == 1 else f"{rows} records were"
        where = f"; the first in {field}" if field else ""
        return f"{subject} refused: {', '.join(named)}{where}"


def _whole(status: int | None, document: dict[str, Any]) -> str:
    """Return why a request was refused as a whole: the name of its problem, where it has one."""
    name = str(document.get("type") or "").rpartition("/problems/")[2]
    if name and name != "about:blank":
        return name[:MOST_SAID]
    detail = document.get("detail")
    return f"{status} {detail}"[:MOST_SAID] if detail else f"{status}"
