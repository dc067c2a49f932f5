"""A gateway before a fleet that works: runs end, agents are known, and workers forget what is to be forgotten."""

from __future__ import annotations

import asyncio

import httpx

from tests.integration.fleet.conftest import PARTITIONS, Fleet, fleet
from tests.integration.gateway.conftest import StartGateway

__all__ = ["fleet"]


async def test_runs_agents_and_sessions_of_a_real_fleet(fleet: Fleet, start_gateway: StartGateway) -> None:
    await fleet.start(1)
    await fleet.ready()
    gateway = start_gateway(
        RUNLANE_REDIS_URL=fleet.redis_url, RUNLANE_PARTITIONS=str(PARTITIONS), RUNLANE_TENANT="acme"
    )
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        run = {"agent_id": "journal", "session_id": "s", "input_text": "served_here"}

        # Who waits has the result, and the session's plugins stay warm from run to run
        answers = [(await http.post("/runs?wait=20", json=run)).json() for _ in range(2)]
        assert [answer["result"]["final_output"] for answer in answers] == [1, 2]

        # Agents are what the workers say, asked once for a storm of requests
        storm = await asyncio.gather(*(http.get("/agents") for _ in range(20)))
        assert {response.status_code for response in storm} == {200}
        assert [agent["id"] for agent in storm[0].json()["agents"]] == ["journal", "assistant", "broken"]
        assistant = (await http.get("/agents/assistant")).json()
        assert assistant["tools"] == ["calc", "slow"]
        unknown = await http.get("/agents/assistent")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "user.agent_not_found")
        assert "assistant" in unknown.json()["hint"]

        # A session that is forgotten has no warm plugins either
        assert (await http.delete("/sessions/s")).status_code == 204
        assert (await http.post("/runs?wait=20", json=run)).json()["result"]["final_output"] == 1

        # A run that executes is stopped wherever it is
        long = {"agent_id": "journal", "session_id": "long", "input_text": "wait 60", "run_id": "long"}
        await http.post("/runs", json=long)
        async with http.stream("GET", "/runs/long/stream") as stream:
            text = ""
            async for part in stream.aiter_text():
                text += part
                if "event: run.started" in part:
                    assert (await http.post("/runs/long/cancel")).json()["outcome"] == "cancelling"
        assert '"stop_reason":"cancelled"' in text
