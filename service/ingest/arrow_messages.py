"""What the API asks a parser of Arrow streams, and what it is told; the API needs no Arrow."""

import msgspec


class Asked(msgspec.Struct, array_like=True):
    """A stream and its limits."""

    kind: str
    body: bytes
    rows: int
    inflated: int
    written: int


class Told(msgspec.Struct, array_like=True):
    """The records of a stream as lines of JSON, or what is wrong with it."""

    lines: bytes = b""
    model: str | None = None
    version: str | None = None
    named: bool = False
    """Records name their model themselves."""
    code: str | None = None
    limit: int | None = None
