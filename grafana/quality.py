"""Is the input healthy: rows that came, columns as they should be, what was refused."""

from typing import Any

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana import frame
from grafana.palette import BAD, CHECKS, GOOD, NEUTRAL, VERDICTS, texts, words
from grafana.panels import CELL, Panel, heat_rows, lines, rows, styled, tile, timeline
from grafana.sources import FEW, Sql, metric, peaks, query
from grafana.tables import COLUMNS, of_rows, volume
from grafana.why import WINDOWS

INCIDENTS = ("Incidents of the model", frame.MODEL_INCIDENTS)
LETTERS = ("Dead letters", f"{frame.SERVICE}/v1/dead-letters?model={frame.OF_MODEL}")
FEATURE = 'feature=~"$feature"'
OF_MODEL = 'job=~"$job",model="$model"'


def document() -> dict[str, Any]:
    """Return the dashboard."""
    missing = metric("feature_missing_ratio")
    return frame.drawn(
        "quality",
        "data quality",
        "Is a model's input healthy: rows, columns, refusals.",
        variables=[
            *frame.sources(postgres=True),
            *frame.one_model(),
            frame.choice(
                "feature", f"label_values({missing}, feature)", label="Feature", many=True
            ),
        ],
        annotations=[frame.alerts('model="$model"'), frame.deployments()],
        grid=[
            (None, _now()),
            (None, _checks()),
            ("Columns", _columns()),
            ("Rows", _rows()),
        ],
        to=[INCIDENTS, WINDOWS],
    )


def _now() -> list[Panel]:
    failing = f"max by (check) ({metric('data_quality_check_failed')}) == 1"
    incidents = metric("incident_since_timestamp_seconds", 'kind="quality"')
    newest = metric("last_prediction_timestamp_seconds")
    failed = tile(
        "Checks that fail",
        "Checks that alert about any column of the newest window.",
        query(failing, "{{check}}", now=True),
        w=7,
        colors=[(1, BAD)],
        show=BigValueTextMode.NAME,
        nothing="None",
        to=[WINDOWS],
    )
    return [
        tile(
            "Quality",
            "Verdict of the newest window, over all columns and rows.",
            query(f"max({metric('verdict', kind='quality')})", now=True),
            w=5,
            mappings=words(VERDICTS),
            nothing="Not judged yet",
            to=[INCIDENTS],
        ),
        failed,
        tile(
            "Broken since",
            "Start of the first window that alerts, of the oldest open incident of quality.",
            query(f"min({incidents}) * 1000", now=True),
            w=4,
            unit="dateTimeFromNow",
            filled=False,
            nothing="No incident",
            to=[INCIDENTS],
        ),
        tile(
            "Rows of the newest window",
            "Rows that the newest judged window has.",
            query(f"max({metric('evaluation_window_rows', kind='data')})", now=True),
            w=4,
            unit="short",
            filled=False,
            nothing="None yet",
        ),
        tile(
            "Last prediction",
            "Time of the newest prediction that is stored.",
            query(f"max({newest}) * 1000", now=True),
            w=4,
            unit="dateTimeFromNow",
            filled=False,
            nothing="None yet",
        ),
    ]


def _checks() -> list[Panel]:
    came = lines(
        "Rows that came",
        "Rows of each window, and what the same hours of earlier weeks had. Under half or over "
        "twice of that alerts.",
        Sql(volume(), series=True),
        w=10,
        h=9,
        zero=True,
    )
    return [
        timeline(
            "Checks of the windows",
            "Each check over all columns: 1 where it alerts about any.",
            query(f"max by (check) ({metric('data_quality_check_failed')})", "{{check}}"),
            w=14,
            h=9,
            meaning=CHECKS,
            to=[WINDOWS],
        ),
        styled(styled(came, "rows", NEUTRAL), "usual", GOOD, dashed=True),
    ]


def _columns() -> list[Panel]:
    missing = metric("feature_missing_ratio", FEATURE)
    outside = metric("feature_out_of_range_ratio", FEATURE)
    unseen = metric("feature_unseen_ratio", FEATURE)
    return [
        rows(
            "Every column now, against the reference",
            "What each check measured in the newest window and in the reference; from the limit "
            "on it alerts, if it is more than chance.",
            Sql(COLUMNS),
            w=14,
            h=11,
            unit="percentunit",
            overrides={
                "Rows": {"unit": "short", "custom.width": 80},
                "p": {"unit": "sci", "decimals": 1, "custom.width": 80},
                "Column": {"unit": "string"},
                "Verdict": {
                    **CELL,
                    "mappings": texts({"alert": ("alert", BAD), "ok": ("ok", GOOD)}),
                    "custom.width": 80,
                },
            },
            to=[WINDOWS],
        ),
        heat_rows(
            "Missing values",
            "Share of rows without the feature.",
            query(f"max by (feature) ({missing})", "{{feature}}"),
            w=10,
            h=11,
            unit="percentunit",
        ),
        lines(
            "Values out of range",
            "Share of values outside of the declared range, else the reference's; the "
            f"{FEW} largest of this time.",
            query(peaks(f"max by (feature) ({outside})", "feature"), "{{feature}}"),
            w=12,
            unit="percentunit",
            zero=True,
            nothing="No column with a range",
        ),
        lines(
            "Values never seen before",
            f"Share of values that the reference does not have; the {FEW} largest of this time.",
            query(peaks(f"max by (feature) ({unseen})", "feature"), "{{feature}}"),
            w=12,
            unit="percentunit",
            zero=True,
            nothing="No column of categories",
        ),
    ]


def _rows() -> list[Panel]:
    sent = metric("ingest_rows_total", of=OF_MODEL)
    letters = metric("ingest_dead_letters_total", of=OF_MODEL)
    waiting = metric("labels_pending", of=OF_MODEL)
    return [
        lines(
            "Rows as they come",
            "Rows a second, by what became of them; all versions of the model.",
            query(
                f"sum by (kind, result) (rate({sent}[$__rate_interval]))", "{{kind}}: {{result}}"
            ),
            w=8,
            unit="rowsps",
            nothing="No row counted in this time",
            stepped=False,
            zero=True,
        ),
        lines(
            "Repeated, contradicting and refused rows",
            "Shares of each window's rows.",
            Sql(of_rows(), series=True),
            w=8,
            unit="percentunit",
            zero=True,
        ),
        lines(
            "Rows set aside",
            "Rows an hour that only the database refused (dead letters), and labels whose "
            "prediction has not come.",
            query(f"sum by (kind) (increase({letters}[1h]))", "dead letters: {{kind}}"),
            query(f"max({waiting})", "labels that wait", ref="B"),
            w=8,
            unit="short",
            zero=True,
            nothing="None in this time",
            to=[LETTERS],
        ),
    ]
