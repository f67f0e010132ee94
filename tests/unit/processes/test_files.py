import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from service.processes.files import SourceError, find_files, local_file
from service.processes.line_files import by_hour, detect, hour_of, in_turns, parcels
from service.processes.table_files import column_names, pieces


def written(folder: Path, **contents: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, b__csv="x\n1\n", a__jsonl='{"x": 1}\n', notes__txt="no", empty__csv="")
    written(tmp_path / "deep" / "er", c__csv="x\n2\n", _SUCCESS__csv="x")
    return tmp_path


def names(address: str) -> list[str]:
    return [file.name for file in find_files(address)]


def test_a_folder_has_what_can_be_read_in_order(folder: Path) -> None:
    assert names(str(folder)) == ["a.jsonl", "b.csv", "c.csv"]
    assert names(f"file://{folder}") == ["a.jsonl", "b.csv", "c.csv"]
    assert names(str(folder / "b.csv")) == ["b.csv"]


def test_object_storage_is_read_like_a_folder() -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/bucket/day/b.csv", b"x\n1\n")
    storage.pipe("/bucket/day/a.csv", b"x\n2\n")
    found = find_files("memory://bucket/day")
    assert [file.address for file in found] == [
        "memory://bucket/day/a.csv",
        "memory://bucket/day/b.csv",
    ]
    with found[1].open() as opened:
        assert opened.read() == b"x\n1\n"
    assert names("memory://bucket/day/b.csv") == ["b.csv"]


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_server_of_files_is_read(server: str) -> None:
    (file,) = find_files(f"{server}/b.csv")
    with file.open() as opened:
        assert opened.read() == b"x\n1\n"
    with pytest.raises(SourceError):
        find_files(f"{server}/nothing.csv")


def test_a_server_that_gives_no_parts_of_files_is_copied_from(server: str, folder: Path) -> None:
    content = bytes(range(256)) * 60_000
    (folder / "large.csv").write_bytes(content)
    (file,) = find_files(f"{server}/large.csv")
    for _ in range(2):
        with file.open() as opened:
            opened.seek(-300, 2)
            assert opened.read() == content[-300:]


def test_a_file_that_goes_away_is_one_line(folder: Path) -> None:
    file = local_file(folder / "b.csv")
    (folder / "b.csv").unlink()
    with pytest.raises(SourceError) as raised:
        list(parcels(file, 0, 3))
    assert "b.csv cannot be read as lines" in str(raised.value)


@pytest.mark.parametrize("address", ["nowhere", "nosuch://bucket/a.csv", "memory://nothing/at/all"])
def test_an_address_of_nothing_is_one_line(address: str) -> None:
    with pytest.raises(SourceError) as raised:
        find_files(address)
    assert "\n" not in str(raised.value)


def test_a_compressed_file_is_what_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"captureData": {}}\n'))
    assert detect(local_file(path)) == "sagemaker"


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ({"captureData": {}}, "sagemaker"),
        ({"groundTruthData": {}}, "sagemaker"),
        ({"specversion": "1.0", "data": []}, "azure"),
        ({"prediction_id": "a", "features": {"x": 1}}, "records"),
        ({"prediction_id": "a", "label": 1, "label_ts": "2026-01-01T00:00:00Z"}, "records"),
        ({"prediction_id": "a", "x": 1}, "table"),
        ({"x": 1}, "table"),
    ],
)
def test_lines_are_known_by_the_first(tmp_path: Path, line: object, form: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(line) + "\n")
    assert detect(local_file(path)) == form


def test_lines_come_in_parcels_that_can_be_taken_up_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"n": n}).encode() for n in range(10)]
    path.write_bytes(b"\n\n".join(lines))
    whole = list(parcels(local_file(path), 0, 3))
    assert [line for parcel in whole for line in parcel.lines] == lines
    assert [len(parcel.lines) for parcel in whole] == [3, 3, 3, 1]
    for parcel in whole:
        rest = parcels(local_file(path), parcel.position, 3)
        done = sum(len(each.lines) for each in whole[: whole.index(parcel) + 1])
        assert [line for each in rest for line in each.lines] == lines[done:]


def test_files_of_one_hour_are_read_in_turns(tmp_path: Path) -> None:
    for kind in ("model_inputs", "model_outputs"):
        for hour in ("09", "10"):
            folder = tmp_path / kind / "2026" / "01" / "02" / hour
            written(folder, x__jsonl="".join(f'{{"n": "{kind}{n}"}}\n' for n in range(3)))
    groups = by_hour(find_files(str(tmp_path)))
    assert [[hour_of(file) for file in group] for group in groups] == [
        ["2026-01-02T09:00:00Z"] * 2,
        ["2026-01-02T10:00:00Z"] * 2,
    ]
    order = [parcel.lines[0] for parcel in in_turns([parcels(file, 0, 1) for file in groups[0]])]
    assert [json.loads(line)["n"] for line in order] == [
        f"{kind}{n}" for n in range(3) for kind in ("model_inputs", "model_outputs")
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_threads_that_read_ahead_do_not_come_back_to_python(tmp_path: Path, name: str) -> None:
    # At the end of the interpreter one of them aborted the process.
    content = "x\n1\n2\n" if "csv" in name else '{"x": 1}\n{"x": 2}\n'
    opening = gzip.open if name.endswith(".gz") else Path.open
    with opening(tmp_path / name, "wb") as written:
        written.write(content.encode())

    def no_reading() -> Any:
        pytest.fail("Python was asked")

    file = replace(local_file(tmp_path / name), opener=no_reading)
    assert column_names(file) == ["x"]
    assert [piece.to_pydict() for piece in pieces(file, 10)] == [{"x": [1, 2]}]
