"""Requests to a modelwatch API that outlast a restart of it."""

import random
import time
from typing import Any, Self

import httpx
import orjson

from service.errors import ModelwatchSetupError

RETRIED = frozenset({408, 429, 502, 503, 504})
_OF_KEYS = frozenset({401, 403})
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0


class UnreachableError(ModelwatchSetupError):
    """The API does not answer."""

    exit_code = 4


class RefusedError(ModelwatchSetupError):
    """The API answers that the request is wrong."""


class ForbiddenError(RefusedError):
    """The key is not for what was asked."""


class TooLargeError(RefusedError):
    """The request is over a limit of sizes; less of it may be sent."""


class AllRejectedError(RefusedError):
    """None of a request's records was stored; ``rejected`` has the first of them."""

    def __init__(self, message: str, rejected: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.rejected = rejected


class Sender:
    """A keep-alive connection; a request is retried for ``patience`` seconds."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        patience: float = 30.0,
        trust_env: bool = True,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(60.0, connect=3.0),
            trust_env=trust_env,
        )

    def __enter__(self) -> Self:
        """Return the sender itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str, **params: str) -> Any:
        """Return the document at ``path``, or None where there is none."""
        answer = self._request("GET", path, params=params)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _document(answer)

    def send(self, method: str, path: str, document: Any) -> Any:
        """Send a JSON document, and return the answer to it."""
        body = orjson.dumps(document)
        return self.send_bytes(method, path, body, "application/json")

    def send_bytes(
        self, method: str, path: str, body: bytes, kind: str, params: dict[str, str] | None = None
    ) -> Any:
        """Send bytes of a content type, and return the answer to them."""
        headers = {"Content-Type": kind}
        return _document(
            self._request(method, path, content=body, headers=headers, params=params or {})
        )

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        delay = FIRST_DELAY
        while True:
            wait = random.uniform(delay / 2, delay)  # noqa: S311 - spreads clients, no secret
            try:
                answer = self._client.request(method, path, **arguments)
                if answer.status_code not in RETRIED:
                    return answer
                cause = f"it answers {_problem(answer)}"
                wait = max(wait, _retry_after(answer))
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as fault:
                message = f"{self.url} is not an address like http://127.0.0.1:8080: {fault}"
                raise RefusedError(message) from fault
            except httpx.TransportError as fault:
                cause = str(fault) or type(fault).__name__
            if time.monotonic() + wait > deadline:
                message = (
                    f"the API at {self.url} cannot be reached: {cause}; `modelwatch up` starts"
                    " one, --url or MODELWATCH_URL names another"
                )
                raise UnreachableError(message)
            time.sleep(wait)
            delay = min(2 * delay, LONGEST_DELAY)


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(float(answer.headers.get("Retry-After", "0")), LONGEST_DELAY)
    except ValueError:
        return 0.0


def _document(answer: httpx.Response) -> Any:
    if answer.is_success:
        return orjson.loads(answer.content)
    message = f"{answer.request.method} {answer.request.url.path}: {_problem(answer)}"
    if answer.status_code in _OF_KEYS:
        message = f"{message} (the key is taken from MODELWATCH_API_KEY)"
        forbidden = answer.status_code == httpx.codes.FORBIDDEN
        raise ForbiddenError(message) if forbidden else RefusedError(message)
    problem = _parsed(answer)
    if str(problem.get("type", "")).endswith("/all-rejected"):
        raise AllRejectedError(message, list(problem.get("rejected") or ()))
    if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        raise TooLargeError(message)
    raise RefusedError(message)


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _problem(answer: httpx.Response) -> str:
    problem = _parsed(answer)
    if not {"title", "detail"} <= problem.keys():
        return f"{answer.status_code} {answer.reason_phrase}"
    text = f"{answer.status_code} {problem['title']}: {problem['detail']}"
    first = next(iter(problem.get("rejected") or ()), None)
    if first is None or str(first.get("detail")) in text:
        return text
    field = f"{first['field']}: " if first.get("field") else ""
    return f"{text}; first: {field}{first.get('detail')} ({first.get('code')})"
