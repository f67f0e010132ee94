"""Where figures come from: queries of Prometheus, queries of Postgres, and what they select."""

import re
from typing import Any

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
POSTGRES = DataSourceRef(type_val="grafana-postgresql-datasource", uid="${postgres}")

# A model and a version are one each: an exact matcher takes any name as it is.
MODEL = 'job=~"$job",model="$model",model_version="$version"'
EVERY_MODEL = 'job=~"$job",model=~"$model"'
PROCESS = 'job=~"$job"'

# How many lines people still tell apart.
FEW = 10
SHOWN = "[$__range:$__interval] @ end()"
SELECTED = re.compile(r"\{[^}]*\}(\[[^]]*\])?")

# What no window can say, for there is none: rules of Prometheus that the worker has no incident of.
SILENT = 'alertname=~"ModelNoTraffic|ModelEvaluationStale|ModelLabelDelayHigh"'


def silence(of: str = MODEL) -> str:
    """Return the alerts that say that rows, labels or results do not come."""
    return f'ALERTS{{alertstate="firing",{of},{SILENT}}}'


def silent_since(of: str = MODEL) -> str:
    """Return since when each of these alerts is active."""
    return f"ALERTS_FOR_STATE{{{of},{SILENT}}} and ignoring (alertstate) {silence(of)}"


def metric(name: str, where: str = "", *, of: str = MODEL, **equal: str) -> str:
    """Return the selector of a metric of the service, with more matchers if there are any."""
    matchers = [of, where, *(f'{key}="{value}"' for key, value in equal.items())]
    return f"modelwatch_{name}{{{','.join(filter(None, matchers))}}}"


def health(by: str, of: str = MODEL) -> str:
    """Return the one figure that says how a version is, as ``palette.HEALTH`` reads it.

    The worst comes first: what is before ``or`` wins.  Open incidents count and not verdicts, for
    they have been confirmed by k of n windows; so does what does not come.
    """
    each = f"by ({by})"
    verdict = metric("verdict", of=of)
    end = metric("evaluation_window_end_timestamp_seconds", 'kind="data"', of=of)
    interval = metric("evaluation_interval_seconds", of=of)
    critical = metric("incident_open", 'severity="critical"', of=of)
    warning = metric("incident_open", 'severity="warning"', of=of)
    return (
        f"5 * max {each} ({critical}) or 4 * max {each} ({warning})"
        f" or 3 + 0 * (time() - max {each} ({end}) > 3 * max {each} ({interval}))"
        f" or 4 * max {each} ({silence(of)})"
        f" or 2 * max {each} ({verdict} == 1) or 1 + 0 * (min {each} ({verdict}) == 2)"
        f" or 0 * max {each} ({verdict}) or max {each} ({metric('model_info', of=of)})"
    )


def at_end(expr: str) -> str:
    """Return an expression of the end of the shown time, at whatever moment it is asked."""
    return SELECTED.sub(r"\g<0> @ end()", expr)


def few(expr: str, by: str, rank: str) -> str:
    """Keep few lines, told apart by a label, of a panel that two hundred would fill.

    The rank, ``topk`` or ``bottomk``, is of their last value in the shown time: a limit at each
    moment would draw whatever was among the first at any of them.
    """
    last = f"last_over_time(({expr}){SHOWN})"
    return f"({expr}) and on ({by}) {rank}({FEW}, {at_end(expr)} or {last})"


def peaks(expr: str, by: str) -> str:
    """Keep the few lines that were the highest at any moment of the shown time."""
    highest = f"max_over_time(({expr}){SHOWN})"
    # What is shown has points so far apart that the newest hours may have none.
    newest = f'label_join({at_end(expr)}, "newest", "", "{by}")'
    return f"({expr}) and on ({by}) topk({FEW}, max by ({by}) ({highest} or {newest}))"


def query(
    expr: str, legend: str = "__auto", *, ref: str = "A", now: bool = False, table: bool = False
) -> prometheus.Dataquery:
    """Return a query of Prometheus: over time, of ``now``, or of now as a ``table``."""
    found = (
        prometheus.Dataquery()
        .ref_id(ref)
        .datasource(PROMETHEUS)
        .editor_mode(QueryEditorMode.CODE)
        .expr(expr)
        .legend_format(legend)
    )
    found = found.instant() if now or table else found.range()
    return found.format(PromQueryFormat.TABLE if table else PromQueryFormat.TIME_SERIES)


class Sql(Builder[UnknownDataquery]):
    """A query of Postgres; the SDK has no builder of its own for it."""

    def __init__(self, text: str, *, ref: str = "A", series: bool = False) -> None:
        self._query: dict[str, Any] = {
            "refId": ref,
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "time_series" if series else "table",
            "rawQuery": True,
            "rawSql": text,
        }

    def build(self) -> UnknownDataquery:
        """Return the query."""
        return UnknownDataquery(self._query)
