"""The command line.  Commands import what they need when they run: ``--help`` stays fast."""

import sys
from pathlib import Path

import click

from service.errors import ModelwatchSetupError
from service.processes.cli_access import audit, key
from service.processes.cli_files import import_, replay
from service.processes.options import data_dir_option, read_settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="modelwatch-server", prog_name="modelwatch")
def cli() -> None:
    """Monitor deployed models: drift, performance, retraining requests."""


cli.add_command(key)
cli.add_command(audit)


@cli.command()
@data_dir_option
@click.option("--host", help="Address to listen on  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 = any  [default: 8080]"
)
@click.option("--demo", is_flag=True, help="Replay a month of a drifting loan model.")
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
def up(
    *, data_dir: Path | None, host: str | None, port: int | None, demo: bool, no_open: bool
) -> int:
    """Run database, API and worker in one.

    The database is embedded, unless MODELWATCH_DATABASE_URL is set.
    """
    from service.processes import up as implementation

    settings = read_settings(data_dir=data_dir, host=host, port=port)
    return implementation.run(settings, demo=demo, open_pages=not no_open)


@cli.command()
@click.option("--host", help="Address to listen on  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on  [default: 8080]")
def serve(*, host: str | None, port: int | None) -> int:
    """Run the API.

    It works on MODELWATCH_DATABASE_URL; any number may run side by side.
    """
    from service.processes.database import required_url

    settings = read_settings(host=host, port=port)
    # Before the imports of the API, which take a second.
    required_url(settings, "serve")
    from service.processes import api

    return api.run(settings)


@cli.command()
def worker() -> int:
    """Run a worker.

    It works on MODELWATCH_DATABASE_URL; any number may run side by side.
    """
    from service.processes.database import required_url

    settings = read_settings()
    required_url(settings, "worker")
    from service.processes import worker as implementation

    return implementation.run(settings)


@cli.command()
def migrate() -> int:
    """Create or upgrade the tables.

    They are those of MODELWATCH_DATABASE_URL.
    """
    from service.processes import database

    url = database.required_url(read_settings(), "migrate")
    database.migrate(url)
    click.echo(f"the tables at {database.shown(url)} are those of this release, or of a later one")
    return 0


cli.add_command(replay)
cli.add_command(import_)


def main() -> None:
    """Run a command; a failure is one line on standard error, and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as fault:
        fault.show()
        code = fault.exit_code
    except ModelwatchSetupError as fault:
        click.echo(f"Error: {fault}", err=True)
        code = fault.exit_code
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
