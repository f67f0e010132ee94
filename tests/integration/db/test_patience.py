"""What is silent for too long is given up, though its connection is in order."""

import os
import signal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.db.engine import make_engine
from service.db.trouble import is_passing


@pytest.mark.usefixtures("production_limits")
def test_a_frozen_server_process_is_given_up_and_replaced(database_url: str) -> None:
    engine = make_engine(database_url, pool=1, patience=1)
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    os.kill(pid, signal.SIGSTOP)
    try:
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT pg_backend_pid()")) != pid
    finally:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(OperationalError) as failure, engine.connect() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    assert is_passing(failure.value)
    engine.dispose()


def test_a_statement_that_takes_too_long_is_no_passing_failure(database_url: str) -> None:
    engine = make_engine(database_url, pool=1)
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = '10ms'"))
        with pytest.raises(OperationalError) as failure:
            connection.execute(text("SELECT pg_sleep(60)"))
    assert not is_passing(failure.value)
    engine.dispose()
