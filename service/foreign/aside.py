"""Work that may take long is done aside: the loop has others to serve."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# Of these many bytes decoding takes some milliseconds.
LARGE = 128 << 10

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


async def aside(
    size: int,
    work: Callable[Arguments, Value],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Value:
    """Do work on so many bytes, in a thread if they are many."""
    if size < LARGE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
