from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from service.access.grants import Scope
from service.processes import cli as module
from service.processes.cli import cli
from service.processes.options import Duration, Instant

Run = Callable[..., Any]
COMMANDS = ("key", "audit", "up", "serve", "worker", "migrate", "replay", "import")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("MODELWATCH_DATABASE_URL", "MODELWATCH_PORT"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str) -> Any:
        monkeypatch.setattr("sys.argv", ["modelwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            module.main()
        return ended.value.code

    return invoke


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_help(command: Any) -> None:
    answer = CliRunner().invoke(cli, [*command, "--help"])
    assert answer.exit_code == 0
    assert "Usage:" in answer.output


def test_help_names_every_command() -> None:
    output = CliRunner().invoke(cli, ["--help"]).output
    assert all(name in output for name in COMMANDS)


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_without_a_database_url_one_line_says_what_is_missing(
    run: Run, capsys: pytest.CaptureFixture[str], command: Any
) -> None:
    assert run(command) == 2
    captured = capsys.readouterr()
    assert "MODELWATCH_DATABASE_URL" in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_database_url_of_another_kind_is_refused_without_echo(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWATCH_DATABASE_URL", "mysql://user:hunter2@host/name")
    assert run("migrate") == 2
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("up", "--port", "99999"),
        ("replay", "/nowhere.parquet", "--model", "m", "--version", "1"),
        ("replay", __file__, "--model", "m", "--version", "1", "--map", "colour=red"),
        ("replay", __file__, "--model", "m", "--version", "1", "--map", "ts"),
        ("replay", __file__, "--model", "m", "--version", "1", "--labels-only", "--no-labels"),
        ("replay", __file__, "--model", "m", "--version", "1", "--speed", "0"),
        ("replay", __file__, "--model", "m", "--version", "1", "--shift", "soon"),
    ],
)
def test_wrong_usage_ends_with_code_two(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2


def test_a_setting_that_cannot_be_read_is_named(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWATCH_PORT", "eighty")
    assert run("up") == 2
    assert "MODELWATCH_PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        ("10d", timedelta(days=10)),
        ("-2w", timedelta(days=-14)),
    ],
)
def test_durations_are_a_number_and_a_unit(text: str, span: timedelta) -> None:
    assert Duration().convert(text, None, None) == span


@pytest.mark.parametrize("text", ["", "d", "10", "10y", "nand", "1e999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_a_time_without_a_zone_is_utc() -> None:
    assert Instant().convert("2026-11-20", None, None) == datetime(2026, 11, 20, tzinfo=UTC)


def test_a_key_may_be_made_for_every_scope() -> None:
    create = cli.commands["key"].commands["create"]  # type: ignore[attr-defined]  # a group
    (scopes,) = [option.type.choices for option in create.params if option.name == "scopes"]
    assert list(scopes) == [*Scope]
