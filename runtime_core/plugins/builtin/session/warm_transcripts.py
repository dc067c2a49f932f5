"""Transcripts that this process has read before: a turn late in a conversation reads only what is new.

A process keeps a session as long as it owns its partition, so it is nearly always the one that has read the beginning.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from runtime_core.ids import SessionKey
from runtime_core.store.sessions import SessionStore, parse_messages

#: Messages that a process keeps, of all sessions; some 1 KB each.
_BOUND = 50_000


@dataclass(kw_only=True)
class _Kept:
    born: str
    messages: list[dict[str, Any]]
    #: The newest, as it stands in the store.
    last: str


class WarmTranscripts:
    """What is kept counts only if the store's transcript began at the same moment and still has the newest kept message
    in its place: a session may have been deleted, or the store may have lost what it had acknowledged.
    """

    def __init__(self, bound: int = _BOUND) -> None:
        self._bound = bound
        #: Least recently read first.
        self._kept: OrderedDict[SessionKey, _Kept] = OrderedDict()
        self._count = 0

    async def read(self, store: SessionStore, session: SessionKey) -> list[dict[str, Any]]:
        """The transcript; its messages may be changed by who reads them, what they hold may not."""
        kept = self._forget(session)
        if kept is not None:
            born, texts = await store.transcript_from(session, len(kept.messages) - 1)
            if born == kept.born and texts[:1] == [kept.last]:
                kept.messages += parse_messages(texts[1:])
                kept.last = texts[-1]
                return self._keep(session, kept)
        born, texts = await store.transcript_from(session, 0)
        if not born or not texts:
            return parse_messages(texts)
        return self._keep(session, _Kept(born=born, messages=parse_messages(texts), last=texts[-1]))

    def _forget(self, session: SessionKey) -> _Kept | None:
        kept = self._kept.pop(session, None)
        self._count -= len(kept.messages) if kept else 0
        return kept

    def _keep(self, session: SessionKey, kept: _Kept) -> list[dict[str, Any]]:
        self._forget(session)  # another read of it may have ended meanwhile
        self._kept[session] = kept
        self._count += len(kept.messages)
        while self._count > self._bound:
            self._forget(next(iter(self._kept)))
        return [message.copy() for message in kept.messages]
