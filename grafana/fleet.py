"""All models at once: which need somebody, since when, and what for."""

from typing import Any

from grafana_foundation_sdk.builders.stat import Panel as Tile

from grafana import frame
from grafana.palette import (
    ACTIONS,
    BAD,
    GOOD,
    HEALTH,
    NEUTRAL,
    STALE,
    VERDICTS,
    WARN,
    severities,
    steps,
    texts,
    words,
)
from grafana.panels import CELL, Panel, bars, by_meaning, lines, rows, tile, timeline
from grafana.sources import (
    EVERY_MODEL,
    FEW,
    PROCESS,
    at_end,
    few,
    health,
    metric,
    query,
    silence,
    silent_since,
)

BY = "model, model_version"
MODEL_PAGE = (
    "/d/modelwatch-model?var-model=${__data.fields.Model:percentencode}"
    "&var-version=${__data.fields.Version:percentencode}&${__url_time_range}"
)
SERIES_PAGE = (
    "/d/modelwatch-model?var-model=${__field.labels.model:percentencode}"
    "&var-version=${__field.labels.model_version:percentencode}&${__url_time_range}"
)
INCIDENTS = ("Open incidents", frame.INCIDENTS)
REQUESTS = ("Retraining requests", frame.REQUESTS)
FIRING = 'alertstate="firing"'


def document() -> dict[str, Any]:
    """Return the dashboard."""
    return frame.drawn(
        "fleet",
        "fleet",
        "All live models: which need somebody, since when, and what for.",
        variables=[
            *frame.sources(postgres=False),
            frame.job(),
            frame.choice(
                "model",
                frame.values_of("model_info", "model", PROCESS),
                label="Model",
                many=True,
            ),
        ],
        annotations=[frame.alerts('model=~"$model"')],
        grid=[(None, _now()), (None, [_table()]), ("Over time", _over_time())],
        to=[INCIDENTS, REQUESTS],
    )


def of(name: str, where: str = "") -> str:
    """Return the selector of a metric of the chosen models."""
    return metric(name, where, of=EVERY_MODEL)


def _count(
    title: str, description: str, expr: str, color: str, *, w: int = 4, to: tuple[str, str]
) -> Tile:
    return tile(
        title,
        description,
        query(f"({expr}) or 0 * count({of('model_info')})", now=True),
        w=w,
        colors=[(0, GOOD), (1, color)],
        nothing="No model",
        to=[to],
    )


def _now() -> list[Panel]:
    each = health(BY, EVERY_MODEL)
    live = of("retraining_requests", 'state=~"open|acknowledged|retraining"')
    end = of("evaluation_window_end_timestamp_seconds", 'kind="data"')
    return [
        tile(
            "Live versions",
            "Versions of models that are live.",
            query(f"count(max by ({BY}) ({of('model_info')}))", now=True),
            w=4,
            filled=False,
            nothing="None",
        ),
        _count(
            "Critical",
            "Versions with an open critical incident.",
            f"count(({each}) == 5)",
            BAD,
            to=INCIDENTS,
        ),
        _count(
            "Warning",
            "Versions whose worst open incident is a warning, or whose rows or labels do not come.",
            f"count(({each}) == 4)",
            WARN,
            to=INCIDENTS,
        ),
        _count(
            "No new results",
            "Versions without a judged window for three intervals.",
            f"count(({each}) == 3)",
            STALE,
            to=INCIDENTS,
        ),
        _count(
            "Retraining requests",
            "Requests that are open, acknowledged, or being worked on.",
            f"sum({live})",
            NEUTRAL,
            to=REQUESTS,
        ),
        tile(
            "Oldest result",
            "The newest window of the model that has waited longest for one.",
            query(f"min(max by ({BY}) ({end})) * 1000", now=True),
            w=4,
            unit="dateTimeFromNow",
            filled=False,
            nothing="None yet",
        ),
    ]


def _verdict(kind: str) -> str:
    return f"max by ({BY}) ({metric('verdict', of=EVERY_MODEL, kind=kind)})"


def _table() -> Panel:
    since = of("incident_since_timestamp_seconds", 'severity=~"critical|warning"')
    end = of("evaluation_window_end_timestamp_seconds", 'kind="data"')
    silent = silent_since(EVERY_MODEL)
    page = [{"title": "Open the model", "url": MODEL_PAGE}]
    verdict: dict[str, object] = {**CELL, "mappings": words(VERDICTS), "custom.width": 120}
    when: dict[str, object] = {"unit": "dateTimeFromNow", "custom.width": 130}
    return rows(
        "Models",
        "Every live version; its health is the worst of its open incidents. A name leads to the "
        "model's dashboard.",
        query(f"max by ({BY}, task, owner) ({of('model_info')})", ref="A", table=True),
        query(health(BY, EVERY_MODEL), ref="B", table=True),
        query(f"min by ({BY}) ({since} or {silent}) * 1000", ref="C", table=True),
        query(
            f"count by ({BY}) ({of('incident_open')} or {silence(EVERY_MODEL)})",
            ref="D",
            table=True,
        ),
        query(_verdict("quality"), ref="E", table=True),
        query(_verdict("drift"), ref="F", table=True),
        query(_verdict("performance"), ref="G", table=True),
        query(f"max by ({BY}) ({end}) * 1000", ref="H", table=True),
        w=24,
        h=12,
        names={
            "Value #B": "Health",
            "model": "Model",
            "model_version": "Version",
            "Value #C": "Since",
            "Value #D": "Incidents",
            "Value #E": "Quality",
            "Value #F": "Drift",
            "Value #G": "Performance",
            "Value #H": "Newest result",
            "task": "Task",
            "owner": "Owner",
        },
        hidden=["Value #A"],
        overrides={
            "Health": {**CELL, "mappings": words(HEALTH), "custom.width": 150},
            "Model": {"links": page},
            "Version": {"custom.width": 120},
            "Since": {**when, "noValue": "-"},
            "Incidents": {"custom.width": 90},
            "Quality": verdict,
            "Drift": verdict,
            "Performance": verdict,
            "Newest result": when,
            "Task": {"custom.width": 110},
            "Owner": {"custom.width": 130},
        },
        by=[("Health", True)],
        nothing="No live version",
    )


def _over_time() -> list[Panel]:
    sent = metric("ingest_rows_total", 'kind="predictions",result="accepted"', of=EVERY_MODEL)
    drifting = f"max by ({BY}) ({of('features_drifting')})"
    monitored = f"max by ({BY}) ({of('features_monitored')})"
    asks = of("incident_open", 'action!="none"')
    open_model = [("Open the model", SERIES_PAGE)]
    came = f"sum by (model) (rate({sent}[$__rate_interval]))"
    each = health(BY, EVERY_MODEL)
    worst = f"topk({2 * FEW}, {at_end(each)})"
    asked = lines(
        "What open incidents ask for",
        "Open incidents of all models, by what they ask for.",
        query(f"sum by (action) ({asks})", "{{action}}"),
        w=8,
        h=9,
        zero=True,
        nothing="No open incident",
        to=[INCIDENTS],
    )
    return [
        timeline(
            "Health",
            f"The worst of what was open, of the {2 * FEW} versions that are worst at its end.",
            query(f"({each}) and on ({BY}) {worst}", "{{model}} {{model_version}}"),
            w=14,
            h=14,
            nothing="No live version",
            meaning=HEALTH,
        ),
        rows(
            "Alerts that fire",
            "Alerts of Prometheus about models, as Alertmanager got them.",
            query(
                f'max by (alertname, severity, model, action) (ALERTS{{{FIRING},model=~"$model"}})',
                table=True,
            ),
            w=10,
            h=14,
            nothing="No alert fires",
            names={
                "severity": "Severity",
                "alertname": "Alert",
                "model": "Model",
                "action": "Action",
            },
            hidden=["Value"],
            overrides={
                "Severity": {**CELL, "mappings": severities(), "custom.width": 90},
                "Action": {"mappings": texts(ACTIONS), "custom.width": 120},
            },
            by=[("Severity", False), ("Model", False)],
        ),
        bars(
            "Features that drift, now",
            "Share of the monitored features whose drift alerts in the newest window; the "
            f"{FEW} largest.",
            query(
                f"topk({FEW}, {drifting} / {monitored})", "{{model}} {{model_version}}", now=True
            ),
            w=8,
            h=9,
            unit="percentunit",
            colors=steps(GOOD, (0.2, WARN), (0.5, BAD)),
            top=1,
            nothing="No judged window yet",
            to=open_model,
        ),
        by_meaning(asked, ACTIONS),
        lines(
            "Predictions",
            f"Predictions a second that were stored, of the {FEW} models that last had the most.",
            query(few(came, "model", "topk"), "{{model}}"),
            w=8,
            h=9,
            unit="rowsps",
            nothing="No row counted in this time",
            stepped=False,
            zero=True,
        ),
    ]
