"""One way of logging, measured in a process of its own; run by ``tests.benchmarks.client``.

Until the way is imported, this imports nothing that it could share.
"""

import atexit
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

FEATURES = 20
BURST = 2_000
WORDS = ("north", "south", "east", "west")

Log = Callable[[dict[str, Any]], object]
Way = tuple[float, Log, Callable[[], object]]


def modelwatch(url: str) -> Way:
    began = time.perf_counter()
    from modelwatch import Monitor

    imported = time.perf_counter() - began
    monitor = Monitor("loans", version="7", url=url)
    return imported, lambda features: monitor.log(features, 1, score=0.83), monitor.flush


def spooled(url: str) -> Way:
    folder = tempfile.mkdtemp()
    # Before the import: what is registered first goes last, and the spool is used at the end.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    began = time.perf_counter()
    from modelwatch import Monitor

    imported = time.perf_counter() - began
    monitor = Monitor("loans", version="7", url=url, spool=f"{folder}/a.spool")

    def flush() -> None:
        monitor.flush(60)

    return imported, lambda features: monitor.log(features, 1, score=0.83), flush


def httpx(url: str) -> Way:
    began = time.perf_counter()
    from httpx import Client

    imported = time.perf_counter() - began
    client = Client(base_url=url, trust_env=False)
    head = {"model": "loans", "version": "7"}

    def log(features: dict[str, Any]) -> None:
        record = {"features": features, "prediction": 1, "score": 0.83}
        client.post("/v1/predictions", json={**head, "records": [record]}).raise_for_status()

    return imported, log, lambda: None


def opentelemetry(url: str) -> Way:
    began = time.perf_counter()
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    imported = time.perf_counter() - began
    provider = LoggerProvider()
    provider.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{url}/v1/logs"))
    )
    logger = provider.get_logger("loans")

    def log(features: dict[str, Any]) -> None:
        logger.emit(body="prediction", attributes={**features, "prediction": 1, "score": 0.83})

    return imported, log, provider.force_flush


def sentry(url: str) -> Way:
    began = time.perf_counter()
    import sentry_sdk
    from sentry_sdk import logger

    imported = time.perf_counter() - began
    sentry_sdk.init(dsn=f"{url.replace('//', '//key@')}/1", enable_logs=True)

    def log(features: dict[str, Any]) -> None:
        logger.info("prediction", attributes={**features, "prediction": 1, "score": 0.83})

    return imported, log, sentry_sdk.flush


WAYS: dict[str, Callable[[str], Way]] = {
    "modelwatch": modelwatch,
    "modelwatch with a spool": spooled,
    "OpenTelemetry logs": opentelemetry,
    "sentry-sdk logs": sentry,
    "synchronous httpx": httpx,
}


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Yield the features of each request as they come: just made, as in a server that parses it."""
    from random import Random

    dice = Random(0)
    names = [f"feature_{at}" for at in range(FEATURES - 4)]
    for _ in range(count):
        texts = {name: dice.choice(WORDS) for name in ("region", "channel", "plan", "device")}
        yield {**{name: dice.random() for name in names}, **texts}


def timed(log: Log, features: dict[str, Any]) -> float:
    began = time.perf_counter()
    log(features)
    return time.perf_counter() - began


def paced(log: Log, per_second: int, seconds: float) -> list[float]:
    """Return what each call took, at so many a second."""
    found = []
    start = time.perf_counter()
    for at, features in enumerate(requests(int(per_second * seconds))):
        found.append(timed(log, features))
        # The next request is made after this, and not before.
        time.sleep(max(0.0, start + (at + 1) / per_second - time.perf_counter()))
    return found


def main(name: str, url: str, seconds: str) -> None:
    began = time.perf_counter()
    imported, log, flush = WAYS[name](url)
    log({"x": 1.0})
    ready = time.perf_counter() - began
    import json

    figures = {"import": imported, "ready": ready}
    if float(seconds):
        few = 200 if name == "synchronous httpx" else BURST
        burst = [timed(log, features) for features in [*requests(few)]]
        flush()
        found = paced(log, 500, float(seconds))
        flush()
        figures |= {
            "burst": quantile(burst, 0.5),
            **{f"p{share}": quantile(found, share / 100) for share in (50, 99)},
            "p99.9": quantile(found, 0.999),
        }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
