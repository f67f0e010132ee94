"""Times, texts and vectors as columns of numbers and categories that can be binned."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.profiles.arrays import TIME, find_array, to_text
from service.profiles.binning import Floats, Source
from service.profiles.columns import HOURS, MONTHS, WEEKDAYS, Column, Kind, parts_of

MOST_WORDS = 10_000
# A word of a single row says more of its writer than of the language.
ROWS_WITH_WORD = 2
# Long columns are taken in pieces: what is computed on the way is larger than they are.
TEXTS, VECTORS = 65_536, 4_096

_SECOND_US = 1_000_000
_DAY_SECONDS = 86_400
# 1970-01-01 was a Thursday.
_FIRST_WEEKDAY = 3

Parts = dict[str, pa.Array]


def learn(rows: pa.Table, columns: Sequence[Column]) -> dict[str, Source]:
    """Learn what deriving needs to know, on half the rows of a reference.

    Parameters
    ----------
    rows
        The reference.
    columns
        Its features.

    Returns
    -------
    dict[str, Source]
        Each feature that other columns are derived from.  The words of a text are the 10,000 in
        most rows, and in at least two.
    """
    sources = {}
    for column in columns:
        if column.kind is Kind.TEXT and column.name in rows.column_names:
            texts = rows.column(column.name)
            sources[column.name] = Source(
                column.kind, _frequent_words(texts.filter(_taught(texts)))
            )
        elif parts_of(column.name, column.kind):
            sources[column.name] = Source(column.kind)
    return sources


def derive(
    rows: pa.Table,
    columns: Sequence[Column],
    sources: Mapping[str, Source],
    *,
    learnt: Collection[str] = (),
) -> tuple[pa.Table, Sequence[Column]]:
    """Replace times, texts and vectors by the columns that stand for them.

    A time has the ``hour``, ``weekday`` and ``month`` of UTC, and its ``age`` in days before the
    row's ``ts``.  A text has its ``length`` in characters, the share of ``non_letters`` (spaces do
    not count as such), and ``oov``, the share of words that the reference does not know.  A vector
    has its Euclidean ``norm``.  Each is missing where it does not exist: a text without words has
    no share of unknown ones.

    Parameters
    ----------
    rows
        Times are timestamps, texts strings, vectors lists of numbers.  A derived column that is
        there already is taken as it is.
    columns
        The features.
    sources
        What was learnt of them; without it a text has no ``oov``.
    learnt
        The features whose words were learnt on these very rows.  The rows that taught them have no
        ``oov``: they know their own words, which no other row does.

    Returns
    -------
    tuple[pa.Table, Sequence[Column]]
        The rows with the derived columns added, and the columns with them in the features' place;
        both as they were if there is nothing to derive.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> rows = pa.table({"born": [datetime(2026, 11, 21, 6, tzinfo=UTC)],
    ...                  "ts": [datetime(2026, 11, 22, 18, tzinfo=UTC)]})
    >>> rows, columns = derive(rows, [Column("born", Kind.DATETIME)], {})
    >>> {column.name: rows[column.name][0].as_py() for column in columns}
    {'born.hour': '06', 'born.weekday': 'saturday', 'born.month': 'november', 'born.age': 1.5}
    """
    derived = [column for column in columns if parts_of(column.name, column.kind)]
    if not derived:
        return rows, columns
    for column in derived:
        names = {part.name for part in parts_of(column.name, column.kind)}
        if column.name not in rows.column_names or names <= set(rows.column_names):
            continue
        parts = _DERIVED[column.kind](rows, column.name, sources.get(column.name))
        if column.name in learnt and f"{column.name}.oov" in parts:
            taught = _taught(rows.column(column.name))
            known = parts[f"{column.name}.oov"]
            parts[f"{column.name}.oov"] = pc.if_else(taught, pa.scalar(None, known.type), known)
        for name, values in parts.items():
            if name not in rows.column_names:
                rows = rows.append_column(name, values)
    return rows, expanded(columns)


def expanded(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns, with those that are derived in the place of their features."""
    parts = (parts_of(column.name, column.kind) or (column,) for column in columns)
    return tuple(part for own in parts for part in own)


def _taught(texts: pa.ChunkedArray) -> pa.Array:
    """Return which rows teach words: half of them, by a hash of their text and which of it it is.

    In another order of the rows the same texts teach; of two equal ones either may.
    """
    encoded = pa.chunked_array(texts.chunks, texts.type).cast(pa.large_string())
    array = encoded.combine_chunks().dictionary_encode()
    names = [*array.dictionary.to_pylist(), ""]
    codes = pc.fill_null(array.indices, len(names) - 1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    repeats = np.bincount(codes, minlength=len(names))
    which = np.empty(len(codes), np.uint64)
    which[order] = np.arange(len(codes)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    hashes = np.array([crc32(name.encode()) for name in names], np.uint64)
    mixed = (hashes[codes] + (which << np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return pa.array(mixed >> np.uint64(63) == 0)


def _of_time(rows: pa.Table, name: str, _source: Source | None) -> Parts:
    at, known = _microseconds(rows, name)
    now, timed = _microseconds(rows, TIME)
    seconds = at // _SECOND_US
    months = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % len(MONTHS)
    codes = {
        "hour": (seconds // 3600 % 24, HOURS),
        "weekday": ((seconds // _DAY_SECONDS + _FIRST_WEEKDAY) % 7, WEEKDAYS),
        "month": (months, MONTHS),
    }
    parts: Parts = {
        f"{name}.{part}": pa.DictionaryArray.from_arrays(
            pa.array(code.astype(np.int8), mask=~known), pa.array(names)
        )
        for part, (code, names) in codes.items()
    }
    age = (now - at) / (_SECOND_US * _DAY_SECONDS)
    return {**parts, f"{name}.age": pa.array(age, mask=~(known & timed))}


def _microseconds(rows: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return times since 1970, and which rows have one."""
    array = find_array(rows, name)
    if array is None or pa.types.is_null(array.type):
        return np.zeros(rows.num_rows, np.int64), np.zeros(rows.num_rows, np.bool_)
    known = array.is_valid().to_numpy(zero_copy_only=False)
    kind = pa.timestamp("us", tz=getattr(array.type, "tz", None))
    micros = pc.fill_null(array.cast(kind, safe=False).cast(pa.int64()), 0)
    return micros.to_numpy(zero_copy_only=False), known


def _of_text(rows: pa.Table, name: str, source: Source | None) -> Parts:
    lengths, shares, unknown = [], [], []
    for texts in _pieces(rows.column(name), TEXTS):
        length = pc.utf8_length(texts)
        plain = pc.utf8_length(pc.replace_substring_regex(texts, r"[^\p{L} ]+", ""))
        lengths.append(length.cast(pa.float64()))
        some = pc.if_else(pc.greater(length, 0), length, pa.scalar(None, length.type))
        odd = pc.subtract(length, plain).cast(pa.float64())
        shares.append(pc.divide(odd, some.cast(pa.float64())))
        if source is not None:
            unknown.append(_share_unknown(texts, source.words))
    parts = {f"{name}.length": _joined(lengths), f"{name}.non_letters": _joined(shares)}
    return parts if source is None else {**parts, f"{name}.oov": _joined(unknown)}


def _of_vector(rows: pa.Table, name: str, _source: Source | None) -> Parts:
    column = rows.column(name)
    if pa.types.is_null(column.type):
        return {f"{name}.norm": pa.nulls(len(column), pa.float64())}
    return {f"{name}.norm": _joined([_norms(piece) for piece in _pieces(column, VECTORS)])}


def _norms(vectors: pa.Array) -> pa.Array:
    lengths = pc.fill_null(pc.list_value_length(vectors), 0).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(vectors).cast(pa.float64()).to_numpy(zero_copy_only=False)
    norms = np.full(len(vectors), np.nan)
    there = lengths > 0
    if there.any():
        starts = (np.cumsum(lengths) - lengths)[there]
        norms[there] = np.sqrt(np.add.reduceat(values * values, starts))
    return pa.array(norms, mask=~np.isfinite(norms))


_DERIVED: Mapping[str, Callable[[pa.Table, str, Source | None], Parts]] = {
    Kind.DATETIME: _of_time,
    Kind.TEXT: _of_text,
    Kind.EMBEDDING: _of_vector,
}


def _pieces(column: pa.ChunkedArray, rows: int) -> Iterator[pa.Array]:
    for chunk in column.chunks:
        array = chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk
        for start in range(0, len(array), rows):
            piece = array.slice(start, rows)
            yield to_text(piece) if pa.types.is_null(piece.type) else piece


def _joined(pieces: Sequence[pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.float64()), *pieces])


def _words(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return all words of the texts in lower case, and how many each text has."""
    spaced = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+", " ")
    trimmed = pc.utf8_trim(spaced, " ")
    none = pc.equal(trimmed, "")
    lists = pc.split_pattern(pc.if_else(none, pa.scalar(None, trimmed.type), trimmed), " ")
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pc.list_flatten(lists), counts.astype(np.int64)


def _share_unknown(texts: pa.Array, known: Sequence[str]) -> pa.Array:
    words, counts = _words(texts)
    unknown = pc.invert(pc.is_in(words, value_set=pa.array(known, words.type)))
    running = np.append(0, np.cumsum(unknown.to_numpy(zero_copy_only=False)))
    ends = np.cumsum(counts)
    shares: Floats = (running[ends] - running[ends - counts]) / np.maximum(counts, 1)
    return pa.array(shares, mask=counts == 0)


def _frequent_words(texts: pa.ChunkedArray) -> tuple[str, ...]:
    tally: dict[str, int] = {}
    for piece in _pieces(texts, TEXTS):
        words, counts = _words(piece)
        row = np.repeat(np.arange(len(counts)), counts)
        # A word counts once a row, however often it is in there.
        once = pa.table({"row": row, "word": words}).group_by(["row", "word"]).aggregate([])
        counted = pc.value_counts(once["word"])
        for word, rows in zip(
            counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True
        ):
            tally[word] = tally.get(word, 0) + rows
    shared = [(-rows, word) for word, rows in tally.items() if rows >= ROWS_WITH_WORD]
    return tuple(sorted(word for _, word in sorted(shared)[:MOST_WORDS]))
