"""From the monitor document to what the pure packages are told."""

from service.evaluation.discovery import DiscoveryPolicy
from service.evaluation.drift_columns import ColumnDriftPolicy, DriftPolicy
from service.evaluation.fairness import DISPARITIES, FairnessPolicy, FairnessRule
from service.evaluation.importance import ALIKE, Importance
from service.evaluation.multivariate import MultivariatePolicy
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.slices import Floor, SlicePolicy, SliceRule
from service.evaluation.window import Policies
from service.registry.monitor import MonitorDocument
from service.registry.values import VersionSpec


def policies_of(document: MonitorDocument, importance: Importance = ALIKE) -> Policies:
    """Return the policies of a monitor document, for features of that importance."""
    drift, quality = document.drift, document.quality
    performance = _performance(document)
    return Policies(
        DriftPolicy(
            method=drift.method,
            alpha=drift.alpha,
            min_effect=drift.min_effect,
            columns={
                name: ColumnDriftPolicy(own.method, own.min_effect, own.ignore)
                for name, own in drift.features.items()
            },
            min_rows=document.min_rows,
            importance=importance,
        ),
        QualityPolicy(
            alpha=quality.alpha,
            missing=quality.missing,
            out_of_range=quality.out_of_range,
            unseen=quality.unseen,
            type_errors=quality.type_errors,
            rejected=quality.rejected,
            duplicates=quality.duplicates,
            conflicting_labels=quality.conflicting_labels,
            min_rows_per_hour=quality.min_rows_per_hour,
            min_rows=document.min_rows,
        ),
        performance,
        _slices(document, performance) if document.slices else None,
        _fairness(document) if document.fairness else None,
        # Declared slices and those that are found share their level.
        DiscoveryPolicy(performance=performance, share=2 if document.slices else 1)
        if document.discover_slices
        else None,
        _multivariate(document),
    )


def _multivariate(document: MonitorDocument) -> MultivariatePolicy:
    declared = document.multivariate
    return MultivariatePolicy(
        alpha=declared.alpha,
        min_auc=declared.min_auc,
        max_rows=declared.max_rows,
        classifier="domain_classifier" in declared.methods,
        reconstruction="pca" in declared.methods,
    )


def _performance(document: MonitorDocument) -> PerformancePolicy:
    performance = document.performance
    return PerformancePolicy(
        alpha=performance.alpha,
        metrics=performance.metrics,
        tolerance=performance.tolerance,
        min_label_coverage=performance.min_label_coverage,
        min_rows=document.min_rows,
    )


def _slices(document: MonitorDocument, performance: PerformancePolicy) -> SlicePolicy:
    rules = []
    for declared in document.slices:
        floor = None
        if declared.metric is not None and declared.limit is not None:
            floor = Floor(declared.metric, declared.limit)
        rules.append(SliceRule(declared.column or (), declared.name, floor))
    return SlicePolicy(performance, tuple(rules), 2 if document.discover_slices else 1)


def _fairness(document: MonitorDocument) -> FairnessPolicy:
    rules = [
        FairnessRule(
            column=declared.column,
            reference_group=declared.reference_group,
            favourable_class=declared.favourable_class,
            limits=dict(
                zip(
                    DISPARITIES,
                    (
                        declared.min_disparate_impact,
                        declared.max_demographic_parity_difference,
                        declared.max_equal_opportunity_difference,
                        declared.max_equalized_odds_difference,
                    ),
                    strict=True,
                )
            ),
        )
        for declared in document.fairness
    ]
    return FairnessPolicy(
        rules=tuple(rules),
        alpha=document.performance.alpha,
        min_rows=document.min_rows,
        min_label_coverage=document.performance.min_label_coverage,
    )


def importance_of(version: VersionSpec) -> Importance:
    """Return what is declared of the importance of a version's features."""
    return Importance({f.name: f.importance for f in version.features if f.importance is not None})
