"""Panels: each kind looks the same wherever it is."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    heatmap,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat

from grafana.palette import NEUTRAL, by_thresholds, fixed, steps, words
from grafana.sources import POSTGRES, PROMETHEUS, Sql

Panel: TypeAlias = Builder[model.Panel]
Queries: TypeAlias = Sequence[Builder[Any]]
Link: TypeAlias = tuple[str, str]
Properties: TypeAlias = Mapping[str, object]
# Points of a line.  A result holds for hours, and what a query costs grows with them.
POINTS = 300
Kind = TypeVar(
    "Kind",
    barchart.Panel,
    bargauge.Panel,
    heatmap.Panel,
    stat.Panel,
    statetimeline.Panel,
    table.Panel,
    timeseries.Panel,
)


def links(*found: Link) -> list[Builder[model.DashboardLink]]:
    """Return links that open beside the dashboard."""
    return [
        build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).target_blank(True)
        for title, url in found
    ]


def field_links(*found: Link) -> model.DynamicConfigValue:
    """Return what makes the cells of a column links."""
    value = [{"title": title, "url": url, "targetBlank": True} for title, url in found]
    return model.DynamicConfigValue(id_val="links", value=value)


def _said(
    panel: Kind,
    title: str,
    description: str,
    queries: Queries,
    w: int,
    h: int,
    unit: str,
    nothing: str = "No data",
) -> Kind:
    """Give a panel what every panel has; ``nothing`` is what it says without any data."""
    of_postgres = isinstance(queries[0], Sql)
    panel.title(title).description(description).span(w).height(h).unit(unit).no_value(nothing)
    return panel.datasource(POSTGRES if of_postgres else PROMETHEUS).targets(list(queries))


def properties(found: Properties) -> list[model.DynamicConfigValue]:
    """Return the properties of an override."""
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in found.items()]


def _legend() -> common.VizLegendOptions:
    found = common.VizLegendOptions().display_mode(c.LegendDisplayMode.LIST)
    return found.placement(c.LegendPlacement.BOTTOM).show_legend(True).calcs([])


def tile(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 4,
    unit: str = "none",
    colors: Sequence[tuple[float, str]] = (),
    mappings: Sequence[model.ValueMapping] = (),
    nothing: str = "No data",
    show: c.BigValueTextMode = c.BigValueTextMode.AUTO,
    filled: bool = True,
    to: Sequence[Link] = (),
) -> stat.Panel:
    """Return one or few figures of now, as large as they fit."""
    mode = c.BigValueColorMode.BACKGROUND_SOLID if filled else c.BigValueColorMode.VALUE
    panel = _said(stat.Panel(), title, description, queries, w, h, unit, nothing)
    # The first colour is that of no value, which is neither good nor bad.
    colored = steps("transparent" if filled else "text", *colors)
    panel.color_scheme(by_thresholds()).thresholds(colored)
    panel.mappings(list(mappings)).links(links(*to))
    panel.color_mode(mode).graph_mode(c.BigValueGraphMode.NONE).text_mode(show)
    panel.justify_mode(c.BigValueJustifyMode.CENTER)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def lines(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 8,
    unit: str = "short",
    colors: build.ThresholdsConfig | None = None,
    stepped: bool = True,
    stacked: bool = False,
    zero: bool = False,
    mappings: Sequence[model.ValueMapping] = (),
    nothing: str = "No data",
    to: Sequence[Link] = (),
) -> timeseries.Panel:
    """Return lines over time; a result holds until the next one, hence the steps."""
    panel = _said(timeseries.Panel(), title, description, queries, w, h, unit, nothing)
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
    panel.line_width(2).fill_opacity(25 if stacked else 0).show_points(c.VisibilityMode.NEVER)
    panel.max_data_points(POINTS)
    panel.line_interpolation(
        c.LineInterpolation.STEP_AFTER if stepped else c.LineInterpolation.LINEAR
    )
    panel.mappings(list(mappings)).links(links(*to))
    if zero:
        panel.min(0)
        if unit == "percentunit":
            # Without it an axis of nothing but zeros reaches to 10,000 %.
            panel.axis_soft_max(0.1)
    if colors is not None:
        panel.thresholds(colors).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        )
    if stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
    panel.tooltip(
        common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
    )
    return panel.legend(_legend())


def band(panel: timeseries.Panel, low: str, high: str, color: str) -> timeseries.Panel:
    """Fill the room between two lines of an interval, which have no line of their own."""
    quiet: dict[str, object] = {
        "custom.lineWidth": 0,
        "color": {"mode": "fixed", "fixedColor": color},
        "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
    }
    panel.override_by_name(low, properties(quiet))
    filled = {**quiet, "custom.fillBelowTo": low, "custom.fillOpacity": 18}
    return panel.override_by_name(high, properties(filled))


def styled(
    panel: timeseries.Panel, name: str, color: str, *, dashed: bool = False
) -> timeseries.Panel:
    """Give a line its colour; a limit is dashed."""
    found: dict[str, object] = {"color": {"mode": "fixed", "fixedColor": color}}
    if dashed:
        found |= {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "custom.lineWidth": 1}
    return panel.override_by_name(name, properties(found))


def timeline(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 8,
    unit: str = "none",
    meaning: Mapping[int, tuple[str, str]] | None = None,
    colors: build.ThresholdsConfig | None = None,
    nothing: str = "No data",
    to: Sequence[Link] = (),
) -> statetimeline.Panel:
    """Return states over time, a row each."""
    panel = _said(statetimeline.Panel(), title, description, queries, w, h, unit, nothing)
    panel.color_scheme(by_thresholds()).thresholds(colors or steps("text"))
    panel.mappings(words(dict(meaning)) if meaning else []).links(links(*to))
    panel.show_value(c.VisibilityMode.AUTO if colors else c.VisibilityMode.NEVER)
    panel.max_data_points(POINTS).merge_values(True).row_height(0.85).line_width(0).fill_opacity(85)
    return panel.legend(_legend().show_legend(meaning is not None))


def heat_rows(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 10,
    unit: str = "short",
    scheme: str = "YlOrRd",
    top: float | None = None,
    buckets: bool = False,
    interval: str = "1h",
    nothing: str = "No data",
    to: Sequence[Link] = (),
) -> heatmap.Panel:
    """Return a row for each series, coloured by its value; or buckets of a histogram."""
    panel = _said(heatmap.Panel(), title, description, queries, w, h, unit, nothing)
    color = (
        heatmap.HeatmapColorOptions()
        .mode(heat.HeatmapColorMode.SCHEME)
        .scheme(scheme)
        .fill("dark-orange")
        .exponent(0.5)
        .steps(64)
        .min(0)
    )
    if top is not None:
        color.max(top)
    axis = heatmap.YAxisConfig().axis_placement(c.AxisPlacement.LEFT)
    panel.calculate(False).color(color).cell_gap(1)
    panel.y_axis(axis.unit("s") if buckets else axis)
    panel.cell_values(heatmap.CellValues().unit(unit)).links(links(*to))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(c.HeatmapCellLayout.AUTO).value("value"))
    panel.tooltip(heatmap.HeatmapTooltip().mode(c.TooltipDisplayMode.SINGLE).show_color_scale(True))
    return panel.interval(interval).max_data_points(POINTS).show_legend()


def bars(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 8,
    unit: str = "short",
    decimals: float | None = None,
    colors: build.ThresholdsConfig | None = None,
    top: float | None = None,
    nothing: str = "No data",
    to: Sequence[Link] = (),
) -> bargauge.Panel:
    """Return figures of now side by side, as bars."""
    panel = _said(bargauge.Panel(), title, description, queries, w, h, unit, nothing)
    panel.color_scheme(by_thresholds() if colors else fixed(NEUTRAL)).min(0)
    panel.thresholds(colors or steps(NEUTRAL)).links(links(*to))
    if top is not None:
        panel.max(top)
    if decimals is not None:
        panel.decimals(decimals)
    panel.display_mode(c.BarGaugeDisplayMode.BASIC).orientation(c.VizOrientation.HORIZONTAL)
    panel.value_mode(c.BarGaugeValueMode.COLOR).name_placement(c.BarGaugeNamePlacement.LEFT)
    panel.show_unfilled(True).sizing(c.BarGaugeSizing.AUTO).min_viz_height(14).min_viz_width(8)
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def pairs(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 8,
    unit: str = "short",
    by: str,
    names: Sequence[tuple[str, str]],
) -> barchart.Panel:
    """Return a group of bars for each value of a label: one for each query, named and coloured."""
    panel = _said(barchart.Panel(), title, description, queries, w, h, unit)
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    values = [f"Value #{chr(ord('A') + place)}" for place in range(len(names))]
    organised = {
        "excludeByName": {"Time": True},
        "indexByName": {name: place for place, name in enumerate([by, *values])},
        "renameByName": {old: new for old, (new, _) in zip(values, names, strict=True)},
    }
    panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=organised))
    for name, color in names:
        panel.override_by_name(name, properties({"color": {"mode": "fixed", "fixedColor": color}}))
    panel.x_field(by).min(0).group_width(0.8).bar_width(0.95).fill_opacity(80)
    return panel.legend(_legend())


def rows(
    title: str,
    description: str,
    *queries: Builder[Any],
    w: int,
    h: int = 8,
    unit: str = "none",
    names: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    overrides: Mapping[str, Properties] | None = None,
    by: Sequence[tuple[str, bool]] = (),
    nothing: str = "No data",
    to: Sequence[Link] = (),
) -> table.Panel:
    """Return a table; ``names`` are its columns in order, under the names that people read.

    It is sorted ``by`` columns, each with whether it descends.
    """
    panel = _said(table.Panel(), title, description, queries, w, h, unit, nothing)
    panel.color_scheme(fixed("text")).links(links(*to))
    panel.override_by_regexp("/.*/", properties({"noValue": "-"}))
    panel.cell_height(c.TableCellHeight.SM).show_header(True)
    if len(queries) > 1:
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    if names is not None:
        order = {name: index for index, name in enumerate(names)}
        organised = {
            "excludeByName": dict.fromkeys(("Time", *hidden), True),
            "indexByName": order,
            "renameByName": {old: new for old, new in names.items() if old != new},
        }
        panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=organised))
    panel.sort_by(
        [common.TableSortByFieldState().display_name(name).desc(down) for name, down in by]
    )
    for name, found in (overrides or {}).items():
        panel.override_by_name(name, properties(found))
    return panel


def by_meaning(panel: Kind, meaning: Mapping[str, tuple[str, str]]) -> Kind:
    """Give each series that has a meaning its words and its colour."""
    for name, (text, color) in meaning.items():
        fixed = {"displayName": text, "color": {"mode": "fixed", "fixedColor": color}}
        panel.override_by_name(name, properties(fixed))
    return panel


CELL: Properties = {
    "custom.cellOptions": {"type": "color-background", "mode": "basic"},
    # A word for a number is read as a word.
    "custom.align": "left",
}
