"""Whether an address may be opened: beyond loopback not before there is a key."""

import ipaddress
import logging
import socket

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service.access.repository import has_live_key
from service.db.engine import make_engine
from service.db.trouble import cause_of
from service.errors import ModelwatchSetupError

log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches the address."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        # Opening it will say what is wrong with it.
        return False
    return all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)


def require_key(url: str, host: str, *, making: str = "modelwatch key create") -> None:
    """Raise if others could reach the address while no key is there to keep them out.

    ``making`` is the command that makes one in this database.

    A database that does not answer, or is to be migrated, holds nobody up: every request wants a
    key all the same.
    """
    if is_loopback(host):
        return
    engine = make_engine(url, pool=1)
    try:
        with Session(engine) as session:
            found = has_live_key(session)
    except DBAPIError as error:
        log.warning(
            "the database did not say whether there is a key (%s); starts all the same",
            cause_of(error),
        )
        return
    finally:
        engine.dispose()
    if not found:
        message = (
            f"{host} can be reached from elsewhere, and this database has no key yet; make the"
            f" first with `{making} --scope admin`, or listen on 127.0.0.1"
        )
        raise ModelwatchSetupError(message)
