import pytest

from service.errors import BadRequestError, DatabaseAwayError
from service.ingest.gate import Gate


def test_while_one_tries_a_database_that_is_away_the_others_are_told_at_once() -> None:
    gate = Gate()
    with pytest.raises(DatabaseAwayError), gate.entered():
        raise DatabaseAwayError
    with gate.entered():
        for _ in range(3):
            with pytest.raises(DatabaseAwayError), gate.entered():
                pytest.fail("it would only wait as well")
    with gate.entered(), gate.entered():
        pass


def test_a_try_that_fails_lets_the_next_one_try() -> None:
    gate = Gate()
    for failure in (DatabaseAwayError(), DatabaseAwayError(), BadRequestError("odd")):
        with pytest.raises(type(failure)), gate.entered():
            raise failure
    with gate.entered(), pytest.raises(DatabaseAwayError), gate.entered():
        pytest.fail("a bad request says nothing of the database")


def test_a_try_that_takes_its_time_does_not_keep_everybody_out() -> None:
    now = 0.0
    gate = Gate(lambda: now)
    with pytest.raises(DatabaseAwayError), gate.entered():
        raise DatabaseAwayError
    with gate.entered():
        with pytest.raises(DatabaseAwayError), gate.entered():
            pytest.fail("it would only wait as well")
        now = 10.0
        with gate.entered():
            pass
    with gate.entered(), gate.entered():
        pass
