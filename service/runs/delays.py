"""How long after their prediction the labels of a window came, by some of its rows."""

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from service.evaluation.measurement import SMALLEST_GROUP, Direction, Measurement
from service.ledger.marks import Item

LABEL_DELAY = "label_delay"
PERCENTILES = (50, 90, 99)

# A few rows from every tenth of the window: all of them would be read again with every label.
_SAMPLED = text("""
SELECT extract(epoch FROM known.label_ts - row.ts)
FROM generate_series(0, 9) AS tenth
CROSS JOIN LATERAL (
    SELECT ts, prediction_id FROM prediction
    WHERE model_id = :model_id AND version_id = :version_id
      AND ts >= CAST(:start AS timestamptz) + tenth * CAST(:step AS interval)
      AND ts < CAST(:start AS timestamptz) + (tenth + 1) * CAST(:step AS interval)
    ORDER BY ts, prediction_id LIMIT 40
) AS row
CROSS JOIN LATERAL (
    SELECT min(label_ts) AS label_ts FROM label
    WHERE label.model_id = :model_id AND label.prediction_id = row.prediction_id
) AS known
WHERE known.label_ts IS NOT NULL
""")


def measure_label_delays(session: Session, item: Item) -> list[Measurement]:
    """Return percentiles of the seconds from predictions to their first label.

    Labels that are still to come are not among them: a young window's are the early ones.
    """
    step = (item.end - item.start) / 10
    asked = {
        "model_id": item.model_id,
        "version_id": item.version_id,
        "start": item.start,
        "step": step,
    }
    found = [max(float(seconds), 0.0) for seconds in session.scalars(_SAMPLED, asked)]
    if len(found) < SMALLEST_GROUP:
        return []
    return [
        Measurement(
            metric=LABEL_DELAY,
            subject=str(percentile),
            value=float(value),
            n=len(found),
            method="sample",
            direction=Direction.INFORMATION,
            verdict=None,
        )
        for percentile, value in zip(PERCENTILES, np.percentile(found, PERCENTILES), strict=True)
    ]
