import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from service.processes.demo import InOrder
from service.processes.demo_screen import Screen

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 6


def a_window(day: int, **overrides: Any) -> dict[str, Any]:
    verdicts = dict.fromkeys(("quality", "drift", "estimated_performance", "performance"), "ok")
    start = (START + timedelta(days=day)).isoformat().replace("+00:00", "Z")
    return {
        "start": start, "revision": 1, "rows": 1000, "verdicts": verdicts, "action": "none",
        "drifted_features": [], "alerting_metrics": [], **overrides,
    }  # fmt: skip


def printed(window: dict[str, Any]) -> str:
    file = io.StringIO()
    Screen(Console(file=file, highlight=False, soft_wrap=True)).window(window)
    return file.getvalue().rstrip("\n")


@given(st.permutations(range(DAYS)), st.integers(0, DAYS))
def test_windows_are_shown_once_and_in_order_however_they_are_judged(
    judged: list[int], until: int
) -> None:
    order = InOrder(START, DAYS)
    shown = []
    for day in judged[:until]:
        order.add([a_window(day)])
        shown += order.ready()
    shown += order.rest()
    assert [one["start"] for one in shown] == sorted(
        a_window(day)["start"] for day in judged[:until]
    )
    assert order.rest() == order.changed() == []


def test_a_window_is_held_back_until_the_earlier_ones_are_judged() -> None:
    order = InOrder(START, DAYS)
    order.add([a_window(1), a_window(0)])
    assert order.ready() == [a_window(0), a_window(1)]
    order.add([a_window(3)])
    assert order.ready() == []
    order.add([a_window(2)])
    assert order.ready() == [a_window(2), a_window(3)]


def test_only_a_revision_that_judges_otherwise_is_shown_again() -> None:
    order = InOrder(START, DAYS)
    order.add([a_window(0), a_window(1)])
    order.ready()
    order.add([a_window(0, revision=2), a_window(1, revision=2, action="retrain")])
    assert order.ready() == []
    assert order.changed() == [a_window(1, revision=2, action="retrain")]
    assert order.changed() == []


@pytest.mark.parametrize("verdict", ["ok", "alert", "insufficient_data"])
@pytest.mark.parametrize("names", [0, 1, 4, 9])
@pytest.mark.parametrize("action", ["none", "fix_data", "collect_labels"])
def test_a_line_ends_with_the_action_and_fits_120_columns(
    verdict: str, names: int, action: str
) -> None:
    line = printed(
        a_window(
            0,
            verdicts=dict.fromkeys(a_window(0)["verdicts"], verdict),
            drifted_features=[f"a_rather_long_name_{name}" for name in range(names)],
            action=action,
        )
    )
    assert len(line) <= 120
    assert line.endswith(f"  → {action}")


def test_a_line_names_what_moved_as_far_as_there_is_room() -> None:
    names = ["income", "age", "score"]
    assert "  income, age, score  → watch" in printed(
        a_window(0, drifted_features=names, action="watch")
    )
    line = printed(a_window(0, drifted_features=[*names, "a", "b"], alerting_metrics=["accuracy"]))
    assert "  income, age, score, a +2  → none" in line
