"""More alerts at once than a process should deal with."""

import pytest

from service.errors import BusyError
from service.retraining.endpoints import ROOM, Room
from tests.clients import TestClient
from tests.integration.retraining.alertmanager import an_alert, notification


def test_a_message_that_finds_no_room_comes_again(client: TestClient) -> None:
    message = notification(*(an_alert(number) for number in range(3)))
    with ROOM.hold(999):
        answer = client.post("/v1/alertmanager", json=message)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert answer.headers["retry-after"] == "1"
    assert client.post("/v1/alertmanager", json=message).status_code == 200


def test_what_comes_alone_has_room_and_gives_it_back_whatever_becomes_of_it() -> None:
    room = Room(10)
    with pytest.raises(ZeroDivisionError), room.hold(20):
        assert 1 / 0
    with room.hold(7), room.hold(3), pytest.raises(BusyError), room.hold(1):
        pass
    with room.hold(20):
        pass
