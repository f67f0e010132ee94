"""A process that delivers until it is killed: ``python -m`` this module, with a database's URL."""

import sys
import threading
from datetime import timedelta

import service.retraining.tables  # noqa: F401  deliveries refer to requests
from service.db.engine import make_engine, make_sessions
from tests.integration.webhooks.receiver import courier

if __name__ == "__main__":
    sessions = make_sessions(make_engine(sys.argv[1]))
    courier(sessions, lease=timedelta(seconds=0.5)).run(threading.Event())
