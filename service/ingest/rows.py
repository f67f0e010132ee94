"""A prediction's bytes: its identity and its row, encoded for COPY as soon as it is judged."""

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from service.ingest import copy
from service.ingest.decode import Record
from service.ingest.examine import Fields
from service.ingest.times import HOUR
from service.ingest.treatment import treat_raw
from service.ingest.verdicts import Code, Fault, RowError, Verdicts
from service.registry.privacy import Pseudonyms
from service.registry.values import VersionSpec

IDENTITY_COLUMNS = ("model_id", "version_id", "prediction_id", "ts", "content_hash")
_KEY_COLUMNS = ("model_id", "version_id", "prediction_id", "ts")
_EXTRA_COLUMNS = ("weight", "subject", "tags")
OUTPUT_COLUMNS = {
    "binary": ("prediction", "score"),
    "multiclass": ("prediction", "scores"),
    "regression": ("predicted_value",),
}
_HASH_BYTES = 8
_HASH = hashlib.blake2b(digest_size=_HASH_BYTES)
_HASH_LENGTH = copy.pack_length(_HASH_BYTES)
_NO_EXTRAS = copy.NULL * 3
_CACHED_TEXTS = 4_096
_CACHED_TEXT_LENGTH = 64


class PreparedRow(msgspec.Struct, gc=False):
    """A row that can be stored: ``key`` and ``tail`` are its identity, ``cells`` its tuple.

    Two rows with equal keys are one prediction, told twice; equal tails say the same.  ``wrong``
    names the features that it lost because their values were of another type.
    """

    key: bytes
    tail: bytes
    cells: bytes
    ts: int
    prediction_id: str
    index: int
    layout: "Layout"
    owner: Verdicts
    wrong: tuple[str, ...] = ()

    conflict: ClassVar[RowError] = RowError(
        Code.CONFLICTING_DUPLICATE,
        "prediction_id",
        "another prediction of that id is stored; a retry must send the same ts and content",
    )

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.layout.spec.model

    def aside(self, raw: Record) -> Record:
        """Return the record as it may be put aside, where its row cannot be stored."""
        return treat_raw(raw, self.layout.spec, self.layout.pseudonyms)

    def fault(self, code: str) -> Fault:
        """Return where a fault that costs this row is counted."""
        return self.layout.fault(self.ts, "", code)


class _EncodedTexts(dict[str | None, bytes]):
    """Encoded texts; those of few and short values are found again without encoding."""

    def __missing__(self, value: str | None) -> bytes:
        encoded = copy.text_field(value)
        if len(self) < _CACHED_TEXTS and len(encoded) <= _CACHED_TEXT_LENGTH:
            self[value] = encoded
        return encoded


class Layout:
    """Which columns the rows of a version fill, and how they are encoded."""

    def __init__(self, spec: VersionSpec, pseudonyms: Pseudonyms | None = None) -> None:
        self.spec = spec
        self.pseudonyms = pseudonyms
        self.model = spec.model
        self.numbers, self.texts, self.vectors = (
            tuple(f for f in spec.features if f.slot.startswith(prefix)) for prefix in "ncv"
        )
        self.attributions = spec.attributions
        numbers = self.numbers
        slots = tuple(f.slot for f in (*numbers, *self.texts, *self.vectors, *self.attributions))
        self.columns = _KEY_COLUMNS + OUTPUT_COLUMNS[spec.task] + _EXTRA_COLUMNS + slots
        self._count = copy.pack_count(len(self.columns))
        self._head = copy.int8_field(spec.model_id) + copy.int8_field(spec.version_id)
        self._pack_numbers = struct.Struct(">" + "4sd" * len(numbers)).pack
        self._arguments: list[Any] = [copy.pack_length(8)] * (2 * len(numbers))
        self._texts = _EncodedTexts()

    def fault(self, ts: int, field: str, code: str) -> Fault:
        """Return where a fault of this version is counted."""
        return Fault(self.spec.model_id, self.spec.version_id, ts // HOUR, field, code)

    def _numbers(self, values: Sequence[float | None]) -> bytes:
        self._arguments[1::2] = values
        try:
            return self._pack_numbers(*self._arguments)
        except struct.error:
            # One of them is null.
            return b"".join(map(copy.float8_field, values))

    def _output(self, fields: Fields) -> bytes:
        prediction = fields.prediction
        if isinstance(prediction, float):
            return copy.float8_field(prediction)
        text = self._texts[prediction]
        if self.spec.task == "multiclass":
            return text + copy.float8s_field(fields.scores)
        return text + copy.float8_field(fields.score)

    def encode(self, index: int, fields: Fields, owner: Verdicts) -> PreparedRow:
        """Encode a row; the hash leaves out empty slots at the end, which come and go."""
        name = fields.prediction_id.encode()
        key = self._head + copy.pack_length(len(name)) + name
        time = copy.time_field(fields.ts)
        text = self._texts
        middle = b"".join((time, self._output(fields), _extras(fields)))
        numbers = self._numbers(fields.numbers)
        texts = b"".join(map(text.__getitem__, fields.texts))
        content = b"".join((middle, numbers.rstrip(copy.NULL), b"/", texts.rstrip(copy.NULL)))
        later = b""
        if fields.vectors or fields.attributions:
            vectors = list(map(copy.float4s_field, fields.vectors))
            attributions = list(map(copy.float8_field, fields.attributions))
            later = b"".join((*vectors, *attributions))
            content += _without_end(vectors, b"/v") + _without_end(attributions, b"/a")
        digest = _HASH.copy()
        digest.update(content)
        return PreparedRow(
            key,
            time + _HASH_LENGTH + digest.digest(),
            b"".join((self._count, key, middle, numbers, texts, later)),
            fields.ts,
            fields.prediction_id,
            index,
            self,
            owner,
        )


def _without_end(cells: list[bytes], head: bytes) -> bytes:
    """Return cells up to the last that is not null, and nothing if all are."""
    while cells and cells[-1] == copy.NULL:
        cells.pop()
    return b"".join((head, *cells)) if cells else b""


def _extras(fields: Fields) -> bytes:
    weight, subject, tags = fields.weight, fields.subject, fields.tags
    if weight is None and subject is None and tags is None:
        return _NO_EXTRAS
    return copy.float8_field(weight) + copy.text_field(subject) + copy.jsonb_field(tags)
