"""Routes on a real database, spoken to over ASGI."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import httpx
import psycopg
from fastapi import FastAPI

A = TypeVar("A")


class Looking:
    """A client, and a look into the database behind what it speaks to."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.client = client
        self.url = url

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])


def spoken_to(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api")


def run_against(
    running: Callable[[], AbstractAsyncContextManager[A]], body: Callable[[A], Awaitable[None]]
) -> None:
    """Run an asynchronous test against what is started for it."""

    async def inside() -> None:
        async with running() as api:
            await body(api)

    asyncio.run(inside())
