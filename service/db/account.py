"""The account that the embedded PostgreSQL runs under; it refuses to run as root."""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ModelwatchSetupError

_CANDIDATES = ("modelwatch", "postgres", "nobody")

# Bits of the capability mask; a container's root often has only the first.
_CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server: ourselves, or an ordinary account that root lends it."""

    uid: int
    gid: int
    switch: bool

    def own(self, path: Path) -> None:
        """Give a path that we have just made to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)

    def popen(self, command: Sequence[str], reaches: Iterable[Path]) -> dict[str, Any]:
        """Return the arguments of ``Popen`` that run the command under the account.

        Directories such as a root's home bar the account from what lies below them.  Nobody's
        permissions are changed for that: the server gets the one capability to pass them.
        """
        if not self.switch:
            return {"args": list(command)}
        switched = {"user": self.uid, "group": self.gid, "extra_groups": []}
        barred = next((bar for path in reaches if (bar := self._barred_at(path))), None)
        if barred is None:
            return {"args": list(command), **switched}
        setpriv, capability = shutil.which("setpriv"), _capability()
        if setpriv is None or capability is None:
            message = (
                f"{barred} bars the account {pwd.getpwuid(self.uid).pw_name!r}, which runs the "
                "embedded PostgreSQL for root; choose a --data-dir outside it, run as an "
                "ordinary user, or set MODELWATCH_DATABASE_URL"
            )
            raise ModelwatchSetupError(message)
        return {
            "args": [
                setpriv,
                f"--reuid={self.uid}",
                f"--regid={self.gid}",
                "--clear-groups",
                f"--inh-caps=-all,+{capability}",
                f"--ambient-caps=-all,+{capability}",
                f"--bounding-set=-all,+{capability}",
                # initdb asks access(2), which otherwise leaves capabilities out of account.
                "--securebits=+no_setuid_fixup",
                *command,
            ]
        }

    def _barred_at(self, path: Path) -> Path | None:
        for parent in reversed(path.resolve().parents):
            found = parent.stat()
            if found.st_uid == self.uid:
                needed = stat.S_IXUSR
            elif found.st_gid == self.gid:
                needed = stat.S_IXGRP
            else:
                needed = stat.S_IXOTH
            if not found.st_mode & needed:
                return parent
        return None


def account_for(cluster: Path) -> Account:
    """Choose the account: whoever owns the data already, or ourselves unless we are root."""
    me = os.geteuid()
    owner = cluster.stat() if cluster.exists() else None
    if me != 0:
        if owner is not None and owner.st_uid != me:
            message = f"{cluster} belongs to another user; choose another --data-dir"
            raise ModelwatchSetupError(message)
        return Account(me, os.getegid(), switch=False)
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, switch=True)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, switch=True)
    message = (
        "PostgreSQL does not run as root, and there is no account 'nobody' to run it under; "
        "run as an ordinary user, or set MODELWATCH_DATABASE_URL"
    )
    raise ModelwatchSetupError(message)


def _capability() -> str | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    permitted = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapPrm:")), 0
    )
    return next((name for name, bit in _CAPABILITIES.items() if permitted >> bit & 1), None)
