"""What a window may be compared with, in words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidDocumentError
from service.registry.documents import read
from service.registry.monitor import MonitorDocument
from service.registry.monitor_reference import LENGTHS, SEASONS, read_season

COMPARISONS: list[Any] = [
    "training",
    "previous_window",
    {"trailing": "30d"},
    {"version": "6"},
    *({"seasonal": words} for words in SEASONS),
]


def a_document(**content: Any) -> MonitorDocument:
    return read(MonitorDocument, {"model": "loans", **content})


@given(st.sampled_from(COMPARISONS))
def test_a_comparison_is_stored_as_it_was_written(reference: Any) -> None:
    document = a_document(reference=reference)
    stored = json.loads(json.dumps(document.model_dump(mode="json")))
    assert stored["reference"] == reference
    assert MonitorDocument.model_validate(stored) == document


def test_a_version_that_yaml_reads_as_a_number_is_its_name() -> None:
    assert a_document(reference={"version": 6}).reference.version == "6"


@pytest.mark.parametrize(
    ("words", "step", "count"),
    [
        ("same hour yesterday", "1d", 1),
        ("same hour of the last 7 days", "1d", 7),
        ("same hour last week", "1w", 1),
        ("same hour of the last 4 weeks", "1w", 4),
        ("same weekday last week", "1w", 1),
        ("same weekday of the last 12 weeks", "1w", 12),
    ],
)
def test_a_season_is_so_many_days_or_weeks(words: str, step: str, count: int) -> None:
    season = read_season(words)
    assert (season.step, season.count) == (step, count)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("previous_windw", "did you mean 'previous_window'?"),
        ({"trailling": "30d"}, "did you mean 'trailing'?"),
        ("trailing", "trailing: 30d"),
        ({"training": "30d"}, "previous_window, or one of"),
        ({"trailing": "30d", "version": "6"}, "previous_window, or one of"),
        ({}, "previous_window, or one of"),
        ([], "previous_window, or one of"),
        (None, "previous_window, or one of"),
        ({1: 2}, "previous_window, or one of"),
        ({"trailing": None}, "previous_window, or one of"),
        ({"trailing": "a month"}, "such as '15m'"),
        ({"trailing": "6h"}, "trailing: 6h is shorter than the window, 1d"),
        ({"trailing": "201d"}, "more than 200 windows"),
        ({"version": "Six!"}, "version is the name"),
        ({"version": True}, "version is the name"),
        ({"seasonal": "same hour last weak"}, "did you mean 'same hour last week'?"),
        ({"seasonal": 7}, "same hour yesterday"),
        ({"seasonal": "same hour of the last 0 weeks"}, "1 to 60"),
        ({"seasonal": "same hour of the last 61 weeks"}, "1 to 60"),
        ({"seasonal": "same weekday yesterday"}, "once a week"),
        ({"seasonal": "same weekday of the last 4 days"}, "once a week"),
    ],
)
def test_what_cannot_be_compared_with_is_refused_with_a_hint(reference: Any, said: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        a_document(reference=reference)
    assert "reference" in caught.value.detail
    assert said in str(caught.value.rejected[0]["detail"])


@pytest.mark.parametrize("window", LENGTHS)
@pytest.mark.parametrize("words", SEASONS)
def test_a_season_that_overlaps_its_window_is_refused(window: str, words: str) -> None:
    season = read_season(words)
    fits = LENGTHS[window] <= LENGTHS[season.step]
    fits &= season.of == "hour" or window in {"1d", "1w"}
    if fits:
        assert a_document(window=window, reference={"seasonal": words}).reference.seasonal == season
        return
    with pytest.raises(InvalidDocumentError, match="reference: "):
        a_document(window=window, reference={"seasonal": words})
