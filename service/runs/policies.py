"""From the monitor document to what the pure packages are told."""

from service.evaluation.drift import ColumnDriftPolicy, DriftPolicy
from service.evaluation.performance import PerformancePolicy
from service.evaluation.quality import QualityPolicy
from service.evaluation.window import Policies
from service.registry.monitor import MonitorDocument


def policies_of(document: MonitorDocument) -> Policies:
    """Return the policies of a monitor document."""
    drift, quality, performance = document.drift, document.quality, document.performance
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
        ),
        QualityPolicy(
            alpha=quality.alpha,
            missing=quality.missing,
            out_of_range=quality.out_of_range,
            unseen=quality.unseen,
            min_rows=document.min_rows,
        ),
        PerformancePolicy(
            alpha=performance.alpha,
            metrics=performance.metrics,
            tolerance=performance.tolerance,
            min_label_coverage=performance.min_label_coverage,
            min_rows=document.min_rows,
        ),
    )
