"""What Postgres knows and Prometheus does not: every column, group and slice of each window.

A model and a version arrive as quoted literals (``:sqlstring``), so that no name ends its quotes.
"""

CHOSEN = (
    "JOIN version v ON v.id = w.version_id JOIN model m ON m.id = v.model_id\n"
    "WHERE w.latest AND m.name = ${model:sqlstring} AND v.name = ${version:sqlstring}"
)

NEWEST = (
    "WITH newest AS (\n"
    '  SELECT l.family, w.id FROM latest_window l JOIN "window" w\n'
    '    ON w.version_id = l.version_id AND w.start = l.start AND w."end" = l."end"\n'
    f"  {CHOSEN}\n)\n"
)

GROUPS = (
    NEWEST
    + """SELECT s.slice AS "Group",
  max(s.n) FILTER (WHERE s.metric = 'selection_rate') AS "Rows",
  max(s.value) FILTER (WHERE s.metric = 'selection_rate') AS "Selected",
  max(s.value) FILTER (WHERE s.metric = 'recall') AS "Recall",
  max(s.value) FILTER (WHERE s.metric = 'false_positive_rate') AS "False positives",
  max(s.value) FILTER (WHERE s.metric = 'precision') AS "Precision"
FROM measurement s JOIN newest ON newest.id = s.window_id
  AND newest.family = CASE s.metric WHEN 'selection_rate' THEN 'data' ELSE 'performance' END
WHERE s.slice IS NOT NULL
GROUP BY s.slice HAVING bool_or(s.metric = 'selection_rate')
ORDER BY 3"""
)

FOUND = f"""SELECT w.start AS "Window", s.slice AS "Slice", s.metric AS "Metric",
  s.value AS "Value", s.reference_value AS "Reference", s.n AS "Rows", s.p_value AS "p",
  s.verdict AS "Verdict"
FROM measurement s JOIN "window" w ON w.id = s.window_id {CHOSEN}
  AND s.method = 'discovered' AND s.slice IS NOT NULL AND $__timeFilter(w."end")
ORDER BY w.start DESC, s.position LIMIT 100"""

COLUMNS = (
    NEWEST
    + """SELECT s.subject AS "Column", s.metric AS "Check", s.value AS "Now",
  s.reference_value AS "Reference", s.threshold AS "Limit", s.n AS "Rows", s.p_value AS "p",
  s.verdict AS "Verdict", s.reason AS "Because"
FROM measurement s JOIN newest ON newest.id = s.window_id AND newest.family = 'data'
WHERE s.slice IS NULL AND s.subject IS NOT NULL AND s.engine = 'profile'
  AND s.metric IN ('missing_ratio', 'out_of_range_ratio', 'unseen_ratio', 'type_error_ratio',
    'constant', 'unit_change')
ORDER BY s.verdict = 'alert' DESC, s.value DESC NULLS LAST, 1, 2"""
)


def over_time(series: str, value: str, where: str) -> str:
    """Return a query for lines over time: what each is called, its value, which measurements."""
    return (
        f'SELECT w."end" AS time, {series} AS metric, {value} AS value\n'
        f'FROM measurement s JOIN "window" w ON w.id = s.window_id {CHOSEN}\n'
        f'  AND {where} AND $__timeFilter(w."end") ORDER BY 1'
    )


def impact() -> str:
    """Return the disparate impact of each protected column."""
    return over_time("s.subject", "s.value", "s.metric = 'disparate_impact'")


def disparities() -> str:
    """Return the differences between the groups of each protected column."""
    names = "'demographic_parity_difference', 'equal_opportunity_difference'"
    return over_time(
        "s.subject || ': ' || replace(s.metric, '_difference', '')",
        "s.value",
        f"s.metric IN ({names}, 'equalized_odds_difference')",
    )


def volume() -> str:
    """Return how many rows came, and how many the same hours of earlier weeks had."""
    return (
        'SELECT w."end" AS time, line.metric, line.value\n'
        'FROM measurement s JOIN "window" w ON w.id = s.window_id\n'
        "CROSS JOIN LATERAL (VALUES ('rows', s.value), ('usual', s.reference_value))\n"
        f"  AS line (metric, value) {CHOSEN}\n"
        "  AND s.metric = 'rows' AND s.subject IS NULL AND s.slice IS NULL\n"
        '  AND $__timeFilter(w."end") ORDER BY 1'
    )


def of_rows() -> str:
    """Return the shares of rows that repeat another, contradict it, or were refused."""
    names = "'duplicate_ratio', 'conflicting_label_ratio', 'rejected_ratio'"
    return over_time(
        "replace(s.metric, '_ratio', '')", "s.value", f"s.metric IN ({names}) AND s.subject IS NULL"
    )
