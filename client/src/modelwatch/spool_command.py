"""``modelwatch-spool``: see what waits on the disk, send it, or throw it away."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwatch.buffer import Buffer
from modelwatch.complaints import Complaints
from modelwatch.encoding import Encoder
from modelwatch.outlet import Outlet
from modelwatch.refusals import Refusals
from modelwatch.sender import Sender
from modelwatch.spool import SpoolError, opened
from modelwatch.spooled import SpoolQueue
from modelwatch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelwatch.spool import Spool
    from modelwatch.spoolfile import Counts, Destination

DONE, REFUSED, USAGE, WAITING = 0, 1, 2, 4
BATCH = 1_000
POST_SECONDS = 10.0
TURN_SECONDS = 0.5
ALL = 1 << 62


class Drain(SpoolQueue):
    """A spool to empty, and nothing to add to it."""

    _told = float("-inf")

    def acknowledge(self, refused: int = 0) -> None:
        """Forget the batch that was due; tell people now and then how many are left."""
        super().acknowledge(refused)
        if not len(self) or time.monotonic() - self._told >= TURN_SECONDS:
            self._told = time.monotonic()
            sys.stderr.write(f"{len(self)} left\n")


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 refused, 2 usage, or 4 records still wait."""
    options = _parser().parse_args(given)
    path = Path(options.path)
    try:
        if not path.exists():
            return _fail(f"there is no spool at {path}")
        code: int = options.run(opened(str(path)), options)
    except (SpoolError, ValueError) as fault:
        return _fail(str(fault))
    except KeyboardInterrupt:
        return WAITING
    return code


def inspect(spool: Spool, options: argparse.Namespace) -> int:
    """Print what is stored, by destination."""
    counts = spool.counts()
    rows = [_document(one) for one in counts]
    samples = [spool.sample(one.destination, options.sample) for one in counts]
    if options.json:
        if options.sample:
            for row, found in zip(rows, samples):
                row["sample"] = [json.loads(stored.body) for stored in found]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _table(rows)
        for stored in chain.from_iterable(samples):
            sys.stdout.write(stored.body.decode(errors="replace") + "\n")
    return DONE


def push(spool: Spool, options: argparse.Namespace) -> int:
    """Send what is stored until nothing is left, or nothing goes any more."""
    environment = os.environ  # noqa: TID251 - a key has no place in a command line
    url = options.url or environment.get("MODELWATCH_URL")
    if not url:
        return _fail("say --url, or set MODELWATCH_URL")
    transport = Transport(url, environment.get(options.api_key_env), POST_SECONDS)
    counts: Counter[str] = Counter()
    complaints, refusals = Complaints("modelwatch-spool"), Refusals()
    queue = Drain(
        spool, Buffer(0, 0), Encoder(None, counts, complaints), {},
        Outlet(spool, _chosen(spool, options), list), complaints,
    )  # fmt: skip
    sender = Sender(transport, queue, counts, complaints, (refusals,), batch=BATCH, interval=0)
    with closing(transport):
        _drain(sender, queue, options.patience)
    return _told(counts, len(queue), refusals.told())


def _drain(sender: Sender, queue: Drain, patience: float) -> None:
    queue.look()
    left, moved = len(queue), time.monotonic()
    while left and time.monotonic() - moved < patience:
        sender.flush(patience)
        # What other processes send is gone as well, and what they hold will be.
        queue.wait(TURN_SECONDS if len(queue) else 0)
        queue.look()
        if len(queue) < left:
            left, moved = len(queue), time.monotonic()


def purge(spool: Spool, options: argparse.Namespace) -> int:
    """Remove what is stored, unsent."""
    destinations = _chosen(spool, options)
    if not options.yes:
        return _fail(f"{spool.rows(destinations)} records would be lost: say --yes")
    rows = sum(spool.remove(to, 0, ALL) for to in destinations)
    spool.expire()
    sys.stdout.write(f"{rows} records removed\n")
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelwatch-spool",
        description="See what waits on the disk of a host, send it, or throw it away.",
        epilog="Exit codes: 0 done, 1 some were refused, 2 usage, 4 some still wait.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shown = commands.add_parser("inspect", help="count what is stored, by model and kind")
    shown.add_argument("--json", action="store_true", help="print JSON")
    shown.add_argument(
        "--sample", type=int, default=0, metavar="N", help="print the oldest N records of each, too"
    )
    shown.set_defaults(run=inspect)
    pushed = commands.add_parser("push", help="send all of it to one server, wherever it was to go")
    pushed.add_argument("--url", help="the server  [default: MODELWATCH_URL]")
    pushed.add_argument(
        "--api-key-env", default="MODELWATCH_API_KEY", metavar="NAME",
        help="the environment variable that holds the key  [default: %(default)s]",
    )  # fmt: skip
    pushed.add_argument(
        "--patience", type=float, default=30.0, metavar="SECONDS",
        help="give up when nothing was taken for so long  [default: %(default)g]",
    )  # fmt: skip
    pushed.set_defaults(run=push)
    removed = commands.add_parser("purge", help="remove it, unsent")
    removed.add_argument("--yes", action="store_true", help="mean it")
    removed.set_defaults(run=purge)
    for command in (shown, pushed, removed):
        command.add_argument("path", help="the file that Monitor(spool=...) names")
    for command in (pushed, removed):
        command.add_argument("--model", help="of this model only")
    return parser


def _chosen(spool: Spool, options: argparse.Namespace) -> list[Destination]:
    return spool.destinations(model=options.model)


def _told(counts: Counter[str], left: int, refused: str) -> int:
    sent = counts["accepted"] + counts["duplicates"]
    parts = [f"{sent} sent ({counts['duplicates']} were there already)", refused]
    if left:
        parts.append(f"{left} still wait")
    sys.stdout.write("; ".join(part for part in parts if part) + "\n")
    if left:
        return WAITING
    return REFUSED if counts["rejected"] else DONE


def _document(one: Counts) -> dict[str, Any]:
    envelope = json.loads(one.destination.head + b"]}")
    return {
        "model": one.destination.model,
        "version": envelope.get("version"),
        "kind": one.destination.path.rpartition("/")[2],
        "rows": one.rows,
        "bytes": one.bytes,
        "oldest": _time(one.oldest),
        "newest": _time(one.newest),
        "refused": one.refused,
        "expired": one.expired,
        "server": one.destination.url,
    }


def _time(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")


def _table(rows: list[dict[str, Any]]) -> None:
    names = ["model", "version", "kind", "rows", "bytes", "oldest", "newest", "refused", "expired"]
    names.append("server")
    lines = [names] + [
        ["-" if row[one] is None else str(row[one]) for one in names] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _fail(text: str) -> int:
    sys.stderr.write(f"modelwatch-spool: {text}\n")
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
