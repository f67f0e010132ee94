import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelwatch import Monitor
from modelwatch.spool import opened
from modelwatch.spool_command import main
from tests.contract.scripted import Answer, Document, ScriptedServer, refuse

AWAY = "http://127.0.0.1:1"
Said = Callable[[], tuple[str, str]]


@pytest.fixture
def path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MODELWATCH_URL", "MODELWATCH_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = str(folder / "a.spool")
    monitor = Monitor("loans", "7", url=AWAY, spool=path)
    for row in range(3):
        monitor.log({"x": row}, 0, prediction_id=f"p{row}", durable=True)
    monitor.label("p0", 1, durable=True)
    Monitor("cards", "1", url=AWAY, spool=path).log({"x": "private"}, 0, durable=True)
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def said() -> tuple[str, str]:
        out, err = capsys.readouterr()
        return out, err

    return said


def rows(path: str) -> int:
    return sum(one.rows for one in opened(path).counts())


def test_it_is_seen_what_waits_and_no_content_unless_asked(path: str, said: Said) -> None:
    assert main(["inspect", path]) == 0
    out, _ = said()
    lines = [line.split() for line in out.splitlines()]
    assert [line[:4] for line in lines] == [
        ["model", "version", "kind", "rows"],
        ["loans", "7", "predictions", "3"],
        ["loans", "-", "labels", "1"],
        ["cards", "1", "predictions", "1"],
    ]
    assert "private" not in out
    assert main(["inspect", path, "--json"]) == 0
    [first, *_] = json.loads(said()[0])
    assert first["server"] == AWAY
    assert (first["refused"], first["expired"]) == (0, 0)
    assert first["oldest"] <= first["newest"]
    assert main(["inspect", path, "--sample", "2"]) == 0
    out, _ = said()
    assert out.count("prediction_id") == 2 + 1 + 1
    assert "private" in out
    assert main(["inspect", path, "--json", "--sample", "2"]) == 0
    samples = [one["sample"] for one in json.loads(said()[0])]
    assert [len(sample) for sample in samples] == [2, 1, 1]
    assert samples[0][1]["prediction_id"] == "p1"
    assert rows(path) == 5


def test_all_of_it_is_pushed_with_the_key_of_the_environment(
    path: str, said: Said, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "mw_other")
    assert main(["push", path, "--url", server.url, "--api-key-env", "OTHER_KEY"]) == 0
    out, err = said()
    assert out == "5 sent (0 were there already)\n"
    assert err.endswith("0 left\n")
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer mw_other"}
    assert len(server.records()) == 5
    assert rows(path) == 0


def test_one_model_is_pushed_alone(path: str, server: ScriptedServer) -> None:
    assert main(["push", path, "--url", server.url, "--model", "cards"]) == 0
    assert {body["model"] for _, body in server.bodies} == {"cards"}
    assert rows(path) == 4


def test_what_is_refused_is_told_by_the_exit_code(
    path: str, said: Said, server: ScriptedServer
) -> None:
    def no_cards(document: Document) -> Answer:
        if document["model"] == "cards":
            return refuse(422)(document)
        return 200, {}, {"accepted": len(document["records"]), "duplicates": 0, "rejected": []}

    server.script.extend([no_cards] * 3)
    assert main(["push", path, "--url", server.url]) == 1
    out, _ = said()
    assert "4 sent" in out
    assert "1 record was refused: 422 not now (1)" in out
    assert main(["inspect", path, "--json"]) == 0
    assert [one["refused"] for one in json.loads(said()[0])] == [0, 0, 1]


def test_what_cannot_be_sent_waits(path: str, said: Said) -> None:
    assert main(["push", path, "--url", AWAY, "--patience", "0.2"]) == 4
    assert "5 still wait" in said()[0]
    assert rows(path) == 5


def test_nothing_is_thrown_away_by_mistake(path: str, said: Said) -> None:
    assert main(["purge", path]) == 2
    assert "5 records would be lost" in said()[1]
    assert main(["purge", path, "--model", "loans", "--yes"]) == 0
    assert said()[0] == "4 records removed\n"
    assert rows(path) == 1


@pytest.mark.parametrize("command", [["inspect"], ["push", "--url", AWAY], ["purge", "--yes"]])
def test_a_file_that_is_no_spool_is_named_and_none_is_made(
    folder: Path, said: Said, command: list[str]
) -> None:
    path = folder / "other"
    assert main([*command, str(path)]) == 2
    assert f"there is no spool at {path}" in said()[1]
    assert list(folder.iterdir()) == []
    path.write_bytes(b"something else" * 1_000)
    assert main([*command, str(path)]) == 2
    assert "cannot be used: file is not a database" in said()[1]


def test_a_server_has_to_be_named(path: str, said: Said) -> None:
    assert main(["push", path]) == 2
    assert "--url" in said()[1]
    assert main(["push", path, "--url", "loans.example"]) == 2
    assert "no http:// or https:// address" in said()[1]
