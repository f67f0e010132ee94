import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from websockets.sync.client import connect

from modelwatch import Monitor, current_prediction_id
from modelwatch.asgi import PredictionIdMiddleware
from tests.contract.conftest import served
from tests.unit.client.recorder import Recorder

HEADER = "X-Prediction-Id"


def an_app(**options: Any) -> FastAPI:
    lives = []

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        lives.append(current_prediction_id())
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(PredictionIdMiddleware, **options)
    monitor = Monitor("loans", "7", mode="off")

    @app.get("/sync")
    def in_a_thread() -> dict[str, Any]:
        return {"id": monitor.log({}, 1), "current": current_prediction_id()}

    @app.get("/async")
    async def in_the_loop() -> dict[str, Any]:
        return {"id": monitor.log({}, 1), "current": current_prediction_id()}

    @app.get("/stream")
    async def streamed() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for part in ("a", "b"):
                await asyncio.sleep(0)
                yield f"{part}:{current_prediction_id()};".encode()

        return StreamingResponse(parts())

    @app.get("/own")
    def with_a_header_of_its_own() -> StreamingResponse:
        return StreamingResponse(iter([b""]), headers={HEADER: "own"})

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json([current_prediction_id(), *lives])
        await socket.close()

    return app


@contextmanager
def a_client(**options: Any) -> Iterator[httpx.Client]:
    with served(an_app(**options)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with a_client() as client:
        yield client


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_a_request_its_prediction_and_its_answer_have_one_id(
    client: httpx.Client, path: str
) -> None:
    answers = [client.get(path) for _ in range(2)]
    for answer in answers:
        made = answer.headers[HEADER]
        assert answer.json() == {"id": made, "current": made}
    assert len({answer.headers[HEADER] for answer in answers}) == 2
    assert client.get("/nowhere").headers[HEADER]


@pytest.mark.parametrize("sent", ["order-17", "0190c7aa", "a" * 100, "urn:x:1.2_3"])
def test_a_well_formed_id_of_the_caller_is_kept(client: httpx.Client, sent: str) -> None:
    answer = client.get("/sync", headers={HEADER: sent})
    assert answer.headers[HEADER] == answer.json()["id"] == sent


@pytest.mark.parametrize(
    "sent", ["", ".a", "a b", "a~1", "a#1", "-a", "a" * 101, "a\tb", "<script>", "a,b", "caf\xe9"]
)
def test_any_other_id_of_the_caller_is_replaced(client: httpx.Client, sent: str) -> None:
    answer = client.get("/sync", headers=[(HEADER.encode(), sent.encode("latin-1"))])
    assert answer.headers[HEADER] == answer.json()["id"] != sent
    assert len(answer.headers[HEADER]) == 32


def test_two_ids_of_one_caller_are_none(client: httpx.Client) -> None:
    answer = client.get("/sync", headers=[(HEADER, "one"), (HEADER, "two")])
    assert len(answer.headers[HEADER]) == 32


def test_a_public_server_may_choose_all_ids_itself() -> None:
    with a_client(accept_incoming=False, header="X-Request-Id") as client:
        answer = client.get("/sync", headers={"X-Request-Id": "order-17"})
    assert len(answer.headers["X-Request-Id"]) == 32


def test_a_stream_arrives_whole_and_in_the_context_of_its_request(client: httpx.Client) -> None:
    answer = client.get("/stream", headers={HEADER: "s"})
    assert (answer.text, answer.headers[HEADER]) == ("a:s;b:s;", "s")


def test_a_header_that_the_application_sets_stays_the_only_one(client: httpx.Client) -> None:
    answer = client.get("/own")
    assert answer.headers.get_list(HEADER) == ["own"]


def test_websockets_and_lifespan_pass_untouched(client: httpx.Client) -> None:
    with connect(f"ws{str(client.base_url).removeprefix('http')}/socket") as socket:
        assert socket.recv() == "[null,null]"


def test_messages_are_passed_on_one_by_one_and_bodies_are_never_held() -> None:
    order: list[str] = []

    async def app(_scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        order.append((await receive())["body"].decode())
        await send({"type": "http.response.start", "status": 200})
        for part in (b"x", b"y"):
            order.append(f"made {part.decode()}")
            await send({"type": "http.response.body", "body": part, "more_body": part == b"x"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"asked", "more_body": True}

    async def send(message: Any) -> None:
        order.append(f"sent {message.get('body', b'head').decode()}")

    scope = {"type": "http", "headers": []}
    asyncio.run(PredictionIdMiddleware(app)(scope, receive, send))
    assert order == ["asked", "sent head", "made x", "sent x", "made y", "sent y"]


def test_the_failure_of_an_application_is_its_own() -> None:
    async def app(*_: Any) -> Any:
        raise LookupError

    async def run() -> None:
        with pytest.raises(LookupError):
            await PredictionIdMiddleware(app)({"type": "http", "headers": []}, app, app)
        assert current_prediction_id() is None

    asyncio.run(run())


class Loan(BaseModel):
    income: float
    region: str


def test_a_route_of_fastapi_can_be_watched() -> None:
    app = FastAPI()
    monitor = Recorder()

    @app.post("/repaid")
    @monitor.watch(features="loan", output=lambda answer: answer["repaid"])
    def repaid(loan: Loan) -> dict[str, int]:
        return {"repaid": int(loan.income > 1)}

    row = {"income": 41_000.0, "region": "north"}
    with served(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert client.post("/repaid", json=row).json() == {"repaid": 1}
        assert client.post("/repaid", json={}).status_code == 422
    assert monitor.features() == [row]
    assert monitor.outcomes() == [{"prediction": 1}]
