"""The runs that stand for the peers' jobs."""

from __future__ import annotations

from itertools import count as counting

from runtime_core.contracts.run import RunRequest, RunResult, StopReason

#: Sessions take turns: a run of a session waits for the one before it.
SESSIONS = 100
#: Seconds that a result may take.
TIMEOUT_S = 80
#: job → the input of a run that does it.
_INPUTS = {"noop": "", "sleep": "1", "echo": "hello"}


class Requests:
    def __init__(self) -> None:
        self._numbers = counting()

    def make(self, job: str, count: int, sessions: int = SESSIONS, prefix: str = "s") -> list[RunRequest]:
        """``job`` is a name or an input."""
        text = _INPUTS.get(job, job)
        return [
            RunRequest(agent_id="agent", session_id=f"{prefix}{next(self._numbers) % sessions}", input_text=text)
            for _ in range(count)
        ]


def completed(result: RunResult) -> RunResult:
    """Raises RuntimeError if the run ended otherwise: a benchmark of failures would be a fast one."""
    if result.stop_reason is not StopReason.COMPLETED:
        raise RuntimeError(f"run {result.run_id} ended as {result.stop_reason}: {result.error_details}")
    return result
