import asyncio
import inspect
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from modelwatch import correlate
from tests.unit.client.recorder import Recorder

ROW = {"income": 41_000.0, "region": "north"}


@pytest.fixture
def monitor() -> Recorder:
    return Recorder()


def test_the_arguments_are_the_features_and_the_result_the_prediction(monitor: Recorder) -> None:
    @monitor.watch
    def repaid(income: float, region: str = "north") -> int:
        return int(income > 1 and region == "north")

    assert repaid(41_000.0) == 1
    assert monitor.features() == [ROW]
    assert monitor.outcomes() == [{"prediction": 1}]


class Named(NamedTuple):
    income: float
    region: str


@dataclass
class Data:
    income: float
    region: str


class Document(BaseModel):
    income: float
    region: str


@pytest.mark.parametrize("row", [ROW, Named(**ROW), Data(**ROW), Document(**ROW)])  # type: ignore[arg-type]  # the fields' types differ
def test_one_argument_can_hold_the_features(monitor: Recorder, row: Any) -> None:
    @monitor.watch(features="loan")
    def repaid(_model: str, loan: Any) -> int:
        return int(loan is row)

    assert repaid("m", loan=row) == 1
    assert repaid("m", row) == 1
    assert monitor.features() == [ROW, ROW]


def test_the_argument_with_the_features_may_have_a_default_or_a_name_only(
    monitor: Recorder,
) -> None:
    @monitor.watch(features="row")
    def defaulted(_other: int = 0, row: Any = ROW) -> int:
        return 1

    @monitor.watch(features="row")
    def named(*_others: int, row: Any) -> int:
        return 2

    defaulted()
    defaulted(5)
    named(1, 2, row=ROW)
    assert monitor.features() == [ROW, ROW, ROW]
    with pytest.raises(TypeError, match="row"):
        named(1, 2)  # type: ignore[call-arg]  # on purpose
    assert len(monitor.logged) == 3


def test_callables_find_the_features_and_split_the_result(monitor: Recorder) -> None:
    @monitor.watch(features=lambda body: body["row"], output=lambda out: (out["y"], out["p"]))
    def serve(body: dict[str, Any]) -> dict[str, Any]:
        return {"y": len(body), "p": 0.83}

    assert serve({"row": ROW}) == {"y": 1, "p": 0.83}
    assert monitor.features() == [ROW]
    assert monitor.outcomes() == [{"prediction": 1, "score": 0.83}]


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ((1, 0.5), {"prediction": 1, "score": 0.5}),
        ({"prediction": 1, "tags": {"a": "b"}}, {"prediction": 1, "tags": {"a": "b"}}),
        ("stay", {"prediction": "stay"}),
    ],
)
def test_a_result_that_says_what_is_what_needs_no_splitting(
    monitor: Recorder, result: Any, outcome: dict[str, Any]
) -> None:
    assert monitor.watch(lambda: result)() == result
    assert monitor.outcomes() == [outcome]


def test_a_coroutine_is_logged_when_it_is_done(monitor: Recorder) -> None:
    @monitor.watch
    async def repaid(income: float) -> int:
        await asyncio.sleep(0)
        assert not monitor.logged
        return 1

    assert inspect.iscoroutinefunction(repaid)
    assert asyncio.run(repaid(1.0)) == 1
    assert monitor.features() == [{"income": 1.0}]


def test_methods_are_watched_without_their_object(monitor: Recorder) -> None:
    class Service:
        @monitor.watch
        def repaid(self, income: float) -> int:
            return int(income > 1)

    assert Service().repaid(3.0) == 1
    assert monitor.features() == [{"income": 3.0}]


def test_what_a_function_raises_is_its_own_and_nothing_is_logged(monitor: Recorder) -> None:
    class Stop(BaseException):
        pass

    @monitor.watch
    def fails(fault: BaseException) -> int:
        raise fault

    @monitor.watch
    async def fails_later(fault: BaseException) -> int:
        raise fault

    for fault in (ValueError("v"), Stop()):
        with pytest.raises(type(fault)) as raised:
            fails(fault)
        assert raised.value is fault
        with pytest.raises(type(fault)):
            asyncio.run(fails_later(fault))
    assert not monitor.logged
    assert not monitor.faults


def test_the_features_are_those_that_came_in(monitor: Recorder) -> None:
    @monitor.watch(features="row")
    def spoil(row: dict[str, Any]) -> int:
        row.clear()
        return 1

    spoil(dict(ROW))
    assert monitor.features() == [ROW]


@pytest.mark.parametrize(
    "options",
    [
        {"features": lambda _row: 1 / 0},
        {"features": lambda row: row},
        {"output": lambda _result: 1 / 0},
        {"output": lambda _result: (1, 2, 3)},
        {"output": lambda _result: {"no_such_field": 1}},
        {"output": lambda _result: {}},
    ],
)
def test_a_failure_to_log_is_counted_and_breaks_nothing(
    monitor: Recorder, options: dict[str, Any]
) -> None:
    @monitor.watch(features=options.get("features"), output=options.get("output"))
    def repaid(_row: int) -> str:
        return "fine"

    assert repaid(5) == "fine"
    assert len(monitor.faults) == 1
    assert not monitor.logged


def test_a_watched_function_in_a_watched_function_is_logged_once(monitor: Recorder) -> None:
    other = Recorder("fraud")

    @monitor.watch
    def inner(x: int) -> int:
        return x

    @other.watch
    def another(x: int) -> int:
        return inner(x)

    @monitor.watch
    def outer(x: int) -> int:
        return another(x) + inner(x)

    assert outer(1) == 2
    assert monitor.outcomes() == [{"prediction": 2}]
    assert other.outcomes() == [{"prediction": 1}]
    assert inner(4) == 4
    assert len(monitor.logged) == 2


def test_the_caller_has_the_id_of_what_was_logged(monitor: Recorder) -> None:
    @monitor.watch
    def same(x: int) -> int:
        return x

    with correlate() as request:
        same(1)
    assert monitor.logged[0]["id"] == request.prediction_id == request.prediction_ids[0]


def test_what_cannot_be_watched_is_told_at_once(monitor: Recorder) -> None:
    def parts(x: int) -> Any:
        yield x

    with pytest.raises(TypeError, match="generator"):
        monitor.watch(parts)
    with pytest.raises(ValueError, match="no argument 'row'"):
        monitor.watch(features="row")(lambda x: x)
