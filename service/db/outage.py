"""What a process says of a database that fails it: once when it begins, and once when it is over.

Requests and loops meet the same outage many times a second, each on its own.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.db.trouble import cause_of, is_absence, lacks_tables
from service.errors import NotMigratedError

log = logging.getLogger(__name__)

# Under load some requests get their connection while others wait in vain: that is one outage.
CALM_SECONDS = 5.0
# Who tries again in a loop waits so long at first, and twice as long each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
# These fail everybody; what else the database refuses may be one job's affair.
_AWAY, _TABLES = ("", "away"), ("", "tables")


@dataclass(slots=True)
class _Open:
    began: float
    last: float


class Outages:
    """What fails at present; any thread tells."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], _Open] = {}

    def fails(self, who: str, error: BaseException) -> None:
        """Tell that the database has failed somebody."""
        cause = cause_of(error)
        key = (who, cause.partition(":")[0])
        if is_absence(error):
            key = _AWAY
        elif lacks_tables(error):
            key = _TABLES
        with self._lock:
            now = self._now()
            known = self._open.get(key)
            if known is not None:
                known.last = now
                return
            self._open[key] = _Open(now, now)
        if key is _AWAY:
            log.warning("the database does not answer: %s", cause)
        elif key is _TABLES:
            log.warning("%s", NotMigratedError().detail)
        else:
            log.warning("%s: the database fails: %s", who, cause)

    def works(self, who: str) -> None:
        """Tell that the database has done what somebody asked."""
        if not self._open:
            return
        with self._lock:
            now = self._now()
            over = [
                key
                for key, seen in self._open.items()
                if key[0] in {"", who} and now - seen.last >= CALM_SECONDS
            ]
            ended = {key: self._open.pop(key) for key in over}
        for key, seen in ended.items():
            seconds = round(seen.last - seen.began)
            if key is _AWAY:
                log.warning("the database answers again; it was away for %s s", seconds)
            elif key is _TABLES:
                log.warning("the database has the tables of this release now")
            else:
                log.warning("%s: the database works again, after %s s", who, seconds)


# There is one of it in a process, as of the log that it speaks through.
DATABASE = Outages()


def pause_after(failures: int) -> float:
    """Return for how long to leave the database alone after so many failures on end."""
    return min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE)
