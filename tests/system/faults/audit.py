"""What is in the tables after the faults, against what was acknowledged."""

import psycopg

from tests.system.faults.load import MODEL, VERSION, Plan

_NUMBER = "substr(prediction_id, 2)::bigint"
_CLASS = f"(({_NUMBER} * 104729 % 1000 + 1000) % 1000 >= 500)::int"
# As `load` has it; the operators differ in the sign of what is left of negative numbers.
_WRONG = f"""
    prediction_id <> 'p' || {_NUMBER}
    OR ts <> timestamptz '2026-01-05 00:00:00+00' + {_NUMBER} * interval '15 s'
    OR income <> (({_NUMBER} * 7919 % 1000 + 1000) % 1000) / 1000.0::float8
    OR score <> (({_NUMBER} * 104729 % 1000 + 1000) % 1000) / 1000.0::float8
    OR prediction <> ({_CLASS})::text
    OR region <> (ARRAY['north', 'south', 'east', 'west'])[1 + ({_NUMBER} % 4 + 4) % 4]
"""
_WRONG_LABEL = f"""
    label <> (CASE WHEN {_NUMBER} >= 4000 OR {_NUMBER} % 20 = 0
              THEN 1 - {_CLASS} ELSE {_CLASS} END)::text
"""
_QUERIES = {
    "rows": "SELECT count(*) FROM prediction",
    "identities": "SELECT count(*) FROM prediction_identity",
    "doubled": "SELECT count(*) - count(DISTINCT (version_id, prediction_id)) FROM prediction",
    "changed": f'SELECT count(*) FROM logs."{MODEL}@{VERSION}" WHERE {_WRONG}',
    "labels": "SELECT count(*) FROM label",
    "labels_of_rows": """
        SELECT count(*) FROM label JOIN prediction_identity USING (model_id, prediction_id)""",
    "labels_doubled": "SELECT count(*) - count(DISTINCT prediction_id) FROM label",
    "labels_changed": f"SELECT count(*) FROM label WHERE {_WRONG_LABEL}",
    "hours": "SELECT count(DISTINCT date_trunc('hour', ts, 'UTC')) FROM prediction",
    "windows": 'SELECT count(*) FROM "window" WHERE latest',
    "window_rows": 'SELECT coalesce(sum(rows), 0) FROM "window" WHERE latest',
    "window_labels": 'SELECT coalesce(sum(labelled), 0) FROM "window" WHERE latest',
    "revisions": 'SELECT count(*) FROM "window"',
    "windows_doubled": """
        SELECT count(*) FROM (SELECT FROM "window" WHERE latest
        GROUP BY version_id, start, "end" HAVING count(*) > 1) AS twice""",
    "windows_missing": """
        SELECT count(*) FROM (SELECT DISTINCT version_id, date_trunc('hour', ts, 'UTC') AS start
        FROM prediction EXCEPT SELECT version_id, start FROM "window" WHERE latest) AS missing""",
    "revisions_broken": """
        SELECT count(*) FROM (SELECT FROM "window" GROUP BY version_id, start, "end"
        HAVING count(*) <> max(revision) OR count(DISTINCT revision) <> count(*)
        OR max(revision) FILTER (WHERE latest) <> max(revision)) AS broken""",
    "judged_twice": """
        SELECT count(*) FROM (SELECT FROM "window" GROUP BY version_id, start, "end", data_digest,
        labelled, reference_revision, config_revision HAVING count(*) > 1) AS twice""",
    "half_written": """
        SELECT count(*) FROM "window" w LEFT JOIN LATERAL (SELECT count(*) AS n,
        max(position) AS last, count(DISTINCT position) AS positions FROM measurement
        WHERE window_id = w.id) m ON true
        WHERE n = 0 OR n <> last + 1 OR positions <> n""",
    "requests": "SELECT count(*) FROM retraining_request",
    "incidents": "SELECT count(*) FROM incident",
    "incidents_doubled": """
        SELECT count(*) FROM (SELECT FROM incident
        GROUP BY version_id, cause, since HAVING count(*) > 1) AS twice""",
    "events": "SELECT count(*) FROM outbox",
    "events_undelivered": "SELECT count(*) FROM outbox WHERE delivered_at IS NULL",
    "due": "SELECT count(*) FROM due_work",
    "arrivals": "SELECT count(*) FROM arrival",
}


def look(url: str) -> dict[str, int]:
    """Return what SQL says."""
    with psycopg.connect(url) as connection:
        found = {}
        for name, query in _QUERIES.items():
            row = connection.execute(query).fetchone()
            assert row is not None
            found[name] = int(row[0])
        return found


def is_drained(url: str) -> bool:
    """Say whether nothing is left to do."""
    with psycopg.connect(url) as connection:
        waits = "SELECT NOT EXISTS (SELECT FROM due_work) AND NOT EXISTS (SELECT FROM arrival)"
        row = connection.execute(waits).fetchone()
        return row is not None and bool(row[0])


def expedite(url: str) -> None:
    """Have events tried again that a killed worker was about to send."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE outbox SET next_attempt_at = now() WHERE delivered_at IS NULL")


def lost(url: str, plan: Plan) -> dict[str, int]:
    """Return how many acknowledged rows are not stored, and stored ones not acknowledged.

    The latter were on their way when their client was killed.
    """
    found = {}
    for kind, table in (("predictions", "prediction_identity"), ("labels", "label")):
        known = {f"p{number}" for number in plan.acknowledged(kind)}
        with psycopg.connect(url) as connection:
            query = f"SELECT prediction_id FROM {table} WHERE prediction_id NOT LIKE 'p-%'"
            stored = {row[0] for row in connection.execute(query)}
        found[f"{kind}_acknowledged"] = len(known)
        found[f"{kind}_lost"] = len(known - stored)
        found[f"{kind}_unacknowledged"] = len(stored - known)
    return found


NONE_OF = (
    *("doubled", "changed", "labels_doubled", "labels_changed"),
    *("windows_doubled", "windows_missing", "revisions_broken", "judged_twice", "half_written"),
    *("incidents_doubled", "events_undelivered", "arrivals"),
    *("predictions_lost", "labels_lost"),
)


def contradictions(found: dict[str, int]) -> dict[str, int]:
    """Return what must not be."""
    wrong = {name: found[name] for name in NONE_OF if found[name]}
    for one, other in (
        ("rows", "identities"),
        ("rows", "window_rows"),
        ("labels_of_rows", "window_labels"),
        ("hours", "windows"),
    ):
        if found[one] != found[other]:
            wrong[f"{one}_but_{other}"] = found[one] - found[other]
    return wrong
