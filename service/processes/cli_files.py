"""The commands that send files: ``replay`` and ``import``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from service.processes.options import Duration, Instant, read_settings


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


@click.command()
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
    from service.processes import replay as implementation
    from service.processes.table_records import Options

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


def _import_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(
        (
            click.argument("sources", nargs=-1, required=True, metavar="SOURCE..."),
            click.option("--model", required=True, help="Name of the model."),
            click.option("--version", required=True, help="Its version."),
            click.option("--url", default="http://127.0.0.1:8080", show_default=True),
            click.option(
                "--format",
                "form",
                type=click.Choice(["table", "records", "sagemaker", "azure"]),
                help="What the files hold  [default: what their first lines look like]",
            ),
            click.option(
                *("--map", "mapped"),
                multiple=True,
                metavar="ROLE=COLUMN",
                help="Column of ts, prediction, score, label, label_ts, weight or subject; of"
                " captured data: output that is the prediction or score.",
            ),
            click.option("--ignore", multiple=True, metavar="COLUMN", help="Not a feature."),
            click.option("--id-column", help="Column of prediction ids  [default: made up]"),
            click.option(
                "--batch",
                type=click.IntRange(1, 5000),
                default=1000,
                show_default=True,
                help="Rows or lines of one request.",
            ),
            click.option("--labels/--no-labels", default=True, help="Whether labels are sent."),
            click.option(
                "--label-delay", type=Duration(), default="0s", help="Label time after ts: 10d."
            ),
            click.option("--labels-only", is_flag=True, help="Send no predictions."),
            click.option("--label-ts", type=Instant(), help="Time of SageMaker's ground truth."),
            click.option("--classes", help="Order of a vector of probabilities: 0,1."),
            click.option("--decide", help="argmax or a threshold, where there is no class."),
            click.option(
                "--checkpoint",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Where it is written down how far it has come  [default: in the data dir]",
            ),
        )
    ):
        command = option(command)
    return command


@click.command("import")
@_import_options
def import_(
    *,
    sources: tuple[str, ...],
    mapped: tuple[str, ...],
    ignore: tuple[str, ...],
    id_column: str | None,
    **given: Any,
) -> int:
    """Import files that are there already.

    SOURCE is a file, a folder, or an address of object storage (s3://…, gs://…, https://…) with
    Parquet, CSV, JSON lines (rows, or prediction and label records of our own), captured data of
    SageMaker, or lines of Azure's data collector.
    What was interrupted goes on where it was when it is started again.
    """
    columns = _columns(mapped, id_column)
    if given["labels_only"] and not given["labels"]:
        message = "--labels-only and --no-labels leave nothing to send"
        raise click.UsageError(message)
    from service.processes import importing
    from service.processes.checkpoint import default_path
    from service.processes.table_records import Options

    settings = read_settings()
    # Another mapping is another import: it begins at the beginning.
    asked = {**given, "sources": sources, "columns": columns, "ignore": sorted(ignore)}
    identity = [f"{name}={asked[name]}" for name in sorted(asked) if name != "checkpoint"]
    said: dict[str, str | None] = {
        "classes": given["classes"],
        "decide": given["decide"],
        "label_ts": given["label_ts"] and given["label_ts"].isoformat(),
        **{role: columns[role] for role in ("prediction", "score") if role in columns},
    }
    plan = importing.Plan(
        addresses=sources,
        model=given["model"],
        version=given["version"],
        url=given["url"],
        key=secret.get_secret_value() if (secret := settings.api_key) else None,
        options=Options(
            columns=columns,
            ignore=frozenset(ignore),
            label_delay=given["label_delay"],
            batch=given["batch"],
        ),
        checkpoint=given["checkpoint"] or default_path(settings.data_dir.expanduser(), identity),
        form=given["form"],
        parameters={name: value for name, value in said.items() if value},
        predictions=not given["labels_only"],
        labels=given["labels"],
    )
    return importing.run(plan)


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
