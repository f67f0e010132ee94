"""What ``log(durable=True)`` waits for."""

from __future__ import annotations

import threading

from modelwatch.errors import NotStoredError


class Receipt:
    """Whether one record has reached the disk."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._fault = ""

    def confirm(self) -> None:
        """Say that the record is committed."""
        self._settled.set()

    def refuse(self, fault: str) -> None:
        """Say why it will not be."""
        self._fault = fault
        self._settled.set()

    def wait(self, timeout: float) -> None:
        """Return once the record is committed.

        Raises
        ------
        NotStoredError
            If it was not, or not in time; then it may still be.
        """
        if not self._settled.wait(timeout):
            message = f"not stored within {timeout:g} s"
            raise NotStoredError(message)
        if self._fault:
            message = f"not stored: {self._fault}"
            raise NotStoredError(message)
