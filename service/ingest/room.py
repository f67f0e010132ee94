"""Room for bodies: a client that sends slowly holds memory all the while."""

from types import TracebackType
from typing import Self

from service.errors import BusyError


class Room:
    """Bytes of bodies that a process holds at one time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def share(self) -> "Share":
        """Return the part of one request, which grows as its body comes."""
        return Share(self)

    def take(self, size: int) -> None:
        """Give room, or raise that there is none."""
        if self._held + size > self._limit:
            message = "too many bytes of other requests are held; send it again later"
            raise BusyError(message, limit=self._limit)
        self._held += size

    def give_back(self, size: int) -> None:
        """Have the room again."""
        self._held -= size


class Share:
    """What one request holds until it is answered."""

    __slots__ = ("_room", "_size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0

    def __enter__(self) -> Self:
        """Begin with nothing."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Give everything back."""
        self._room.give_back(self._size)

    def take(self, size: int) -> None:
        """Hold more."""
        self._room.take(size)
        self._size += size
