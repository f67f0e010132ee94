"""Cases 1 to 23 and 62 to 71: bodies, their JSON, their size and their encoding."""

import gzip
import zlib

import pyarrow as pa

from tests.system.catalogue.case import (
    LINES,
    PREDICTIONS,
    Case,
    bad_row,
    bad_syntax,
    envelope,
    kept,
    refused,
    row,
)
from tests.system.catalogue.wire import request

MEGABYTE = 1 << 20
BLANKS = b" " * MEGABYTE
GOOD = envelope(row("never-stored"))
GZIP, ZSTD = "Content-Encoding: gzip", "Content-Encoding: zstd"
CODINGS = {"accept-encoding": "gzip, zstd"}


def income(value: bytes, number: int) -> bytes:
    """Return a row whose one number is written so."""
    return row(f"{number}-bad", features=b'{"income":%s}' % value)


def chunked(body: bytes) -> bytes:
    """Return a request whose length nobody has declared."""
    head = request(PREDICTIONS, b"", "Transfer-Encoding: chunked", length=False)
    pieces = (body[at : at + MEGABYTE] for at in range(0, len(body), MEGABYTE))
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def zstd(body: bytes) -> bytes:
    """Compress, as Python 3.11 cannot."""
    packed: bytes = pa.compress(body, codec="zstd", asbytes=True)
    return packed


def gigabyte() -> bytes:
    """Return a gigabyte of blanks as one stream of gzip: blocks that know nothing of each other."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(BLANKS) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(BLANKS) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * 1022 + packer.flush()


def zstd_gigabyte() -> bytes:
    """Return the same as zstd."""
    return zstd(BLANKS * 64) * 16


SYNTAX = (
    *refused(1, "empty body", b"", 400, "malformed-json"),
    *refused(2, "truncated", GOOD[:-5], 400, "malformed-json"),
    *refused(3, "trailing garbage", GOOD + b" x", 400, "malformed-json"),
    *refused(4, "trailing comma", envelope(row("4"), b""), 400, "malformed-json"),
    *refused(5, "byte order mark", b"\xef\xbb\xbf" + GOOD, 400, "malformed-json"),
    *refused(6, "utf-16", GOOD.decode().encode("utf-16"), 400, "malformed-json"),
    *bad_syntax(7, "invalid-utf-8", row("7-bad", features=b'{"region":"\xff\xfe"}')),
    *refused(8, "array", b"[" + row("8") + b"]", 400, "bad-envelope"),
    *refused(8, "scalar", b"7", 400, "bad-envelope"),
    *refused(8, "null", b"null", 400, "bad-envelope"),
    *refused(9, "zero rows", envelope(), 400, "empty-batch"),
    *refused(9, "no lines", b"\n \n", 400, "empty-batch", media=LINES),
    *bad_syntax(10, "nan", income(b"NaN", 10)),
    *bad_syntax(10, "infinity", income(b"-Infinity", 10)),
    *bad_syntax(11, "1e999", income(b"1e999", 11)),
    *bad_row(12, "2^63", "number-out-of-range", income(b"9223372036854775808", 12)),
    *bad_row(12, "-2^63 - 1", "number-out-of-range", income(b"-9223372036854775809", 12)),
    *kept(
        12,
        "2^63 - 1",
        features=b'{"income":9223372036854775807}',
        columns={"income": float(2**63)},
    ),
    *bad_syntax(13, "400-digit-integer", income(b"1" * 400, 13)),
    *bad_syntax(14, "5000-digit-integer", income(b"1" * 5_000, 14)),
    *kept(
        15,
        "20k-digit float",
        features=b'{"income":0.%s}' % (b"123456789" * 2_222),
        columns={"income": float("0." + "123456789" * 3)},
    ),
    *kept(
        15,
        "float that jsonb would change",
        features=b'{"income":-0.1e-300}',
        score=b"0.30000000000000004",
        columns={"income": -1e-301, "score": 0.30000000000000004},
    ),
    *bad_syntax(16, "depth-100", b"[" * 98 + b"]" * 98, "too-deep"),
    *bad_syntax(17, "depth-100k", b"[" * 100_000 + b"]" * 100_000, "too-deep"),
    *bad_syntax(17, "depth-100k-in-a-row", income(b'{"a":' * 100_000, 17), "too-deep"),
    *refused(17, "depth 100k not closed", b'{"records":' + b"[" * 100_000, 400, "too-deep"),
    *kept(
        18,
        "duplicate keys",
        features=b'{"income":1,"region":"north","income":2}',
        columns={"income": 2.0},
    ),
    *bad_row(
        19, "nul in a category", "control-character", row("19", features=b'{"region":"a\\u0000b"}')
    ),
    *bad_row(20, "nul in an id", "bad-prediction-id", row("20-\\u0000-secret"), b"-secret"),
    *bad_row(
        21,
        "nul in a feature name",
        "unknown-feature",
        row("21", features=b'{"secret\\u0000":1}'),
        b"secret",
    ),
    *bad_syntax(22, "lone-surrogate", row("22", features=b'{"region":"\\ud800"}')),
    *bad_syntax(23, "surrogate-in-one-of-three", row("23-\\udfff")),
    *bad_row(
        23, "nul in one of three", "control-character", row("23", subject=b'"somebody\\u0000"')
    ),
)
SIZES = (
    *refused(62, "100k rows", envelope(*[b"{}"] * 100_000), 413, "too-many-rows"),
    *refused(62, "100k lines", b"{}\n" * 100_000, 413, "too-many-rows", media=LINES),
    *refused(63, "no content type", GOOD, 415, "unsupported-type", media=None),
    *refused(63, "text", GOOD, 415, "unsupported-type", media="text/plain"),
    *refused(
        64, "latin-1", GOOD, 415, "unsupported-type", media="application/json; charset=latin-1"
    ),
    *refused(
        65, "multipart", GOOD, 415, "unsupported-type", media="multipart/form-data; boundary=x"
    ),
    *refused(
        65, "form", b"a=1", 415, "unsupported-type", media="application/x-www-form-urlencoded"
    ),
    *refused(66, "plain as gzip", GOOD, 400, "bad-gzip", GZIP),
    *refused(66, "plain as zstd", GOOD, 400, "bad-zstd", ZSTD),
    *refused(67, "truncated gzip", gzip.compress(GOOD, mtime=0)[:-9], 400, "bad-gzip", GZIP),
    *refused(67, "truncated zstd", zstd(GOOD)[:-9], 400, "bad-zstd", ZSTD),
    *refused(67, "gzip and more", gzip.compress(GOOD, mtime=0) + b"x", 400, "bad-gzip", GZIP),
    *refused(67, "zstd and more", zstd(GOOD) + b"x", 400, "bad-zstd", ZSTD),
    *refused(68, "gzip of 1 GB", gigabyte(), 413, "body-too-large", GZIP),
    *refused(68, "zstd of 1 GB", zstd_gigabyte(), 413, "body-too-large", ZSTD),
    *refused(
        *(69, "gzip twice", gzip.compress(gzip.compress(GOOD)), 415, "unsupported-encoding"),
        "Content-Encoding: gzip, gzip",
        headers=CODINGS,
    ),
    *refused(
        *(69, "two headers", gzip.compress(gzip.compress(GOOD)), 415, "unsupported-encoding"),
        *(GZIP, GZIP),
        headers=CODINGS,
    ),
    *refused(
        *(69, "unknown encoding", GOOD, 415, "unsupported-encoding"),
        "Content-Encoding: br",
        headers=CODINGS,
    ),
    Case(
        number=70,
        name="100 MB",
        sent=lambda: request(PREDICTIONS, BLANKS * 100),
        status=413,
        code="body-too-large",
    ),
    Case(
        number=71,
        name="100 MB chunked",
        sent=lambda: chunked(BLANKS * 100),
        status=413,
        code="body-too-large",
    ),
)


def _read(number: int, name: str, body: bytes, *headers: str, media: str) -> Case:
    return Case(
        number=number,
        name=name,
        sent=request(f"{PREDICTIONS}?model=loans&version=7", body, *headers, media=media),
        rows=1,
        stored=(f"{number}-{name.replace(' ', '-')}-only",),
    )


def _rows(number: int, name: str) -> bytes:
    return row(f"{number}-{name.replace(' ', '-')}-only")


# What is near the limit and right must be read.
READ = (
    *(
        _read(68, name, pack(_rows(68, name)), header, media=LINES)
        for name, pack, header in (
            ("gzip", gzip.compress, GZIP),
            ("zstd", zstd, ZSTD),
            (
                "gzip of 31 MB",
                lambda line: gzip.compress(line + b"\n" + BLANKS * 31),
                GZIP,
            ),
            (
                "zstd of 31 MB",
                lambda line: zstd(line + b"\n" + BLANKS * 31),
                ZSTD,
            ),
            (
                "zstd in two frames",
                lambda line: zstd(line[:9]) + zstd(line[9:]),
                ZSTD,
            ),
        )
    ),
    _read(
        70,
        "8 MiB",
        _rows(70, "8 MiB").ljust(8 * MEGABYTE),
        media=LINES,
    ),
)
BODIES = (*SYNTAX, *SIZES, *READ)
