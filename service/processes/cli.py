"""The command line.  Commands import what they need when they run: ``--help`` stays fast."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from service.errors import ModelwatchSetupError
from service.processes.cli_access import audit, key
from service.processes.options import Duration, Instant, data_dir_option, read_settings


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
    from service.processes import up as implementation  # noqa: PLC0415

    settings = read_settings(data_dir=data_dir, host=host, port=port)
    return implementation.run(settings, demo=demo, open_pages=not no_open)


@cli.command()
@click.option("--host", help="Address to listen on  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on  [default: 8080]")
def serve(*, host: str | None, port: int | None) -> int:
    """Run the API.

    It works on MODELWATCH_DATABASE_URL; any number may run side by side.
    """
    from service.processes.database import required_url  # noqa: PLC0415

    settings = read_settings(host=host, port=port)
    # Before the imports of the API, which take a second.
    required_url(settings, "serve")
    from service.processes import api  # noqa: PLC0415

    return api.run(settings)


@cli.command()
def worker() -> int:
    """Run a worker.

    It works on MODELWATCH_DATABASE_URL; any number may run side by side.
    """
    from service.processes.database import required_url  # noqa: PLC0415

    settings = read_settings()
    required_url(settings, "worker")
    from service.processes import worker as implementation  # noqa: PLC0415

    return implementation.run(settings)


@cli.command()
def migrate() -> int:
    """Create or upgrade the tables.

    They are those of MODELWATCH_DATABASE_URL.
    """
    from service.processes import database  # noqa: PLC0415

    url = database.required_url(read_settings(), "migrate")
    database.migrate(url)
    click.echo(f"the tables at {database.shown(url)} are those of this release")
    return 0


def _replay_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(
        (
            click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
            click.option("--model", required=True, help="Name of the model."),
            click.option("--version", required=True, help="Its version."),
            click.option("--url", default="http://127.0.0.1:8080", show_default=True),
            click.option(
                *("--map", "mapped"),
                multiple=True,
                metavar="ROLE=COLUMN",
                help="Column of ts, prediction, score, label, label_ts, weight or subject.",
            ),
            click.option("--ignore", multiple=True, metavar="COLUMN", help="Not a feature."),
            click.option("--id-column", help="Column of prediction ids  [default: made up]"),
            click.option(
                "--batch",
                type=click.IntRange(1, 5000),
                default=1000,
                show_default=True,
                help="Rows of one request.",
            ),
            click.option(
                "--speed",
                type=click.FloatRange(0.0, min_open=True),
                help="Times real time  [default: as fast as it goes]",
            ),
            click.option("--shift", type=Duration(), default="0s", help="Moves all times: 30d."),
            click.option("--start", type=Instant(), help="Moves the first row to this time."),
            click.option("--labels/--no-labels", default=True, help="Whether labels are sent."),
            click.option(
                "--label-delay", type=Duration(), default="0s", help="Label time after ts: 10d."
            ),
            click.option("--labels-only", is_flag=True, help="Send no predictions."),
        )
    ):
        command = option(command)
    return command


@cli.command()
@_replay_options
def replay(
    *,
    file: Path,
    mapped: tuple[str, ...],
    ignore: tuple[str, ...],
    id_column: str | None,
    **given: Any,
) -> int:
    """Send a file as live traffic.

    FILE is Parquet or CSV.  Its predictions are sent in the file's order, and each label when
    the time of the predictions has reached the label's.
    """
    columns = _columns(mapped, id_column)
    if given["labels_only"] and not given["labels"]:
        message = "--labels-only and --no-labels leave nothing to send"
        raise click.UsageError(message)
    from service.processes import replay as implementation  # noqa: PLC0415
    from service.processes.replay_source import Options  # noqa: PLC0415

    options = Options(
        columns=columns,
        ignore=frozenset(ignore),
        shift=given["shift"],
        start=given["start"],
        label_delay=given["label_delay"],
        batch=given["batch"],
    )
    plan = implementation.Plan(
        path=file,
        model=given["model"],
        version=given["version"],
        url=given["url"],
        key=secret.get_secret_value() if (secret := read_settings().api_key) else None,
        options=options,
        predictions=not given["labels_only"],
        labels=given["labels"],
        speed=given["speed"] or 0.0,
    )
    return implementation.run(plan)


_MAPPED_ROLES = ("ts", "prediction", "score", "label", "label_ts", "weight", "subject")


def _columns(mapped: tuple[str, ...], id_column: str | None) -> dict[str, str]:
    columns = {} if id_column is None else {"prediction_id": id_column}
    for pair in mapped:
        role, equals, column = pair.partition("=")
        if not equals or not column or role not in _MAPPED_ROLES:
            message = f"--map {pair}: write ROLE=COLUMN, a role being {', '.join(_MAPPED_ROLES)}"
            raise click.UsageError(message)
        columns[role] = column
    return columns


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
