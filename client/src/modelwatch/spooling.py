"""What a monitor needs to know of its spool."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelwatch.outlet import Outlet
from modelwatch.spool import Spool, opened
from modelwatch.spooled import SpoolQueue
from modelwatch.spoolfile import Destination

if TYPE_CHECKING:
    from modelwatch.buffer import Buffer
    from modelwatch.complaints import Complaints
    from modelwatch.encoding import Encoder
    from modelwatch.queues import Routes

DAY_SECONDS = 86_400.0


class Spooling(NamedTuple):
    """Where the records of a monitor are kept, and for whom."""

    spool: Spool
    url: str
    model: str

    def queue(
        self,
        buffer: Buffer,
        encoder: Encoder,
        routes: Routes,
        complaints: Complaints,
    ) -> SpoolQueue:
        """Return a queue for this process."""
        own = {
            lane: Destination(self.url, path, self.model, head)
            for lane, (path, head) in routes.items()
        }
        others = partial(self.spool.destinations, self.url, self.model)
        outlet = Outlet(self.spool, list(own.values()), others)
        return SpoolQueue(self.spool, buffer, encoder, own, outlet, complaints)


def spooling(
    path: str | os.PathLike[str], max_bytes: int, max_days: float, url: str, model: str
) -> Spooling:
    """Return where to keep records; the url without what may stand in it for a key."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    host, _, prefix = rest.partition("/")
    server = f"{scheme}://{host.rpartition('@')[2]}/{prefix}".rstrip("/")
    spool = opened(os.fspath(path), max_bytes=max_bytes, max_age=max_days * DAY_SECONDS)
    return Spooling(spool, server, model)
