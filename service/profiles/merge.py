"""Merge profiles: a union's profile is the merge of its parts' profiles."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from math import fsum
from typing import Any, TypeVar

import numpy as np

from service.profiles.binary import keep_ranked
from service.profiles.binning import Binning
from service.profiles.build import keep_unseen
from service.profiles.columns import ManyClasses, Quantity
from service.profiles.contents import merge_contents
from service.profiles.multiclass import empty_multiclass
from service.profiles.profile import (
    REGRESSION_SUMS,
    ColumnProfile,
    FeatureProfile,
    Performance,
    PerformanceProfile,
    RegressionProfile,
)

P = TypeVar("P", bound=Performance)


def empty_features(binning: Binning) -> FeatureProfile:
    """Return the profile of no rows, the neutral element of ``merge_features``."""
    shape: tuple[int, ...] = (2, len(binning.score_edges) + 1)
    if isinstance(binning.output, ManyClasses):
        shape = (len(binning.output.names), *shape)
    return FeatureProfile(0, 0.0, {}, np.zeros(shape, np.int64), np.zeros(shape))


def empty_performance(binning: Binning) -> Performance:
    """Return the profile of no rows, the neutral element of ``merge_performance``."""
    if isinstance(binning.output, Quantity):
        return RegressionProfile(0, 0, 0, 0, np.zeros(len(REGRESSION_SUMS)))
    if isinstance(binning.output, ManyClasses):
        return empty_multiclass(binning.score_edges, binning.output)
    bins = len(binning.score_edges) + 1
    return PerformanceProfile(
        labelled=0,
        unusable=0,
        confusion=np.zeros((2, 2), np.int64),
        confusion_weights=np.zeros((2, 2)),
        confusion_weights_squared=np.zeros((2, 2)),
        score_counts=np.zeros((2, 2, bins), np.int64),
        score_weights=np.zeros((2, 2, bins)),
        losses=np.zeros((2, 4)),
        ranked=np.empty((0, 3)),
    )


def merge_features(profiles: Sequence[FeatureProfile]) -> FeatureProfile:
    """Merge profiles of disjoint rows under one binning.

    A column that a profile lacks has no rows there: it is not missing in them.

    Parameters
    ----------
    profiles
        At least one; ``empty_features`` stands for none.

    Returns
    -------
    FeatureProfile
        Associative and commutative: exactly in counts, to rounding in sums.

    Raises
    ------
    ValueError
        If there is no profile, or two were made under different binnings.
    """
    if not profiles:
        message = "merging needs at least one profile; empty_features(binning) has no rows"
        raise ValueError(message)
    if len(profiles) == 1:
        return profiles[0]
    names = dict.fromkeys(name for profile in profiles for name in profile.columns)
    columns = {
        name: _merge_columns([p.columns[name] for p in profiles if name in p.columns])
        for name in names
    }
    return FeatureProfile(
        rows=sum(p.rows for p in profiles),
        weight=fsum(p.weight for p in profiles),
        columns=columns,
        # The first release's profiles of many classes hold zeros that broadcast.
        score_counts=reduce(np.add, (p.score_counts for p in profiles)),
        score_weights=reduce(np.add, (p.score_weights for p in profiles)),
        contents=merge_contents([p.contents for p in profiles]),
    )


def merge_performance(profiles: Sequence[P]) -> P:
    """Merge performance profiles of disjoint rows under one binning: counts and sums add up.

    Parameters
    ----------
    profiles
        At least one; ``empty_performance`` stands for none.

    Returns
    -------
    Performance
        Of the profiles' kind; associative and commutative: exactly in counts, to rounding in sums.

    Raises
    ------
    ValueError
        If there is no profile, or two were made under different binnings.
    """
    if not profiles:
        message = "merging needs at least one profile; empty_performance(binning) has no rows"
        raise ValueError(message)
    if len(profiles) == 1:
        return profiles[0]
    kind, names = type(profiles[0]), {getattr(profile, "names", None) for profile in profiles}
    if len(names) > 1 or any(type(profile) is not kind for profile in profiles):
        message = "profiles of different outputs cannot be merged"
        raise ValueError(message)
    # Sums that overflowed are infinite of either sign; what is made of them is not finite then.
    with np.errstate(invalid="ignore"):
        return kind(
            **{
                field.name: _total(field.name, [getattr(p, field.name) for p in profiles])
                for field in fields(kind)
            }
        )


def _total(name: str, parts: Sequence[Any]) -> Any:
    if name == "ranked":
        return keep_ranked(parts)
    if isinstance(parts[0], tuple):
        return parts[0]
    return sum(parts) if isinstance(parts[0], int) else np.sum(parts, axis=0)


def _merge_columns(parts: Sequence[ColumnProfile]) -> ColumnProfile:
    if len(parts) == 1:
        return parts[0]
    n = sum(part.n for part in parts)
    mean = fsum(part.n * part.mean for part in parts) / n if n else 0.0
    spread = fsum(part.n * (part.mean - mean) ** 2 for part in parts)
    unseen: Counter[str] = Counter()
    for part in parts:
        unseen.update(part.unseen)
    return ColumnProfile(
        counts=np.sum([part.counts for part in parts], axis=0),
        weights=np.sum([part.weights for part in parts], axis=0),
        weights_squared=np.sum([part.weights_squared for part in parts], axis=0),
        sums=np.sum([part.sums for part in parts], axis=0),
        missing=sum(part.missing for part in parts),
        n=n,
        minimum=min((part.minimum for part in parts if part.minimum is not None), default=None),
        maximum=max((part.maximum for part in parts if part.maximum is not None), default=None),
        mean=mean,
        m2=fsum(part.m2 for part in parts) + spread,
        out_of_range=sum(part.out_of_range for part in parts),
        unseen=keep_unseen(unseen.items()) if unseen else {},
    )
