"""From a file's columns to the row table that profiles read; every bad value is located."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from service.errors import InvalidDocumentError
from service.profiles.arrays import score_column
from service.registry.classes import class_text
from service.registry.documents import read
from service.registry.privacy import SUBJECT, Pseudonyms
from service.registry.schemas import (
    FEWEST_CLASSES,
    LONGEST_CLASS,
    MOST_CLASSES,
    FeatureDocument,
    is_class,
    is_reserved,
)
from service.registry.values import ATTRIBUTIONS, VersionSpec
from service.runs.reference_kinds import (
    TIME,
    BadColumnError,
    by_value,
    infer_kind,
    is_text,
    require,
    to_kind,
    to_times,
    vector_length,
)
from service.runs.reference_privacy import hash_columns, without_dropped

# What a logged row may weigh.
MOST_WEIGHT = float(1 << 63)
# Near the ends of the calendar a time's week or month, or the time itself, does not exist.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

# Pairs of classes, negative first, that nobody needs to declare.
_PAIRS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("-1", "1"))
_CLASSES = 2


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """A reference as the row table, with what was inferred from it."""

    table: pa.Table
    features: tuple[FeatureDocument, ...]
    classes: tuple[str, ...] | None
    attributed: bool = False


def conform(
    table: pa.Table,
    names: Mapping[str, str],
    declared: Mapping[str, str],
    version: VersionSpec,
    pseudonyms: Pseudonyms | None = None,
) -> ReferenceRows:
    """Make the row table of a file.

    ``names`` maps our reserved columns to the file's; ``declared`` are the kinds of the
    version's features, whose classes are inferred where it has none.
    """
    table = without_dropped(table, version)
    own = _own_columns(table, names)
    lengths = {feature.name: feature.length for feature in version.features}
    if version.task != "binary" and own.pop("score", None) is not None and "score" in names:
        message = f"score: the model's task is {version.task}, which has no single score"
        raise InvalidDocumentError(message)
    columns: dict[str, pa.Array] = {}
    features = []
    for name in table.column_names:
        if name in own.values() or is_reserved(name):
            continue
        array = _plain(table, name)
        kind = declared.get(name) or infer_kind(name, array)
        columns[name] = to_kind(name, array, kind)
        features.append(_feature(name, kind, columns[name], lengths.get(name)))
    outputs, inferred = _outputs(table, own, version)
    columns.update(outputs)
    for name in table.column_names:
        # Slices may be declared by tags.
        if name.startswith("tags.") and name not in own.values():
            columns[name] = to_kind(name, _plain(table, name), "categorical")
    columns.update(_weights(table, own))
    attributions = _attributions(table, own, {*declared, *columns})
    columns.update(attributions)
    if "ts" in own:
        columns["ts"] = _times(own["ts"], table)
    # Rows are erased by their subject; whoever has no key for it does not keep it.
    if pseudonyms is not None and SUBJECT in table.column_names and SUBJECT not in own.values():
        columns[SUBJECT] = to_kind(SUBJECT, _plain(table, SUBJECT), "categorical")
    treated = hash_columns(pa.table(columns), version, pseudonyms)
    return ReferenceRows(treated, tuple(features), inferred, bool(attributions))


def _outputs(
    table: pa.Table, own: Mapping[str, str], version: VersionSpec
) -> tuple[dict[str, pa.Array], tuple[str, ...] | None]:
    """Return predictions, scores and labels, and the classes where they had to be inferred."""
    if version.task == "regression":
        return _amounts(table, own), None
    if version.task == "multiclass":
        texts, inferred = _classes(table, own, version.classes, infer_many)
        return texts | _scores_of_many(table, version.classes or inferred or ()), inferred
    texts, inferred = _classes(table, own, version.classes, infer_classes)
    positive = version.positive_class or (inferred[-1] if inferred else None)
    return texts | _scores(table, own, positive), inferred


def _times(name: str, table: pa.Table) -> pa.Array:
    times = to_times(name, _plain(table, name))
    fits = pc.and_(
        pc.greater_equal(times, pa.scalar(EARLIEST, TIME)),
        pc.less(times, pa.scalar(LATEST, TIME)),
    )
    require(name, times, fits, "is outside of the years 1900 to 2199")
    return times


def _amounts(table: pa.Table, own: Mapping[str, str]) -> dict[str, pa.Array]:
    """Return the numbers that a regression model predicts, and its labels."""
    return {
        ours: to_kind(own[ours], _plain(table, own[ours]), "numeric")
        for ours in ("prediction", "label")
        if ours in own
    }


def _classes(
    table: pa.Table,
    own: Mapping[str, str],
    classes: tuple[str, ...],
    infer: Callable[[Iterable[pa.Array]], tuple[str, ...] | None],
) -> tuple[dict[str, pa.Array], tuple[str, ...] | None]:
    """Return predictions and labels as classes, and these where they had to be inferred."""
    texts = {
        ours: to_classes(own[ours], _plain(table, own[ours]), classes)
        for ours in ("prediction", "label")
        if ours in own
    }
    inferred = None if classes else infer(texts.values())
    known = classes or inferred or ()
    for ours, array in texts.items():
        require(own[ours], array, _is_in(array, known), "is none of the version's classes")
    return texts, inferred


def _own_columns(table: pa.Table, names: Mapping[str, str]) -> dict[str, str]:
    own = {}
    for ours in ("ts", "prediction", "score", "label", "weight"):
        theirs = names.get(ours)
        if theirs is not None and theirs not in table.column_names:
            raise BadColumnError(theirs, f"the file has no such column, which {ours} was to be")
        if theirs is not None and theirs != ours and ours in table.column_names:
            raise BadColumnError(ours, f"the name means {ours}, which is another column; ignore it")
        if theirs is not None or ours in table.column_names:
            own[ours] = theirs or ours
    if len(set(own.values())) != len(own):
        message = "one column cannot have two meanings"
        raise InvalidDocumentError(message)
    return own


def _scores(table: pa.Table, own: Mapping[str, str], positive: str | None) -> dict[str, pa.Array]:
    columns = {}
    score = own.get("score")
    if score is None and positive is not None and f"scores.{positive}" in table.column_names:
        score = f"scores.{positive}"
    if score is not None:
        columns["score"] = to_kind(score, _plain(table, score), "numeric")
        fits = pc.and_(pc.greater_equal(columns["score"], 0), pc.less_equal(columns["score"], 1))
        require(score, columns["score"], fits, "is no probability from 0 to 1")
    return columns


def _scores_of_many(table: pa.Table, classes: Sequence[str]) -> dict[str, pa.Array]:
    """Return the columns ``scores.<class>``: of every class, or of none."""
    theirs = {name: score_column(name) for name in classes}
    there = [name for name in theirs.values() if name in table.column_names]
    if not there:
        return {}
    columns = {}
    for name, column in theirs.items():
        if column not in there:
            raise BadColumnError(column, "the file has no such column, though of other classes")
        scores = to_kind(column, _plain(table, column), "numeric")
        fits = pc.and_(pc.greater_equal(scores, 0), pc.less_equal(scores, 1))
        require(column, scores, fits, "is no probability from 0 to 1")
        columns[score_column(name)] = scores
    return columns


def _weights(table: pa.Table, own: Mapping[str, str]) -> dict[str, pa.Array]:
    columns = {}
    if "weight" in own:
        columns["weight"] = to_kind(own["weight"], _plain(table, own["weight"]), "numeric")
        fits = pc.and_(
            pc.greater_equal(columns["weight"], 0), pc.less(columns["weight"], MOST_WEIGHT)
        )
        require(own["weight"], columns["weight"], fits, "is no weight from 0 to 2^63")
    return columns


def to_classes(name: str, array: pa.Array, classes: Sequence[str]) -> pa.Array:
    """Return predictions or labels as the text of their classes."""
    if is_text(array.type):
        return array.cast(pa.string())
    return by_value(name, array, lambda value: class_text(value, classes))


def infer_classes(columns: Iterable[pa.Array]) -> tuple[str, str] | None:
    """Infer the two classes, negative first, or ``None`` where no row has one."""
    found: set[str] = set()
    for array in columns:
        distinct = pc.drop_null(pc.unique(array))
        found.update(distinct.slice(0, _CLASSES + 1).to_pylist())
    if not found:
        return None
    if len(found) > _CLASSES:
        message = "predictions and labels have more than two classes: the model's task is binary"
        raise InvalidDocumentError(message, code="too-many-classes")
    for pair in _PAIRS:
        if found <= set(pair):
            return pair
        spelled = {name.lower(): name for name in found}
        if spelled.keys() == set(pair):
            return spelled[pair[0]], spelled[pair[1]]
    message = "declare classes and positive_class with the version: they cannot be told apart"
    raise InvalidDocumentError(message, code="unknown-classes")


def infer_many(columns: Iterable[pa.Array]) -> tuple[str, ...] | None:
    """Infer the classes of a multiclass model, by name, or ``None`` where no row has one."""
    found: set[str] = set()
    for array in columns:
        found.update(pc.drop_null(pc.unique(array)).slice(0, MOST_CLASSES + 1).to_pylist())
    if len(found) > MOST_CLASSES:
        message = f"predictions and labels have more than {MOST_CLASSES} classes"
        raise InvalidDocumentError(message, code="too-many-classes")
    if 0 < len(found) < FEWEST_CLASSES:
        message = "declare the classes with the version: predictions and labels have fewer than 3"
        raise InvalidDocumentError(message, code="unknown-classes")
    if not all(is_class(name) for name in found):
        message = (
            f"a class of predictions or labels is not 1 to {LONGEST_CLASS} printable characters"
        )
        raise InvalidDocumentError(message, code="unknown-classes")
    return tuple(sorted(found)) or None


def _is_in(array: pa.Array, names: Sequence[str]) -> pa.Array:
    return pc.is_in(array, value_set=pa.array(list(names), pa.string()))


def _plain(table: pa.Table, name: str) -> pa.Array:
    array = table.column(name).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return array


def _attributions(
    table: pa.Table, own: Mapping[str, str], features: Collection[str]
) -> dict[str, pa.Array]:
    """Return the columns ``attributions.<feature>``."""
    columns = {}
    for name in table.column_names:
        if name.startswith(f"{ATTRIBUTIONS}.") and name not in own.values():
            if name.removeprefix(f"{ATTRIBUTIONS}.") not in features:
                raise BadColumnError(name, "there is no such feature; ignore it")
            columns[name] = to_kind(name, _plain(table, name), "numeric")
    return columns


def _feature(name: str, kind: str, array: pa.Array, length: int | None) -> FeatureDocument:
    found = vector_length(array) if kind == "embedding" else None
    if length is not None and found not in {None, length}:
        raise BadColumnError(name, f"the vectors have {found} numbers, where {length} are declared")
    try:
        return read(FeatureDocument, {"name": name, "kind": kind, "length": length or found})
    except InvalidDocumentError as error:
        raise BadColumnError(name, f"{error.detail}; ignore it") from None
