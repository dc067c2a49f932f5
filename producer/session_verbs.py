"""What a client may do with sessions: see what they keep, copy it, forget it."""

from __future__ import annotations

from typing import Any

from producer.connection import READ_PATIENCE_S, StoreConnection
from runtime_core.contracts.run_story import SessionList, SessionStory
from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint
from runtime_core.errors import InvalidInputError
from runtime_core.ids import check_name, check_session_id, session_key
from runtime_core.store.sessions import checkpoint_entry


class SessionVerbs:
    """The part of a client that is about sessions. What it shows is what finished runs left; what it changes is refused
    while the session has an unfinished run.
    """

    tenant: str
    _store: StoreConnection

    async def sessions(self, *, limit: int = 50) -> SessionList:
        """The tenant's sessions: those with unfinished runs first, then by their last run, newest first.

        Looks at 100,000 keys of the store at the most; says if there are more.
        """
        lister = await self._store.session_lister()
        return await self._store.call(lambda: lister.list(self.tenant, limit=limit), patience=READ_PATIENCE_S)

    async def session(self, session_id: str) -> SessionStory:
        """One session and what it keeps. Raises SessionNotFound."""
        check_session_id(session_id)
        lister = await self._store.session_lister()
        return await self._store.call(lambda: lister.show(self.tenant, session_id), patience=READ_PATIENCE_S)

    async def messages(self, session_id: str, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """The transcript of a session's finished runs, oldest first: up to ``limit`` messages behind the first
        ``after``. Empty for a session that keeps none.
        """
        if after < 0 or limit < 1:
            raise InvalidInputError(f"after is {after}, limit is {limit}", hint="after is 0 or more, limit 1 or more")
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        return await self._store.call(
            lambda: sessions.messages(session, after=after, limit=limit), patience=READ_PATIENCE_S
        )

    async def artifacts(self, session_id: str) -> list[SessionArtifact]:
        """The artifacts of a session's finished runs, oldest first. Empty for a session that keeps none."""
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        return await self._store.call(lambda: sessions.artifacts(session), patience=READ_PATIENCE_S)

    async def checkpoints(self, session_id: str) -> list[str]:
        """Ids of a session's checkpoints: those created by name, then ``<run id>:step:<number>``, from which a run may
        ``resume_from_checkpoint``.
        """
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        return await self._store.call(lambda: sessions.checkpoint_ids(session), patience=READ_PATIENCE_S)

    async def checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        """A checkpoint that was created by name; None if there is none."""
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        found = await self._store.call(lambda: sessions.checkpoints(session), patience=READ_PATIENCE_S)
        return found.get(checkpoint_id)

    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        """Keep how a session stands now under a name. One of that name is replaced. Raises SessionError."""
        check_name("checkpoint id", checkpoint_id)
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        checkpoint = await self._store.call(
            lambda: sessions.checkpoint(session, checkpoint_id), patience=READ_PATIENCE_S
        )
        await self._store.call(lambda: sessions.edit(session, [checkpoint_entry(checkpoint)]))
        return checkpoint

    async def fork_session(self, session_id: str, target_session_id: str) -> None:
        """Copy what a session keeps into one that keeps nothing yet. Neither sees what is written to the other later.

        Raises SessionNotFound, and SessionError if the target keeps something or has an unfinished run.
        """
        await self.session(session_id)
        source, target = (session_key(self.tenant, check_session_id(one)) for one in (session_id, target_session_id))
        sessions = await self._store.sessions()
        entries = await self._store.call(lambda: sessions.contents(source), patience=READ_PATIENCE_S)
        await self._store.call(lambda: sessions.edit(target, entries, new=True))

    async def delete_session(self, session_id: str) -> None:
        """Forget what the store keeps of a session: state, transcript, artifacts. Its runs' records stay.

        Plugins that a worker holds warm may still remember: ``Fleet.close_session`` drops them. Raises SessionError
        while the session has an unfinished run.
        """
        session, sessions = session_key(self.tenant, check_session_id(session_id)), await self._store.sessions()
        await self._store.call(lambda: sessions.delete(session))
