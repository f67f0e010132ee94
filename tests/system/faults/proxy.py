"""A loopback TCP proxy whose connections can be cut, held up and delayed."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16
# Closing with no time to linger sends a reset, as a firewall that lost its state does.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to a port, or to a Unix socket whose path may change."""

    def __init__(self, target: Callable[[], str | int]) -> None:
        self.port = 0
        self.delay = 0.0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="proxy")
        self._thread.start()
        started.wait()

    def cut(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._cut)

    def hold(self) -> None:
        """Take connections and bytes, and let none of them through."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def release(self) -> None:
        """Let everything through again, what was held up first."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        """End all of it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)

        server = self._loop.run_until_complete(listen())
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(server))
        self._loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        self._cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cut(self) -> None:
        for writer in self._writers:
            wire = writer.get_extra_info("socket")
            if wire.family == socket.AF_INET:
                with suppress(OSError):
                    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._flows.wait()
            there, back = await self._connect()
            self._writers.add(back)
            try:
                pumps = [self._pump(reader, back), self._pump(there, writer)]
                both = [asyncio.create_task(pump) for pump in pumps]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for pump in both:
                    pump.cancel()
                await asyncio.gather(*both, return_exceptions=True)
            finally:
                self._writers.discard(back)
                back.close()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self._target()
        if isinstance(target, int):
            return await asyncio.open_connection("127.0.0.1", target)
        return await asyncio.open_unix_connection(target)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
