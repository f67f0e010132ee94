import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from modelwatch import Monitor, correlate, current_prediction_id


def a_monitor(model: str = "loans", version: str = "7") -> Monitor:
    return Monitor(model, version, mode="off")


def test_the_only_prediction_of_a_request_has_its_id() -> None:
    with correlate("order-17") as order:
        assert current_prediction_id() == "order-17"
        assert a_monitor().log({}, 1) == "order-17"
        assert order.prediction_ids == ["order-17"]
    assert current_prediction_id() is None
    assert len(a_monitor().log({}, 1)) == 32


def test_an_id_is_made_where_none_is_given() -> None:
    with correlate() as one, correlate() as other:
        assert len(one.prediction_id) == 32
        assert one.prediction_id != other.prediction_id == current_prediction_id()


def test_further_predictions_of_one_model_are_numbered_and_those_of_others_are_not() -> None:
    with correlate("order-17"):
        monitors = (a_monitor(), a_monitor(), a_monitor(version="8"), a_monitor("fraud"))
        ids = [monitor.log({}, 1) for monitor in monitors]
    assert ids == ["order-17", "order-17~1", "order-17", "order-17"]


def test_an_id_that_is_given_to_log_is_the_one_that_counts() -> None:
    with correlate("order-17"):
        assert a_monitor().log({}, 1, prediction_id="mine") == "mine"
        assert a_monitor().log({}, 1) == "order-17"


def test_requests_that_are_served_at_once_keep_their_ids() -> None:
    monitor = a_monitor()

    async def serve(name: str) -> list[str]:
        with correlate(name):
            first = monitor.log({}, 1)
            await asyncio.sleep(0)
            in_a_thread = await asyncio.to_thread(monitor.log, {}, 1)
            return [first, in_a_thread]

    async def all_of_them() -> list[list[str]]:
        return await asyncio.gather(*(serve(f"r{at}") for at in range(20)))

    assert asyncio.run(all_of_them()) == [[f"r{at}", f"r{at}~1"] for at in range(20)]


def test_threads_of_one_request_never_share_an_id() -> None:
    monitor = a_monitor()
    start = threading.Barrier(4)

    def log_some() -> list[str]:
        start.wait()
        return [monitor.log({}, 1) for _ in range(500)]

    with correlate("r"), ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(copy_context().run, log_some) for _ in range(4)]
        ids = [made for job in jobs for made in job.result()]
    assert len(set(ids)) == 2000
