"""From frames to chunks, as objects and as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, RunIds, decode_frame, encode_frame
from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.events.projection import CHUNK_KIND_BY_EVENT, chunk_from_frame, chunk_json

RESULT = RunResult(run_id="r", final_output={"a": 0.1, "b": "é"}, stop_reason=StopReason.COMPLETED)
PAYLOADS: dict[str, dict[str, Any]] = {
    "tool.succeeded": {"result": [1, 2.5, 1e300, -0.0, None, True, {"日": '\u2028 \\ " \x7f'}]},
    TERMINAL_EVENT: {"stop_reason": "completed", "result": RESULT.model_dump(mode="json")},
}


@pytest.mark.parametrize("event", CHUNK_KIND_BY_EVENT)
def test_a_chunks_json_is_that_of_its_model(event: str) -> None:
    frame = Frame(
        logged=True,
        sequence=7,
        attempt=2,
        event=event,
        timestamp_ms=1_700_000_000_000,
        ids=RunIds(run_id="r", session_id='s"é', agent_id="a", parent_run_id="p"),
        payload=PAYLOADS.get(event, {"text": "hi"}),
    )
    for one in (frame, decode_frame(encode_frame(frame))):
        assert chunk_json(one) == chunk_from_frame(one, cursor="7").model_dump_json(exclude={"cursor"}).encode()
