"""What commands have in common: kinds of values, and the settings."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.errors import ModelwatchSetupError

if TYPE_CHECKING:
    from service.settings import Settings

# Where Docker and Kubernetes put what is secret: a file a setting, `modelwatch_pii_key`.
SECRETS = Path("/run/secrets")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Duration(click.ParamType[timedelta]):
    """A number and a unit: 90s, 15m, 12h, 10d, 2w."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time span."""
        if isinstance(value, timedelta):
            return value
        try:
            return timedelta(**{_UNITS[value[-1:]]: float(value[:-1])})
        except (KeyError, ValueError, OverflowError):
            self.fail(f"{value!r} is no duration like 90s, 15m, 12h, 10d or 2w", param, ctx)


class Instant(click.ParamType[datetime]):
    """A date or an RFC 3339 time; without a zone it is UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the aware time."""
        try:
            parsed = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time like 2026-11-20 or 2026-11-20T10:00:00Z", param, ctx)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def read_settings(**given: Any) -> "Settings":
    """Read the environment and files of secrets; what the command line says goes first."""
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(
            _secrets_dir=SECRETS if SECRETS.is_dir() else None,
            **{name: value for name, value in given.items() if value is not None},
        )
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        message = f"MODELWATCH_{name}: {_in_words(first['type'], first['msg'])}"
        raise ModelwatchSetupError(message) from None


def _in_words(kind: str, message: str) -> str:
    """Return what is wrong with a setting, where pydantic speaks of types of its own."""
    if kind.startswith("time_delta"):
        return "write a duration as PT2S or 00:00:02"
    # Secrets are counted by character and called items.
    return message.replace(" items after validation", " characters")


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the embedded database lives  [default: ~/.local/share/modelwatch]",
)
