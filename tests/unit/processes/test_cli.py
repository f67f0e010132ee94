from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
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


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "eighty", "integer"),
        ("QUIET", "2s", "write a duration as PT2S or 00:00:02"),
        ("PII_KEY", "short", "at least 16 characters"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_with_what_it_should_be(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(f"MODELWATCH_{name}", value)
    assert run("up") == 2
    told = capsys.readouterr().err
    assert f"MODELWATCH_{name}: " in told
    assert said in told


def test_an_address_that_cannot_be_had_is_told_before_a_database_is_made(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    # TEST-NET-1 is no machine's address.
    assert run("up", "--host", "192.0.2.1", "--port", "0", "--data-dir", str(data)) == 2
    assert "choose another with --host" in capsys.readouterr().err
    assert not data.exists()


def test_an_api_that_is_away_is_named_with_what_starts_one(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("ts,score\n2026-11-20T10:00:00Z,0.5\n")
    monkeypatch.setenv("MODELWATCH_URL", "http://127.0.0.1:1")
    assert run("replay", str(file), "--model", "m", "--version", "1") == 4
    told = capsys.readouterr().err
    assert "the API at http://127.0.0.1:1 cannot be reached" in told
    assert "`modelwatch up` starts one, --url or MODELWATCH_URL names another" in told


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
