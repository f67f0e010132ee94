"""The commands that send files: ``replay`` and ``import``."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from service.processes.options import Duration, Instant, read_settings

Command = Callable[..., int]

_ROLES = ("ts", "prediction", "score", "label", "label_ts", "weight", "subject")

_TARGET = (
    click.option("--model", required=True, help="Name of the model."),
    click.option("--version", required=True, help="Its version."),
    click.option(
        "--url",
        default="http://127.0.0.1:8080",
        show_default=True,
        envvar="MODELWATCH_URL",
        show_envvar=True,
        help="Where the API is.",
    ),
)
_COLUMNS = (
    click.option("--ignore", multiple=True, metavar="COLUMN", help="Not a feature."),
    click.option("--id-column", help="Column of prediction ids  [default: made up]"),
    click.option(
        "--batch",
        type=click.IntRange(1, 5000),
        default=1000,
        show_default=True,
        help="Rows or lines of one request.",
    ),
)
_LABELS = (
    click.option("--labels/--no-labels", default=True, help="Whether labels are sent."),
    click.option("--label-delay", type=Duration(), default="0s", help="Label time after ts: 10d."),
    click.option("--labels-only", is_flag=True, help="Send no predictions."),
)


def _mapping(more: str = "") -> Callable[[Command], Command]:
    roles = f"{', '.join(_ROLES[:-1])} or {_ROLES[-1]}"
    text = f"Column of {roles}{more}."
    return click.option("--map", "mapped", multiple=True, metavar="ROLE=COLUMN", help=text)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@_with(
    click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    *_TARGET,
    _mapping(),
    *_COLUMNS,
    click.option(
        "--speed",
        type=click.FloatRange(0.0, min_open=True),
        help="Times real time  [default: as fast as it goes]",
    ),
    click.option("--shift", type=Duration(), default="0s", help="Moves all times: 30d."),
    click.option("--start", type=Instant(), help="Moves the first row to this time."),
    *_LABELS,
)
def replay(
    *, file: Path, speed: float | None, shift: timedelta, start: datetime | None, **given: Any
) -> int:
    """Send a file as live traffic.

    FILE is Parquet or CSV.  Its predictions are sent in the file's order, and each label when
    the time of the predictions has reached the label's.
    """
    plan = _plan(given, shift=shift, start=start)
    from service.processes import replay as implementation

    return implementation.run(implementation.Plan(path=file, speed=speed or 0.0, **plan))


@click.command("import")
@_with(
    click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
    *_TARGET,
    click.option(
        *("--format", "form"),
        type=click.Choice(["table", "records", "sagemaker", "azure"]),
        help="What the files hold  [default: what their first lines look like]",
    ),
    _mapping("; of captured data: output that is the prediction or score"),
    *_COLUMNS,
    *_LABELS,
    click.option("--label-ts", type=Instant(), help="Time of SageMaker's ground truth."),
    click.option("--classes", help="Order of a vector of probabilities: 0,1."),
    click.option("--decide", help="argmax or a threshold, where there is no class."),
    click.option(
        "--checkpoint",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Where it is written down how far it has come  [default: in the data dir]",
    ),
)
def import_(*, sources: tuple[str, ...], checkpoint: Path | None, **given: Any) -> int:
    """Import files that are there already.

    SOURCE is a file, a folder, or an address of object storage (s3://…, gs://…, https://…) with
    Parquet, CSV, JSON lines (rows, or prediction and label records of our own), captured data of
    SageMaker, or lines of Azure's data collector.
    What was interrupted goes on where it was when it is started again.
    """
    plan = _plan(given)
    from service.processes import importing
    from service.processes.checkpoint import default_path

    columns = plan["options"].columns
    # Another mapping is another import: it begins at the beginning.
    asked = {**given, "sources": sources, "columns": columns, "ignore": sorted(given["ignore"])}
    del asked["mapped"], asked["id_column"]
    identity = [f"{name}={asked[name]}" for name in sorted(asked)]
    said: dict[str, str | None] = {
        "classes": given["classes"],
        "decide": given["decide"],
        "label_ts": given["label_ts"] and given["label_ts"].isoformat(),
        **{role: columns[role] for role in ("prediction", "score") if role in columns},
    }
    return importing.run(
        importing.Plan(
            addresses=sources,
            checkpoint=checkpoint or default_path(read_settings().data_dir.expanduser(), identity),
            form=given["form"],
            parameters={name: value for name, value in said.items() if value},
            **plan,
        )
    )


def _plan(given: dict[str, Any], **times: Any) -> dict[str, Any]:
    """Return what either command is to send, to whom and how."""
    columns = _columns(given["mapped"], given["id_column"])
    if given["labels_only"] and not given["labels"]:
        message = "--labels-only and --no-labels leave nothing to send"
        raise click.UsageError(message)
    from service.processes.table_records import Options

    secret = read_settings().api_key
    return {
        "model": given["model"],
        "version": given["version"],
        "url": given["url"],
        "key": secret.get_secret_value() if secret else None,
        "options": Options(
            columns=columns,
            ignore=frozenset(given["ignore"]),
            label_delay=given["label_delay"],
            batch=given["batch"],
            **times,
        ),
        "predictions": not given["labels_only"],
        "labels": given["labels"],
    }


def _columns(mapped: tuple[str, ...], id_column: str | None) -> dict[str, str]:
    columns = {} if id_column is None else {"prediction_id": id_column}
    for pair in mapped:
        role, equals, column = pair.partition("=")
        if not equals or not column or role not in _ROLES:
            message = f"--map {pair}: write ROLE=COLUMN, a role being {', '.join(_ROLES)}"
            raise click.UsageError(message)
        columns[role] = column
    return columns
