"""The file of a reference: what is judged before it comes, where it is, and what it may cost."""

import gzip
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from service.isolation.process import Job
from service.runs import (
    reference_endpoints,
    reference_files,
    reference_reading,
    reference_work,
    references,
)
from tests.clients import TestClient
from tests.integration.runs.test_references import (
    NDJSON,
    PARQUET,
    URL,
    a_reference,
    as_parquet,
    constant,
)

CSV = {"content-type": "text/csv"}


class Body:
    """A body that says whether anybody has asked for it."""

    def __init__(self, content: bytes = b"a\n1\n") -> None:
        self.content = content
        self.asked = False

    def __iter__(self) -> Iterator[bytes]:
        self.asked = True
        yield self.content


def room_of(client: TestClient) -> reference_reading.ReferenceRoom:
    room: reference_reading.ReferenceRoom = cast("FastAPI", client.app).state.references
    return room


@pytest.mark.parametrize(
    ("url", "headers", "status", "code"),
    [
        (URL.replace("loans", "nobody"), {}, 404, "unknown-model"),
        (URL.replace("/7/", "/8/"), {}, 404, "unknown-version"),
        (URL, {"content-type": "application/pdf"}, 415, "unsupported-type"),
        (URL, {"content-encoding": "br"}, 415, "unsupported-type"),
        (URL, {"content-length": str((1 << 20) + 1)}, 413, "body-too-large"),
    ],
)
def test_what_is_wrong_whatever_the_file_is_said_before_it_comes(
    client: TestClient, url: str, headers: dict[str, str], status: int, code: str
) -> None:
    body = Body()
    answer = client.put(url, content=body, headers={**CSV, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not body.asked
    # Whoever has begun to send it is told to stop.
    assert answer.headers["connection"] == "close"


def test_too_many_files_at_a_time_are_refused_before_they_come(client: TestClient) -> None:
    room, body = room_of(client), Body()
    with ExitStack() as others:
        for _ in range(room.UPLOADS):
            others.enter_context(room.upload())
        answer = client.put(URL, content=body, headers=CSV)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert not body.asked
    assert client.put(URL, content=body, headers=CSV).status_code == 200


def test_a_file_has_no_name_and_is_no_larger_than_what_was_sent(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[tuple[int, list[Path]]] = []
    store = references.store_reference

    def look(*args: Any, **options: Any) -> Any:
        [descriptor] = args[3].descriptors
        seen.append((os.fstat(descriptor).st_size, list(tmp_path.iterdir())))
        return store(*args, **options)

    monkeypatch.setattr(reference_endpoints, "store_reference", look)
    body = gzip.compress(b"a\n" * (1 << 24))
    answer = client.put(URL, content=body, headers={**CSV, "content-encoding": "gzip"})
    assert answer.status_code == 413
    assert seen == [(len(body), [])]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_lines_are_counted_before_all_are_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(reference_reading, "_FUNCTION", f"{__name__}:count_pieces")
    body = b"{}\n" * 60_000 + b"no JSON" * 20_000
    if encoding == "gzip":
        body = gzip.compress(body)
    headers = {"content-type": NDJSON, "content-encoding": encoding}
    answer = client.put(URL, content=body, headers=headers)
    assert (answer.status_code, answer.json()["limit"]) == (413, 50_000)


def count_pieces(request: bytes) -> bytes:
    """Read by small pieces, so that there is something left that need not be read."""
    reference_files.LINE_BYTES = 60_000
    return reference_work.answer(request)


@pytest.mark.parametrize("media", ["text/csv", PARQUET])
def test_what_is_no_gzip_is_refused_in_any_format(client: TestClient, media: str) -> None:
    for body in (b"no gzip", gzip.compress(b"a\n1\n")[:-1], gzip.compress(b"a\n1\n") + b"rest"):
        headers = {"content-type": media, "content-encoding": "gzip"}
        answer = client.put(URL, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-gzip")


def test_a_full_disk_is_said_and_nothing_is_stored(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "wb"))
        answer = client.put(URL, content=b"a\n1\n", headers=CSV)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
    assert client.put(URL, content=b"a\n1\n", headers=CSV).status_code == 200


def die(request: bytes) -> bytes:
    """End as the kernel ends a process where there is no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)
    return request


def spin(request: bytes) -> bytes:
    """Never end."""
    while request:
        pass
    return request


def test_who_was_killed_for_its_memory_is_not_asked_to_send_it_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_reading, "_FUNCTION", f"{__name__}:die")
    answer = client.put(URL, content=b"a\n1\n", headers=CSV)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert answer.json()["detail"].startswith("what read the reference was killed")
    assert "retry-after" not in answer.headers


def test_who_takes_the_processor_for_too_long_is_not_asked_to_send_it_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurried(*args: Any, **options: Any) -> Job:
        return replace(Job(*args, **options), processor=0)

    monkeypatch.setattr(reference_reading, "_FUNCTION", f"{__name__}:spin")
    monkeypatch.setattr(reference_reading, "Job", hurried)
    answer = client.put(URL, content=b"a\n1\n", headers=CSV)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_half_of_a_small_container_is_the_most_that_a_reference_takes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, headers = 256 << 20, {"content-type": PARQUET}
    monkeypatch.setattr(reference_reading, "memory_limit", lambda: 2 * room)
    assert client.put(URL, content=as_parquet(a_reference()), headers=headers).status_code == 200
    limits = reference_reading.Limits()
    monkeypatch.setattr(reference_endpoints, "Limits", lambda *_: limits)
    # It is small on the wire, within every limit of its own, and takes 600 MB: who looks at it now
    # and then cannot miss that.
    answer = client.put(URL, content=constant(1_000_000, 30), headers=headers)
    assert (answer.status_code, answer.json()["limit"]) == (413, room)
    assert limits.rows > 1_000_000
    assert limits.size > 1_000_000 * 30 * 8
