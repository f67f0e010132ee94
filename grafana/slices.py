"""For whom: declared slices, classes, groups of protected columns, slices that were found."""

from typing import Any

from grafana_foundation_sdk.models.common import BigValueTextMode

from grafana import frame
from grafana.palette import BAD, GOOD, VERDICTS, WARN, steps, texts, words
from grafana.panels import CELL, Panel, bars, lines, rows, styled, tile
from grafana.sources import FEW, Sql, few, metric, query
from grafana.tables import FOUND, GROUPS, disparities, impact
from grafana.why import WINDOWS
from service.detection.metrics import HIGHER_IS_WORSE

INCIDENTS = ("Incidents of the model", frame.MODEL_INCIDENTS)
METRIC = 'metric="$metric"'
SLICE = 'slice=~"$slice"'
BOTH = f"{METRIC},{SLICE}"
CLASS = "max by (class)"
NOT_YET = "No slice with labels in this time"
OF_MANY = "Not a model of many classes"


def document() -> dict[str, Any]:
    """Return the dashboard."""
    measured = frame.named("slice_performance_(ratio|error)")
    return frame.drawn(
        "slices",
        "slices & fairness",
        "For whom a model is worse: slices, classes, groups of protected columns.",
        variables=[
            *frame.sources(postgres=True),
            *frame.one_model(),
            frame.choice(
                "metric", f"label_values({measured}, metric)", label="Metric", first="roc_auc"
            ),
            frame.choice(
                "slice", f"label_values({metric('slice_rows')}, slice)", label="Slice", many=True
            ),
        ],
        annotations=[frame.alerts('model="$model"'), frame.deployments()],
        grid=[
            (None, _now()),
            ("Slices", _slices()),
            ("Classes", _classes()),
            ("Fairness", _fairness()),
            ("Slices that nobody declared", _found()),
        ],
        to=[INCIDENTS, WINDOWS],
    )


def either(name: str, where: str = BOTH) -> str:
    """Return a figure of each slice, whether it is a ratio or an error without bounds."""
    found = [metric(f"{name}_{unit}", where) for unit in ("ratio", "error")]
    return " or ".join(f"max by (slice) ({each})" for each in found)


def beyond() -> str:
    """Return how many critical slices are beyond their limit by more than chance."""
    by = "max by (slice, metric)"
    parts = []
    for unit in ("ratio", "error"):
        high = f"{by} ({metric(f'slice_performance_ci_upper_{unit}')})"
        low = f"{by} ({metric(f'slice_performance_ci_lower_{unit}')})"
        parts.append(f"({high} < {by} ({metric(f'slice_floor_{unit}')}))")
        parts.append(f"({low} > {by} ({metric(f'slice_ceiling_{unit}')}))")
    return f"count({' or '.join(parts)}) or 0 * max({metric('model_info')})"


def sides() -> tuple[str, str]:
    """Return $metric of each slice where higher is better, and where lower is."""
    worse_up = "|".join(sorted(HIGHER_IS_WORSE))
    low, high = (either("slice_performance", f'{BOTH},metric{m}"{worse_up}"') for m in ("!~", "=~"))
    return low, high


def worst() -> str:
    """Return the slice whose $metric is worst."""
    low, high = sides()
    return f"bottomk(1, {low}) or topk(1, {high})"


def worse() -> str:
    """Return how much worse each slice is than all rows are."""
    low, high = sides()
    every = f"on () group_left () ({_of_all()})"
    return f"-(({low}) - {every}) or (({high}) - {every})"


def _now() -> list[Panel]:
    of_groups = metric("incident_open", 'kind=~"slice|fairness"')
    return [
        tile(
            "Critical slices beyond their limit",
            "Critical slices whose whole interval is below their floor, or above their ceiling; "
            "they alert whatever the average does.",
            query(beyond(), now=True),
            w=6,
            colors=[(0, GOOD), (1, BAD)],
            nothing="Not live",
            to=[INCIDENTS],
        ),
        tile(
            "Open incidents of slices and groups",
            "Incidents of slices and of protected columns that are open or acknowledged.",
            query(f"count({of_groups}) or 0 * max({metric('model_info')})", now=True),
            w=6,
            colors=[(0, GOOD), (1, WARN)],
            nothing="Not live",
            to=[INCIDENTS],
        ),
        tile(
            "Worst slice by $metric",
            "The slice with the lowest $metric; of an error the highest.",
            query(worst(), "{{slice}}", now=True),
            w=6,
            unit="short",
            filled=False,
            nothing="None with labels",
            show=BigValueTextMode.VALUE_AND_NAME,
        ),
        tile(
            "Fairness",
            "Verdict of the newest window: an alert where a limit is crossed by more than chance.",
            query(f"max({metric('verdict', kind='fairness')})", now=True),
            w=6,
            mappings=words(VERDICTS),
            nothing="No protected column",
        ),
    ]


def _slices() -> list[Panel]:
    over_time = lines(
        f"$metric of the {FEW} worst slices",
        "Measured on labelled rows, where a slice has enough of them; beside them all rows. Of "
        f"more than {FEW} chosen slices those whose last value in this time is the worst.",
        query(_of_slices(), "{{slice}}"),
        query(_of_all(), "all rows", ref="B"),
        w=12,
        h=10,
        nothing=NOT_YET,
        to=[WINDOWS],
    )
    rows_of = metric("slice_rows", SLICE)
    return [
        _now_by_slice(),
        styled(over_time, "all rows", "text"),
        lines(
            "Room of critical slices to their limit",
            "How far a critical slice is from its floor or ceiling; under nothing it is beyond. Of "
            f"more than {FEW} those with the least room.",
            query(few(" or ".join(_room()), "slice", "bottomk"), "{{slice}}: {{metric}}"),
            w=12,
            colors=steps(BAD, (0, "transparent")),
            nothing="No critical slice",
        ),
        lines(
            f"Labelled rows of the {FEW} smallest slices",
            "Under the monitor's min_rows a slice is not judged.",
            query(few(f"max by (slice) ({rows_of})", "slice", "bottomk"), "{{slice}}"),
            w=12,
            zero=True,
            nothing=NOT_YET,
        ),
    ]


def _of_slices() -> str:
    low, high = sides()
    return f"{few(low, 'slice', 'bottomk')} or {few(high, 'slice', 'topk')}"


def _of_all() -> str:
    found = [f"max({metric(f'performance_{unit}', METRIC)})" for unit in ("ratio", "error")]
    return " or ".join(found)


def _room() -> list[str]:
    by = "max by (slice, metric)"
    found = []
    for unit in ("ratio", "error"):
        value = f"{by} ({metric(f'slice_performance_{unit}', SLICE, critical='true')})"
        found.append(f"{value} - {by} ({metric(f'slice_floor_{unit}', SLICE)})")
        found.append(f"{by} ({metric(f'slice_ceiling_{unit}', SLICE)}) - {value}")
    return found


def _now_by_slice() -> Panel:
    limits = [either(f"slice_{side}") for side in ("floor", "ceiling")]
    return rows(
        "Slices now: $metric with its interval",
        "Declared slices in the newest window with labels, the one first that is worse than all "
        "rows by most. The limit is what a critical slice has.",
        query(either("slice_performance"), ref="A", table=True),
        query(either("slice_performance_ci_lower"), ref="B", table=True),
        query(either("slice_performance_ci_upper"), ref="C", table=True),
        query(" or ".join(limits), ref="D", table=True),
        query(f"max by (slice) ({metric('slice_rows', SLICE)})", ref="E", table=True),
        query(worse(), ref="F", table=True),
        w=12,
        h=10,
        unit="short",
        names={
            "slice": "Slice",
            "Value #A": "Value",
            "Value #B": "from",
            "Value #C": "to",
            "Value #D": "Limit",
            "Value #F": "Worse by",
            "Value #E": "Rows",
        },
        overrides={
            "Value": {"decimals": 3, "custom.width": 80},
            "from": {"decimals": 3, "custom.width": 80},
            "to": {"decimals": 3, "custom.width": 80},
            "Limit": {"custom.width": 80, "noValue": "-"},
            "Worse by": {"decimals": 3, "custom.width": 90},
            "Rows": {"decimals": 0, "custom.width": 80},
        },
        by=[("Worse by", True)],
        nothing=NOT_YET,
        to=[WINDOWS],
    )


def _classes() -> list[Panel]:
    recall = metric("class_recall_ratio")
    floor = metric("class_recall_floor_ratio")
    room = f"{CLASS} ({recall}) - {CLASS} ({floor})"
    support = f"{CLASS} ({metric('class_support_rows')})"
    return [
        bars(
            "Recall of classes, now",
            "Of a model of many classes, the lowest first; a rare class must not hide in the "
            "average.",
            query(f"bottomk({2 * FEW}, {CLASS} ({recall}))", "{{class}}", now=True),
            w=8,
            unit="percentunit",
            top=1,
            nothing=OF_MANY,
        ),
        lines(
            "Room of classes to their floor",
            "Recall of a class less what it must not be significantly below; those with the least "
            "room.",
            query(few(room, "class", "bottomk"), "{{class}}"),
            w=8,
            unit="percentunit",
            colors=steps(BAD, (0, "transparent")),
            nothing=OF_MANY,
        ),
        lines(
            "Labelled rows of the rarest classes",
            "Rows that a class's recall is of.",
            query(few(support, "class", "bottomk"), "{{class}}"),
            w=8,
            zero=True,
            nothing=OF_MANY,
        ),
    ]


def _fairness() -> list[Panel]:
    ratio = lines(
        "Disparate impact",
        "The smallest selection rate by the largest, or by the reference group's. Under four "
        "fifths it alerts, if the groups' rates differ by more than chance.",
        Sql(impact(), series=True),
        w=8,
        h=9,
        unit="percentunit",
        colors=steps(BAD, (0.8, "transparent")),
        zero=True,
        nothing="No protected column",
        to=[WINDOWS],
    )
    return [
        rows(
            "Groups now",
            "Rates of the groups of protected columns: who is selected, and how well. Selection "
            "is of the newest window, the others of the newest with labels.",
            Sql(GROUPS),
            w=8,
            h=9,
            unit="percentunit",
            overrides={"Rows": {"unit": "short"}, "Group": {"unit": "string"}},
            nothing="No protected column",
        ),
        ratio,
        lines(
            "Differences between groups",
            "Demographic parity, equal opportunity, equalised odds: the largest difference of two "
            "groups' rates. With few rows some difference is chance.",
            Sql(disparities(), series=True),
            w=8,
            h=9,
            unit="percentunit",
            zero=True,
            nothing="No protected column",
            to=[WINDOWS],
        ),
    ]


def _found() -> list[Panel]:
    return [
        rows(
            "Found slices",
            "Where errors rose against the same slice of the reference and against all other rows; "
            "found on one part of the rows, confirmed on another.",
            Sql(FOUND),
            w=24,
            h=7,
            unit="short",
            overrides={
                "Slice": {"unit": "string", "custom.width": 480},
                "Verdict": {
                    **CELL,
                    "mappings": texts({"alert": ("alert", BAD), "ok": ("ok", GOOD)}),
                },
                "Value": {"decimals": 3},
                "Reference": {"decimals": 3},
                "p": {"unit": "sci", "decimals": 1},
            },
            nothing="None found in this time",
            to=[WINDOWS],
        )
    ]
