"""What all dashboards have: variables, links to one another, annotations, and a grid of rows."""

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from grafana.palette import BAD, NEUTRAL
from grafana.panels import Panel
from grafana.sources import MODEL, PROMETHEUS, metric

TAG = "modelwatch"
SERVICE = "${service}"
INCIDENTS = f"{SERVICE}/v1/incidents?state=open"
REQUESTS = f"{SERVICE}/v1/retraining-requests"
OF_MODEL = "${model:percentencode}"
OF_VERSION = "${version:percentencode}"
MODEL_WINDOWS = (
    f"{SERVICE}/v1/models/{OF_MODEL}/windows?version={OF_VERSION}"
    "&from=${__from:date:iso}&to=${__to:date:iso}"
)
MODEL_INCIDENTS = f"{INCIDENTS}&model={OF_MODEL}"
MODEL_REQUESTS = f"{REQUESTS}?model={OF_MODEL}"

Variable = Builder[model.VariableModel]


def choice(
    name: str,
    query: str,
    *,
    label: str,
    many: bool = False,
    order: model.VariableSort = model.VariableSort.NATURAL_ASC,
    first: str | None = None,
) -> build.QueryVariable:
    """Return a variable that Prometheus knows the values of."""
    found = (
        build.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(query)
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(order)
        .multi(many)
        .include_all(many)
    )
    if many:
        everything = model.VariableOption(text=["All"], value=["$__all"])
        found.all_value(".+").current(everything)
    elif first is not None:
        found.current(model.VariableOption(text=first, value=first))
    return found


def values_of(name: str, metric_label: str, where: str) -> str:
    """Return the query for the values of a metric label."""
    return f"label_values(modelwatch_{name}{{{where}}}, {metric_label})"


def sources(*, postgres: bool) -> list[Variable]:
    """Return the variables of data sources, and where the service is."""
    found: list[Variable] = [
        build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    ]
    if postgres:
        found.append(
            build.DatasourceVariable("postgres")
            .label("Postgres")
            .type("grafana-postgresql-datasource")
            .regex("/modelwatch/")
        )
    service = build.TextBoxVariable("service").hide(model.VariableHide.HIDE_VARIABLE)
    return [*found, service.default_value("http://localhost:8080")]


def named(pattern: str) -> str:
    """Return the selector of metrics by a pattern of their names, of the chosen version."""
    return f'{{__name__=~"modelwatch_{pattern}",{MODEL}}}'


def job() -> Variable:
    """Return which scrape jobs are meant: that of the processes, that of the results."""
    both = '{__name__=~"modelwatch_(build_info|model_info)"}'
    return choice("job", f"label_values({both}, job)", label="Job", many=True)


def one_model() -> list[Variable]:
    """Return which version of which model is meant: at first the newest that is live."""
    of_model = 'job=~"$job",model="$model"'
    return [
        job(),
        choice("model", values_of("model_info", "model", 'job=~"$job"'), label="Model"),
        choice(
            "version",
            values_of("model_info", "model_version", of_model),
            label="Version",
            order=model.VariableSort.NATURAL_DESC,
        ),
    ]


def _annotation(name: str, color: str, expr: str) -> build.AnnotationQuery:
    found = build.AnnotationQuery().name(name).datasource(PROMETHEUS).enable(True)
    return found.icon_color(color).expr(expr)


def alerts(where: str) -> Builder[model.AnnotationQuery]:
    """Return when alerts fired."""
    expr = f'ALERTS{{alertstate="firing",{where}}}'
    return (
        _annotation("Alerts", BAD, expr)
        .title_format("{{alertname}}")
        .text_format(
            "{{model}} {{model_version}} {{check}} {{feature}}{{subject}}{{slice}} {{action}}"
        )
        .tag_keys("severity")
        .step("60s")
    )


def deployments() -> Builder[model.AnnotationQuery]:
    """Return when the model's versions were registered."""
    expr = metric("model_deployed_timestamp_seconds", of='job=~"$job",model="$model"')
    return (
        _annotation("Deployments", NEUTRAL, f"{expr} * 1000")
        .title_format("{{model}} {{model_version}} deployed")
        .use_value_for_time(True)
        .step("60s")
    )


def drawn(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Variable],
    annotations: Sequence[Builder[model.AnnotationQuery]],
    grid: Sequence[tuple[str | None, Sequence[Panel]]],
    since: str = "now-30d",
    to: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return a dashboard as the document that Grafana reads."""
    found = (
        build.Dashboard(f"modelwatch: {title}")
        .uid(f"modelwatch-{uid}")
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("1m")
        .time(since, "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(list(variables))
        .annotations(list(annotations))
        .links([_dropdown(), *(_out(name, url) for name, url in to)])
    )
    for name, panels in grid:
        if name is not None:
            found.with_row(build.Row(name))
        for panel in panels:
            found.with_panel(panel)
    document = found.build()
    for number, each in enumerate(document.panels or [], start=1):
        each.id_val = number
    return plain(document)


def plain(document: model.Dashboard) -> dict[str, Any]:
    """Return a dashboard as JSON has it.

    The SDK puts every link and annotation into the menu of the newest Grafana's controls, where
    nobody sees them.
    """
    found: dict[str, Any] = json.loads(json.dumps(document, cls=JSONEncoder), object_hook=_seen)
    return found


def _seen(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if (k, v) != ("placement", "inControlsMenu")}


def _dropdown() -> build.DashboardLink:
    return (
        build.DashboardLink("modelwatch")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _out(title: str, url: str) -> build.DashboardLink:
    found = build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url)
    return found.icon("external link").target_blank(True)
