"""A request's digest: what it covers, and that a release does not change it under runs that are in a store."""

from __future__ import annotations

from typing import Any

import pytest

from runtime_core.contracts.run import RunBudget, RunRequest
from runtime_core.store.digests import request_digest


def digest(**fields: Any) -> str:
    request = RunRequest.model_validate({"agent_id": "a", "session_id": "s", "input_text": "hi"} | fields)
    return request_digest(request.model_dump_json())


def test_digests_are_those_of_earlier_releases() -> None:
    assert digest() == "5d21cab4e778eb45080167ae335fab90"
    everything = {
        "agent_id": "ä",
        "session_id": "日\n",
        "input_text": "\u2028 \x7f \U0001f600",
        "metadata": {"b": 1, "a": [1.5, None, True, {"z": 1, "y": -0.0}]},
        "context_hints": {"__t": "x", "k": {"q": "é"}},
        "budget": RunBudget(max_steps=3),
        "durable": True,
        "queue_deadline_ms": 5,
        "stream": False,
        "parent_run_id": "p",
        "output_type": {"type": "object"},
        "deps": {"factory": "f", "arguments": {"x": 1}},
    }
    assert digest(**everything) == "3941389bcf76068979499a92e89fc76d"


@pytest.mark.parametrize(
    "same", [{"run_id": "other"}, {"metadata": {}}, {"stream": True}, {"context_hints": {"__x": 1}}]
)
def test_a_default_written_out_the_run_id_and_private_hints_change_nothing(same: dict[str, Any]) -> None:
    assert digest(**same) == digest()


@pytest.mark.parametrize(
    "other", [{"input_text": ""}, {"metadata": {"a": 1}}, {"stream": False}, {"context_hints": {"x": 1}}]
)
def test_everything_else_makes_another_request(other: dict[str, Any]) -> None:
    assert digest(**other) != digest()
