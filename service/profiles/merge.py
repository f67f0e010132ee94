"""Merge profiles: a union's profile is the merge of its parts' profiles."""

from collections import Counter
from collections.abc import Sequence
from math import fsum

import numpy as np

from service.profiles.binning import Binning
from service.profiles.build import keep_unseen
from service.profiles.profile import ColumnProfile, FeatureProfile, PerformanceProfile


def empty_features(binning: Binning) -> FeatureProfile:
    """Return the profile of no rows, the neutral element of ``merge_features``."""
    bins = len(binning.score_edges) + 1
    return FeatureProfile(0, 0.0, {}, np.zeros((2, bins), np.int64), np.zeros((2, bins)))


def empty_performance(binning: Binning) -> PerformanceProfile:
    """Return the profile of no rows, the neutral element of ``merge_performance``."""
    bins = len(binning.score_edges) + 1
    return PerformanceProfile(
        labelled=0,
        unusable=0,
        confusion=np.zeros((2, 2), np.int64),
        confusion_weights=np.zeros((2, 2)),
        confusion_weights_squared=np.zeros((2, 2)),
        score_counts=np.zeros((2, bins), np.int64),
        score_weights=np.zeros((2, bins)),
        losses=np.zeros((2, 4)),
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
        score_counts=np.sum([p.score_counts for p in profiles], axis=0),
        score_weights=np.sum([p.score_weights for p in profiles], axis=0),
    )


def merge_performance(profiles: Sequence[PerformanceProfile]) -> PerformanceProfile:
    """Merge performance profiles of disjoint rows under one binning.

    Parameters
    ----------
    profiles
        At least one; ``empty_performance`` stands for none.

    Returns
    -------
    PerformanceProfile
        Associative and commutative: exactly in counts, to rounding in sums.

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
    return PerformanceProfile(
        labelled=sum(p.labelled for p in profiles),
        unusable=sum(p.unusable for p in profiles),
        confusion=np.sum([p.confusion for p in profiles], axis=0),
        confusion_weights=np.sum([p.confusion_weights for p in profiles], axis=0),
        confusion_weights_squared=np.sum([p.confusion_weights_squared for p in profiles], axis=0),
        score_counts=np.sum([p.score_counts for p in profiles], axis=0),
        score_weights=np.sum([p.score_weights for p in profiles], axis=0),
        losses=np.sum([p.losses for p in profiles], axis=0),
    )


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
