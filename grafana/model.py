"""One version of one model: is it healthy, since when not, where, what to do; then why."""

from typing import Any

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana import frame, why
from grafana.palette import (
    ACTIONS,
    GOOD,
    HEALTH,
    RANKS,
    REQUESTS,
    VERDICTS,
    WARN,
    texts,
    words,
)
from grafana.panels import (
    CELL,
    Panel,
    by_meaning,
    properties,
    rows,
    tile,
    timeline,
)
from grafana.sources import health, metric, query, silence, silent_since

NAME = BigValueTextMode.NAME
INCIDENTS = ("Incidents, with their windows", frame.MODEL_INCIDENTS)
REQUESTS_LINK = ("Retraining requests, with their evidence", frame.MODEL_REQUESTS)


def document() -> dict[str, Any]:
    """Return the dashboard."""
    measured = frame.named("(estimated_)?performance_(ratio|error)")
    drifting = metric("feature_drift_score")
    return frame.drawn(
        "model",
        "model",
        "One version of a model: healthy, since when not, where, what to do; then why.",
        variables=[
            *frame.sources(postgres=False),
            *frame.one_model(),
            frame.choice(
                "metric", f"label_values({measured}, metric)", label="Metric", first="roc_auc"
            ),
            frame.choice(
                "feature", f"label_values({drifting}, feature)", label="Feature", many=True
            ),
        ],
        annotations=[frame.alerts('model="$model"'), frame.deployments()],
        grid=[
            (None, _now()),
            (None, _where()),
            ("Why: performance", why.performance()),
            ("Why: drift", why.drift()),
            ("Labels and traffic", why.labels()),
        ],
        to=[INCIDENTS, REQUESTS_LINK, why.WINDOWS],
    )


def _now() -> list[Panel]:
    since = metric("incident_since_timestamp_seconds", 'severity=~"critical|warning"')
    asks = metric("incident_open", 'action!="none"')
    opened = metric("incident_open")
    live = metric("retraining_requests", 'state=~"open|acknowledged|retraining"')
    end = metric("evaluation_window_end_timestamp_seconds", 'kind="data"')
    asked_for = (f"sum by (action) ({each})" for each in (asks, silence()))
    unknown = f'label_replace(sum(({health("model")}) == 1), "action", "wait", "", "")'
    doing = tile(
        "What to do",
        "What the open incidents ask for, and alerts that rows, labels or results do not come. "
        "Data is fixed before anything is retrained; drift that harms nobody asks for no more "
        "than watching. Where nothing could be judged there is nothing to do but wait.",
        query(" or ".join((*asked_for, unknown)), "{{action}}", now=True),
        w=6,
        show=NAME,
        nothing="Nothing",
        to=[INCIDENTS],
    )
    asked = tile(
        "Retraining request",
        "The request that the team has, by its state.",
        query(f"sum by (state) ({live} > 0)", "{{state}}", now=True),
        w=3,
        show=NAME,
        nothing="None",
        to=[REQUESTS_LINK],
    )
    for name, color in REQUESTS.items():
        asked.override_by_name(name, properties({"color": {"mode": "fixed", "fixedColor": color}}))
    return [
        tile(
            "Health",
            "The worst of what is open. An incident opens when k of n windows alert; what the "
            "newest window alone says shows as yellow. No new results: none for three intervals. "
            "That rows or labels do not come is a warning.",
            query(health("model"), now=True),
            w=5,
            mappings=words(HEALTH),
            nothing="Not live",
            to=[INCIDENTS],
        ),
        tile(
            "Unhealthy since",
            "Start of the first window that alerts, of the oldest open incident that is critical "
            "or a warning; or since when rows or labels have not come.",
            query(f"min({since} or {silent_since()}) * 1000", now=True),
            w=4,
            unit="dateTimeFromNow",
            filled=False,
            nothing="No incident",
        ),
        by_meaning(doing, ACTIONS),
        tile(
            "Open incidents",
            "Incidents that are open or acknowledged: one for each cause. That rows, labels or "
            "results do not come is one.",
            query(f"count({opened} or {silence()}) or 0 * max({metric('model_info')})", now=True),
            w=3,
            colors=[(0, GOOD), (1, WARN)],
            filled=False,
            nothing="Not live",
            to=[INCIDENTS],
        ),
        asked,
        tile(
            "Newest result",
            "End of the newest judged window.",
            query(f"max({end}) * 1000", now=True),
            w=3,
            unit="dateTimeFromNow",
            filled=False,
            nothing="None yet",
            to=[why.WINDOWS],
        ),
    ]


BY = "severity, action, kind, check, subject, slice"


def _rank() -> str:
    ranked = (
        f"{rank} * max by ({BY}) ({metric('incident_open', severity=name)})"
        for rank, (name, _) in RANKS.items()
    )
    return " or ".join((*ranked, f"2 * max by ({BY}) ({_told(silence())})"))


def _since() -> str:
    since = metric("incident_since_timestamp_seconds")
    return f"min by ({BY}) ({since} or {_told(silent_since())}) * 1000"


def _told(alerts: str) -> str:
    """Name what an alert is about as an incident does."""
    named = f'label_join({alerts}, "kind", "", "category")'
    return f'label_join({named}, "check", "", "alertname")'


def _where() -> list[Panel]:
    return [
        rows(
            "Open incidents: where, since when, what to do",
            "One row for each open cause, the worst first; that rows, labels or results do not "
            "come is one. Subject is a feature, a class or a protected column; nothing is the "
            "model as a whole.",
            query(_rank(), ref="A", table=True),
            query(_since(), ref="B", table=True),
            w=15,
            h=13,
            names={
                "Value #A": "Severity",
                "action": "Action",
                "kind": "Kind",
                "check": "Check",
                "subject": "Subject",
                "slice": "Slice",
                "Value #B": "Since",
            },
            hidden=["severity"],
            overrides={
                "Severity": {**CELL, "mappings": words(RANKS), "custom.width": 90},
                "Action": {"mappings": texts(ACTIONS), "custom.width": 100},
                "Kind": {"custom.width": 135},
                "Check": {"custom.width": 110},
                "Since": {"unit": "dateTimeFromNow", "custom.width": 110},
            },
            by=[("Severity", True), ("Since", False)],
            nothing="No open incident",
            to=[INCIDENTS],
        ),
        timeline(
            "Verdicts of the windows",
            "What each window said, by kind; not enough data is never ok. Performance follows its "
            "labels.",
            query(f"max by (kind) ({metric('verdict')})", "{{kind}}"),
            w=9,
            h=13,
            meaning=VERDICTS,
            nothing="No judged window in this time",
            to=[why.WINDOWS],
        ),
    ]
