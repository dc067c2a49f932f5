"""Calls that are made at once, as far as they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(calls: Sequence[tuple[bool, Callable[[], Awaitable[T]]]], *, limit: int) -> list[T]:
    """The outcomes of ``calls``, (may it go beside others, the call), in their order.

    Neighbours that may go side by side do, at most ``limit`` of them at a time. One that may not is made alone, behind
    what comes before it, so that a file is read after it was written if that was the order. The first exception cancels
    what is under way and is raised when that has ended.
    """
    slots = asyncio.Semaphore(limit)
    outcomes: list[T] = []
    for together, group in groupby(calls, key=lambda call: call[0]):
        if together:
            outcomes += await _all_of([call for _, call in group], slots)
        else:
            outcomes += [await call() for _, call in group]
    return outcomes


async def _all_of(calls: Sequence[Callable[[], Awaitable[T]]], slots: asyncio.Semaphore) -> list[T]:
    async def within(call: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await call()

    tasks = [asyncio.create_task(within(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
