"""What is counted and timed of one attempt."""

from __future__ import annotations

from collections.abc import Iterable

from runtime_core.clock import boot_seconds
from runtime_core.contracts.run import StopReason
from runtime_core.store.attempts import Admission
from workers.execution.attempts import Attempt, StopCause
from workers.monitoring.metrics import ATTEMPTS, ATTEMPTS_CUT, FIRST_CHUNK, RUN_DURATION, RUN_WAIT, RUNS, UNKNOWN_AGENT

#: Its result could not be written.
_UNWRITTEN = "unwritten"
for _cause in (StopCause.HANDOVER, StopCause.LEASE_LOST, _UNWRITTEN):
    ATTEMPTS_CUT.labels(_cause)  # exported from the start, so that the first one is a rise


class AttemptMeasures:
    """One for each attempt that starts. ``known_agents`` bounds the labels: anybody can submit for any agent id."""

    def __init__(self, attempt: Attempt, admission: Admission, agent_id: str, known_agents: Iterable[str]) -> None:
        self._agent = agent_id if agent_id in known_agents else UNKNOWN_AGENT
        self._attempt = attempt
        ATTEMPTS.labels(self._agent).inc()
        if admission.attempt == 1:  # what a later one waited for is no queue
            RUN_WAIT.labels(self._agent).observe(admission.waited_ms / 1000)

    def first_chunk(self) -> None:
        FIRST_CHUNK.labels(self._agent).observe(self._elapsed())

    def finished(self, outcome: StopReason) -> None:
        """Its finish was answered."""
        RUNS.labels(self._agent, outcome).inc()
        RUN_DURATION.labels(self._agent).observe(self._elapsed())

    def cut(self) -> None:
        """It ended without finishing its run."""
        cause = self._attempt.cause
        ATTEMPTS_CUT.labels(_UNWRITTEN if cause is None or cause.writes_finish else cause).inc()

    def _elapsed(self) -> float:
        return boot_seconds() - self._attempt.admitted
