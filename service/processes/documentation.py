"""The reference: ``python -m service.processes.documentation > docs/reference.md``."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import click
from pydantic import SecretStr
from pydantic_core import to_json

from service.access.gate import WITHOUT_KEY
from service.access.scopes import need_of
from service.errors import ServiceError
from service.processes import codes
from service.processes.api import create_app
from service.processes.cli import cli
from service.processes.openapi import operations
from service.runs import references
from service.settings import Settings

# Imported for the errors that the upload of a reference raises: the API imports it late.
_LATE = references

_HEAD = """# Reference

Printed by `python -m service.processes.documentation`; a test holds it equal to the code. Metrics
are in [METRICS.md](../prometheus/METRICS.md); `GET /openapi.json` has every schema, with examples,
and the problems of every route."""

_SETTINGS = """Read once, from the environment, else from a file like
`/run/secrets/modelwatch_pii_key`. Durations are ISO 8601 (`PT0.25S`) or `00:00:10`."""

_SCOPES = """The scope is what a key must be for; of a route that is marked \\*, of the service as a
whole, a key that is bound to models has none."""

_PROBLEMS = """Every failure is `application/problem+json` (RFC 9457): `type` is `/problems/` and
the code, which is also in `code`; `detail` says what is wrong, `rejected` lists rows or fields.
Answers of 503 carry `Retry-After`."""

_REFUSALS = """In `rejected` of an answer to predictions and labels, each with `index`,
`prediction_id`, `field` and `detail`. The other rows of the request are stored; when there are
none, the answer is the problem `all-rejected`."""

_REASONS = """The `reason` of a measurement is a sentence, or one of these; after a colon it names
the windows that are compared with."""


def document() -> str:
    """Return the page."""
    app = create_app(Settings(database_url=SecretStr("postgresql://documentation/none")))
    parts = (
        _HEAD,
        "## Settings",
        _SETTINGS,
        _table(("variable", "default", "meaning"), _settings()),
        "## Commands",
        _table(("command", "does", "options"), _commands()),
        "## Routes",
        _SCOPES,
        _table(("method", "path", "scope", "does"), _routes(app.openapi())),
        "## Problems",
        _PROBLEMS,
        _table(("code", "status", "meaning"), _problems()),
        "## Refused rows",
        _REFUSALS,
        _table(("code", "meaning"), _meanings(codes.REFUSALS)),
        "Of an event or a line of captured data, besides:",
        _table(("code", "meaning"), _meanings(codes.FOREIGN)),
        "## Warnings",
        "In `warnings` of an answer to predictions and labels:",
        _table(("code", "meaning"), _meanings(codes.ROW_WARNINGS)),
        "Of an answer to a reference:",
        _table(("code", "meaning"), _meanings(codes.REFERENCE_WARNINGS)),
        "Of a judged window:",
        _table(("code", "meaning"), _meanings(codes.WINDOW_WARNINGS)),
        "## Reasons",
        _REASONS,
        _table(("code", "meaning"), _meanings(codes.REASONS)),
    )
    return "\n\n".join(parts) + "\n"


def problems() -> dict[str, tuple[int, str]]:
    """Return status and meaning of every problem, by code."""
    found = {
        kind.code: (kind.status, inspect.cleandoc(kind.__doc__ or "").partition("\n")[0])
        # A code that a special case shares means what it means of the general one.
        for kind in reversed(list(_tree(ServiceError)))
    }
    found["internal-error"] = (500, "The service failed; its log says why.")
    return {**found, **codes.PROBLEMS}


def _tree(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _settings() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{_text(field.default)}`"
        yield f"`MODELWATCH_{name.upper()}`", default, field.description or ""


def _text(value: Any) -> str:
    """Return a default as it would be set."""
    if isinstance(value, timedelta | bool):
        return to_json(value).decode().strip('"')
    return str(value)


def _commands() -> Iterator[tuple[str, str, str]]:
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            for below, each in command.commands.items():
                yield _command(f"{name} {below}", each)
        else:
            yield _command(name, command)


def _command(name: str, command: click.Command) -> tuple[str, str, str]:
    about = inspect.cleandoc(command.help or "")
    arguments = [
        p.make_metavar(click.Context(command))
        for p in command.params
        if isinstance(p, click.Argument)
    ]
    options = [p.opts[0] for p in command.params if isinstance(p, click.Option)]
    shown = " ".join(("modelwatch", name, *arguments))
    return f"`{shown}`", " ".join(about.split()), " ".join(f"`{o}`" for o in options)


def _routes(found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = (
        (
            *(path, method.upper(), _scope(method, path)),
            operation["description"].partition("\n")[0].replace("``", "`"),
        )
        for method, path, operation in operations(found)
    )
    return [(method, f"`{path}`", scope, does) for path, method, scope, does in sorted(rows)]


def _scope(method: str, path: str) -> str:
    if path in WITHOUT_KEY:
        return ""
    need = need_of(method, path)
    return f"{need.scope}\\*" if need.whole else f"{need.scope}"


def _problems() -> Iterator[tuple[str, str, str]]:
    for code, (status, meaning) in sorted(problems().items()):
        yield f"`{code}`", str(status), meaning


def _meanings(found: Mapping[Any, str]) -> Iterator[tuple[str, str]]:
    return ((f"`{code}`", meaning) for code, meaning in sorted(found.items()))


if __name__ == "__main__":
    sys.stdout.write(document())
