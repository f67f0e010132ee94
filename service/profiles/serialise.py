"""Profiles and edges as frames of bytes, and back, without losing a bit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.profiles.binning import Binning, CategoricalBins, Floats, NumericBins, Source
from service.profiles.columns import Classes, Kind, ManyClasses, Output, Quantity
from service.profiles.frames import HEADER_BYTES, Array, pack, unpack
from service.profiles.profile import (
    NO_CONTENTS,
    ColumnProfile,
    Contents,
    FeatureProfile,
    MulticlassProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)


def _optional(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _restore(value: float) -> float | None:
    return None if np.isnan(value) else value


def binning_to_bytes(binning: Binning) -> bytes:
    """Serialise the edges of a model."""
    arrays: list[Array] = [binning.score_edges]
    head: dict[str, Any] = {
        "output": _OUTPUTS[type(binning.output)],
        "classes": [] if isinstance(binning.output, Quantity) else list(binning.output.names),
        "columns": [],
        "scored": binning.score_bins is not None,
        "sources": [[name, own.kind, own.words] for name, own in binning.sources.items()],
    }
    for name, bins in binning.columns.items():
        if isinstance(bins, CategoricalBins):
            rare = [bins.singletons, bins.doubletons]
            head["columns"].append([name, list(bins.categories), sorted(bins.rest), *rare])
        else:
            head["columns"].append([name])
            arrays += _numeric_arrays(bins)
    if binning.score_bins is not None:
        arrays += _numeric_arrays(binning.score_bins)
    return pack(b"B", head, arrays)


def binning_from_bytes(data: bytes) -> Binning:
    """Read the edges of a model; ``ValueError`` if the bytes are something else."""
    head, arrays = unpack(b"B", data)
    rest = iter(arrays)
    edges = next(rest)
    columns: dict[str, NumericBins | CategoricalBins] = {}
    for name, *categories in head["columns"]:
        if categories:
            top, others, *rare = categories
            columns[name] = CategoricalBins(tuple(top), frozenset(others), *rare)
        else:
            columns[name] = NumericBins(next(rest), next(rest), *map(_restore, next(rest).tolist()))
    score_bins = (
        NumericBins(next(rest), next(rest), *map(_restore, next(rest).tolist()))
        if head["scored"]
        else None
    )
    sources = {
        name: Source(Kind(kind), tuple(words)) for name, kind, words in head.get("sources", [])
    }
    return Binning(columns, _output(head), edges, score_bins, sources)


_OUTPUTS: Mapping[type, str] = {
    Classes: "binary",
    ManyClasses: "multiclass",
    Quantity: "regression",
}


def _output(head: Mapping[str, Any]) -> Output:
    # The first release wrote no output: its models were all binary.
    kind = head.get("output", "binary")
    if kind == "regression":
        return Quantity()
    names = head["classes"]
    return ManyClasses(tuple(names)) if kind == "multiclass" else Classes(*names)


def _numeric_arrays(bins: NumericBins) -> list[Array]:
    return [bins.edges, bins.atoms, _optional((bins.minimum, bins.maximum))]


def features_to_bytes(profile: FeatureProfile) -> bytes:
    """Serialise a feature profile; all columns' bins share one array of each sort."""
    columns = list(profile.columns.values())
    head = {
        "rows": profile.rows,
        "names": list(profile.columns),
        "sizes": [len(column.counts) for column in columns],
        "unseen": [list(column.unseen.items()) for column in columns],
        "contents": profile.contents.rows,
        "scores": list(profile.score_counts.shape),
    }
    bins = [
        np.concatenate([empty, *(getattr(column, field) for column in columns)])
        for field, empty in (
            ("counts", np.empty(0, np.int64)),
            ("weights", np.empty(0)),
            ("weights_squared", np.empty(0)),
            ("sums", np.empty(0)),
        )
    ]
    whole = [[column.missing, column.n, column.out_of_range] for column in columns]
    moments = [_optional((c.minimum, c.maximum, c.mean, c.m2)) for c in columns]
    arrays = [
        *bins,
        np.array(whole, dtype=np.int64).ravel(),
        np.concatenate([np.empty(0), *moments]),
        np.array([profile.weight], dtype=np.float64),
        profile.score_counts.ravel(),
        profile.score_weights.ravel(),
        profile.contents.hashes,
        profile.contents.counts,
    ]
    return pack(b"F", head, arrays)


def features_from_bytes(data: bytes) -> FeatureProfile:
    """Read a feature profile; ``ValueError`` if the bytes are something else."""
    head, arrays = unpack(b"F", data)
    shape = head.get("scores", [2, -1])
    contents = NO_CONTENTS
    if "contents" in head:
        *arrays, hashes, repeated = arrays
        contents = Contents(hashes, repeated, head["contents"])
    *bins, whole, moments, weight, score_counts, score_weights = arrays
    cuts = np.cumsum(head["sizes"])[:-1].astype(np.int64)
    split = [np.split(array, cuts) for array in bins]
    columns = {}
    for i, name in enumerate(head["names"]):
        missing, n, out_of_range = whole[3 * i : 3 * i + 3].tolist()
        minimum, maximum, mean, m2 = moments[4 * i : 4 * i + 4].tolist()
        columns[name] = ColumnProfile(
            counts=split[0][i],
            weights=split[1][i],
            weights_squared=split[2][i],
            sums=split[3][i],
            missing=missing,
            n=n,
            minimum=_restore(minimum),
            maximum=_restore(maximum),
            mean=mean,
            m2=m2,
            out_of_range=out_of_range,
            unseen=dict(head["unseen"][i]),
        )
    return FeatureProfile(
        head["rows"],
        float(weight[0]),
        columns,
        score_counts.reshape(shape),
        score_weights.reshape(shape),
        contents,
    )


def performance_to_bytes(profile: Performance) -> bytes:
    """Serialise a performance profile; its frame says of which kind it is."""
    # Left out where there is none, so that the release before reads it, too.
    known = {"relabelled": profile.relabelled} if profile.relabelled else {}
    if isinstance(profile, RegressionProfile):
        names = ("labelled", "unusable", "zero_labels", "outside_log")
        counts = {name: getattr(profile, name) for name in names}
        return pack(b"R", {**counts, **known}, [profile.sums])
    arrays = [
        profile.confusion.ravel(),
        profile.confusion_weights.ravel(),
        profile.confusion_weights_squared.ravel(),
        profile.score_counts.ravel(),
        profile.score_weights.ravel(),
        profile.losses.ravel(),
    ]
    head = {
        "labelled": profile.labelled,
        "unusable": profile.unusable,
        "scores": list(profile.score_counts.shape),
        **known,
    }
    if isinstance(profile, MulticlassProfile):
        return pack(b"M", {**head, "names": profile.names}, arrays)
    if profile.ranked is None:
        return pack(b"P", head, arrays)
    return pack(b"P", {**head, "ranked": True}, [*arrays, profile.ranked.ravel()])


def performance_from_bytes(data: bytes) -> Performance:
    """Read a performance profile; ``ValueError`` if the bytes are something else."""
    kind = data[HEADER_BYTES - 1 : HEADER_BYTES]
    if kind == b"R":
        head, (sums,) = unpack(kind, data)
        return RegressionProfile(**head, sums=sums)
    if kind == b"M":
        return _multiclass(*unpack(kind, data))
    head, arrays = unpack(b"P", data)
    ranked = arrays.pop().reshape(-1, 3) if "ranked" in head else None
    *confusion, counts, weights, losses = arrays
    rows, sums, squares = (array.reshape(2, 2) for array in confusion)
    counts, weights = _scores(head, counts, weights, rows[None])
    shape = (2, 2, -1)
    return PerformanceProfile(
        head["labelled"],
        head["unusable"],
        rows,
        sums,
        squares,
        counts.reshape(shape),
        weights.reshape(shape),
        losses.reshape(2, -1),
        ranked,
        head.get("relabelled", 0),
    )


def _multiclass(head: Mapping[str, Any], arrays: Sequence[Array]) -> MulticlassProfile:
    names = tuple(head["names"])
    k = len(names)
    *confusion, counts, weights, losses = arrays
    rows, sums, squares = (array.reshape(k, k) for array in confusion)
    against = np.array([one_against_rest(rows, i) for i in range(k)]).reshape(k, 2, 2)
    counts, weights = _scores(head, counts, weights, against)
    return MulticlassProfile(
        names,
        head["labelled"],
        head["unusable"],
        rows,
        sums,
        squares,
        counts,
        weights,
        _four_losses(losses, k),
        head.get("relabelled", 0),
    )


def _four_losses(losses: Array, k: int) -> Array:
    """Return the losses by label; those of profiles that knew none of the Brier score are NaN."""
    known = losses.reshape(k, -1) if k else np.zeros((0, 4))
    return np.pad(known, ((0, 0), (0, 4 - known.shape[1])), constant_values=np.nan)


def one_against_rest(confusion: Array, position: int) -> Array:
    """Return a class's own table, whether label by prediction is another class or this one."""
    own = confusion[position, position]
    missed = confusion[position].sum() - own
    wrong = confusion[:, position].sum() - own
    return np.array([[confusion.sum() - own - missed - wrong, wrong], [missed, own]])


def _scores(
    head: Mapping[str, Any], counts: Array, weights: Array, confusion: Array
) -> tuple[Array, Array]:
    """Return the score histograms by label and prediction, which the first release did not part.

    Its models mostly predicted by a threshold, so that of each label's scores the lowest are taken
    for those of negative predictions, as many as its table (n, 2, 2) says.
    """
    if "scores" in head:
        return counts.reshape(head["scores"]), weights.reshape(head["scores"])
    counts = counts.reshape(len(confusion), 2, -1 if len(confusion) else head["bins"])
    weights = weights.reshape(counts.shape)
    scored = counts.sum(axis=-1)
    labelled = confusion.sum(axis=-1)
    share = np.divide(confusion[..., 0], labelled, out=np.zeros(scored.shape), where=labelled > 0)
    negative = np.rint(share * scored).astype(np.int64)
    before = np.cumsum(counts, axis=-1) - counts
    low = np.clip(negative[..., None] - before, 0, counts)
    part = np.divide(low, counts, out=np.zeros(counts.shape), where=counts > 0)
    return (
        np.stack([low, counts - low], axis=2),
        np.stack([weights * part, weights - weights * part], axis=2),
    )
