"""One at a time per session, within this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

#: Whether the next session that this task enters is one that its caller is in.
_shared: ContextVar[bool] = ContextVar("runlane_shared_session", default=False)


@contextmanager
def sharing_session() -> Generator[None]:
    """What is called in this context enters the session that its caller is in, and waits for nobody."""
    token = _shared.set(True)
    try:
        yield
    finally:
        _shared.reset(token)


class SessionExclusion:
    """A lock per session that somebody holds or waits for; a session that nobody uses costs nothing.

    Who waits is served in the order of arrival. It is not reentrant, but for ``sharing_session``.
    """

    def __init__(self) -> None:
        #: Session → its lock and how many hold it or wait for it.
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncGenerator[None]:
        if _shared.get():
            token = _shared.set(False)
            try:
                yield
            finally:
                _shared.reset(token)
            return
        lock, users = self._locks.get(session_id) or (asyncio.Lock(), 0)
        self._locks[session_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(session_id)
            if users > 1:
                self._locks[session_id] = (lock, users - 1)
