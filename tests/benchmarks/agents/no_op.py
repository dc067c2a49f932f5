"""A ``runtime`` plugin whose runs do nothing: what is left is the fleet's own work for a run."""

from __future__ import annotations

import asyncio
from typing import Any

from runtime_core.contracts.run import RunRequest, RunResult


class NoOp:
    """Returns at once, or after as many seconds as the input says."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def run(self, *, request: RunRequest, app_config: Any, agents_by_id: Any, agent_plugins: Any) -> RunResult:
        if request.input_text:
            await asyncio.sleep(float(request.input_text))
        return RunResult(run_id=request.run_id, final_output="done")

    async def close(self) -> None: ...
