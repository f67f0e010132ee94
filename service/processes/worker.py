"""The worker process: judges due windows and delivers requests until it is told to stop."""

import threading
from collections.abc import Mapping
from typing import Any

from service.processes.database import required_url
from service.processes.stopping import stop_event
from service.runs.worker import Worker
from service.settings import Settings
from service.telemetry import configure_logging


def run_child(message: Mapping[str, Any], stop: threading.Event) -> int:
    """Work as a child of ``up``."""
    settings = Settings.model_validate(message["settings"])
    configure_logging(settings.log_level, style=settings.log_format)
    Worker(settings, keyless=message["keyless"]).run(stop)
    return 0


def run(settings: Settings) -> int:
    """Work as a process of its own."""
    required_url(settings, "worker")
    configure_logging(settings.log_level, style=settings.log_format)
    Worker(settings).run(stop_event())
    return 0
