"""Cases 81 and 82: Arrow streams, right, malformed, and larger than they look."""

from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from tests.system.catalogue.case import MODEL, PREDICTIONS, VERSION, Case
from tests.system.catalogue.wire import request

ARROW = "application/vnd.apache.arrow.stream"
ZEROS = 512 << 20


def stream(prediction_id: str, compression: str | None, zeros: int = 0) -> bytes:
    at = pa.array([datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    columns = {"prediction_id": [prediction_id], "ts": at, "prediction": [1], "income": [0.5]}
    table = pa.table(columns).replace_schema_metadata({"model": MODEL, "version": VERSION})
    if zeros:
        content = pa.py_buffer(bytes(zeros))
        binary = pa.Array.from_buffers(pa.binary(zeros), 1, [None, content])
        table = table.append_column("region", binary)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def sent(body: bytes) -> bytes:
    return request(PREDICTIONS, body, media=ARROW)


def stored(name: str, compression: str | None) -> Case:
    prediction_id = f"81-{name}-only"
    content = sent(stream(prediction_id, compression))
    return Case(number=81, name=name, sent=content, rows=1, stored=(prediction_id,))


def malformed(name: str, body: bytes) -> Case:
    return Case(number=81, name=name, sent=sent(body), status=400, code="malformed-arrow")


def bomb(compression: str) -> bytes:
    body = stream("82", compression, ZEROS)
    assert len(body) * 200 < ZEROS
    return sent(body)


WHOLE = stream("81", None)
STREAMS = (
    *(stored("stream", None), stored("zstd", "zstd"), stored("lz4", "lz4")),
    malformed("text", b"{}"),
    malformed("truncated", WHOLE[: len(WHOLE) - 40]),
    malformed("trailing garbage", WHOLE + b"garbage"),
    # An offset of the column of texts that points far behind them.
    malformed("offset", WHOLE.replace(b"\0\0\0\0\2\0\0\0", b"\0\0\0\0\2\xff\xff\x7f")),
    *(
        Case(
            number=82,
            name=f"{compression} bomb",
            sent=partial(bomb, compression),
            status=413,
            code="body-too-large",
        )
        for compression in ("zstd", "lz4")
    ),
)
