"""Commands of keys and of the audit log."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from service.processes.options import Duration, data_dir_option, read_settings

_SCOPES = ("ingest", "read", "alerts", "admin")
_PER_MINUTE = click.IntRange(1)


@click.group()
def key() -> None:
    """Make, list, rotate and revoke keys.

    They are those of MODELWATCH_DATABASE_URL, or of the embedded database, whether or not
    `modelwatch up` runs.
    """


@key.command("create")
@click.option(
    *("--scope", "scopes"),
    type=click.Choice(_SCOPES),
    multiple=True,
    required=True,
    help="What it is for; may be repeated. admin includes the others.",
)
@click.option(*("--model", "models"), multiple=True, help="Only for this model; may be repeated.")
@click.option("--name", default="", help="Who or what it is for.")
@click.option("--env", default="live", show_default=True, help="Stands in the key.")
@click.option("--expires", type=Duration(), help="From now: 90d  [default: never]")
@click.option("--requests-per-minute", type=_PER_MINUTE, help="In each API process.")
@click.option("--rows-per-minute", type=_PER_MINUTE, help="In each API process.")
@click.option("--bytes-per-minute", type=_PER_MINUTE, help="In each API process.")
@data_dir_option
def create(*, data_dir: Path | None, expires: timedelta | None, **given: Any) -> int:
    """Make a key.

    It is printed once, alone on standard output, and cannot be had again.
    """
    from service.processes import access

    wish = {
        **given,
        "models": given["models"] or None,
        "expires_in_days": None if expires is None else expires / timedelta(days=1),
    }
    settings = read_settings(data_dir=data_dir)
    text, odd = access.create(settings, wish)
    for line in odd:
        click.echo(line, err=True)
    if settings.database_url is None:
        click.echo(f"A key of the database in {settings.data_dir.expanduser()}.", err=True)
    click.echo("Keep this key; it is not shown again:", err=True)
    click.echo(text)
    return 0


@key.command("list")
@data_dir_option
def list_(*, data_dir: Path | None) -> int:
    """List all keys, without their secrets."""
    from service.processes import access

    for line in access.listed(read_settings(data_dir=data_dir)):
        click.echo(line)
    return 0


@key.command()
@click.argument("kid")
@click.option(
    "--grace", type=Duration(), default="24h", show_default=True, help="The old key goes on."
)
@data_dir_option
def rotate(*, kid: str, grace: timedelta, data_dir: Path | None) -> int:
    """Make a key that grants the same.

    The old one goes on for the grace, and no longer.
    """
    from service.processes import access

    text = access.rotate(read_settings(data_dir=data_dir), kid, grace)
    click.echo("Keep this key; it is not shown again:", err=True)
    click.echo(text)
    return 0


@key.command()
@click.argument("kid")
@data_dir_option
def revoke(*, kid: str, data_dir: Path | None) -> int:
    """End a key.

    Every process refuses it within 30 seconds.
    """
    from service.processes import access

    access.revoke(read_settings(data_dir=data_dir), kid)
    click.echo(f"{kid} is revoked: every process refuses it within 30 seconds")
    return 0


@click.group()
def audit() -> None:
    """Look after the audit log."""


@audit.command()
@data_dir_option
def verify(*, data_dir: Path | None) -> int:
    """Verify the chain of the audit log.

    Exit code 1 where it is broken.
    """
    from service.processes import access

    found = access.verified(read_settings(data_dir=data_dir))
    if found.broken_at is not None:
        click.echo(f"the chain is broken at entry {found.broken_at}", err=True)
        return 1
    click.echo(f"{found.entries} entries, an unbroken chain; its head is {found.head}")
    return 0
