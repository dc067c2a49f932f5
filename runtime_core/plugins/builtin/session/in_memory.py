"""Sessions in the memory of this process: gone with it, seen by nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from runtime_core.contracts.session import SessionArtifact, SessionCheckpoint, step_checkpoint_id
from runtime_core.errors import SessionError
from runtime_core.plugins.builtin.session.exclusion import SessionExclusion
from runtime_core.plugins.typed_config import TypedConfig

#: Runs of a session whose durable steps are kept, the newest.
_STEPPED_RUNS = 100


@dataclass
class _Session:
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    artifacts: list[SessionArtifact] = field(default_factory=list[SessionArtifact])
    checkpoints: dict[str, SessionCheckpoint] = field(default_factory=dict[str, SessionCheckpoint])
    #: Run id → its durable steps.
    steps: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])


class InMemorySession(TypedConfig):
    """A SessionManager (see plugins/protocols.py). The mapping that ``session`` yields is the state itself."""

    shared_between_processes = False

    class Config(BaseModel):
        pass

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._sessions: dict[str, _Session] = {}
        self._exclusion = SessionExclusion()

    @asynccontextmanager
    async def session(self, session_id: str) -> AsyncGenerator[dict[str, Any]]:
        async with self._exclusion.hold(session_id):
            yield self._session(session_id).state

    async def get_state(self, session_id: str) -> dict[str, Any]:
        return self._peek(session_id).state

    async def set_state(self, session_id: str, state: dict[str, Any]) -> None:
        self._session(session_id).state = state

    async def append_message(self, session_id: str, message: dict[str, Any]) -> None:
        self._session(session_id).messages.append(dict(message))

    async def load_messages(self, session_id: str) -> list[dict[str, Any]]:
        return [dict(message) for message in self._peek(session_id).messages]

    async def load_newest_messages(self, session_id: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        messages = self._peek(session_id).messages
        return [dict(message) for message in messages[-limit:]], len(messages)

    async def save_artifact(self, session_id: str, artifact: SessionArtifact) -> None:
        self._session(session_id).artifacts.append(artifact)

    async def list_artifacts(self, session_id: str) -> list[SessionArtifact]:
        return list(self._peek(session_id).artifacts)

    async def delete_session(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    async def list_sessions(self) -> list[str]:
        return list(self._sessions)

    async def fork_session(self, source_session_id: str, target_session_id: str) -> None:
        if target_session_id in self._sessions:
            raise SessionError(
                f"the session {target_session_id!r} exists",
                hint="choose an id that is not in use, or delete that session",
            )
        self._sessions[target_session_id] = deepcopy(self._peek(source_session_id))

    async def create_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint:
        session = self._session(session_id)
        checkpoint = SessionCheckpoint(
            checkpoint_id=checkpoint_id,
            state=deepcopy(session.state),
            transcript_length=len(session.messages),
            artifact_count=len(session.artifacts),
        )
        session.checkpoints[checkpoint_id] = checkpoint
        return checkpoint

    async def load_checkpoint(self, session_id: str, checkpoint_id: str) -> SessionCheckpoint | None:
        return self._peek(session_id).checkpoints.get(checkpoint_id)

    async def list_checkpoints(self, session_id: str) -> list[str]:
        session = self._peek(session_id)
        steps = [step_checkpoint_id(run, number) for run, steps in session.steps.items() for number in steps]
        return [*session.checkpoints, *steps]

    async def save_step(self, session_id: str, run_id: str, number: int, delta: str) -> None:
        steps = self._session(session_id).steps
        steps.setdefault(run_id, {}).setdefault(number, delta)
        while len(steps) > _STEPPED_RUNS:
            del steps[next(iter(steps))]

    async def load_steps(self, session_id: str, run_id: str) -> dict[int, str]:
        return dict(self._peek(session_id).steps.get(run_id, {}))

    async def close(self) -> None:
        self._sessions.clear()

    def _session(self, session_id: str) -> _Session:
        return self._sessions.setdefault(session_id, _Session())

    def _peek(self, session_id: str) -> _Session:
        return self._sessions.get(session_id) or _Session()
