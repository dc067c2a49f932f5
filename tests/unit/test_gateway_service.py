"""What all requests of a gateway share: what is known of agents, and how many streams are open."""

from __future__ import annotations

import asyncio

import pytest

from producer.fleet import Fleet
from producer.gateway import service
from producer.gateway.service import AgentDirectory, StreamSlots
from runtime_core.errors import AgentNotFoundError, TooManyStreams


class CountingFleet(Fleet):
    """Counts how often the workers would have been asked."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1")
        self.asked = 0

    async def list_agents(self) -> list[dict[str, str]]:
        self.asked += 1
        await asyncio.sleep(0.01)
        return [{"id": "assistant", "name": "Assistant"}]


async def test_a_storm_of_questions_asks_the_workers_once_and_later_ones_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = CountingFleet()
    agents = AgentDirectory(fleet)
    answers = await asyncio.gather(*(agents.list() for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert fleet.asked == 1
    with pytest.raises(AgentNotFoundError, match="assistent"):
        await agents.get("assistent")
    assert fleet.asked == 1

    monkeypatch.setattr(service, "AGENTS_GOOD_S", 0.0)
    await agents.list()
    assert fleet.asked == 2
    await fleet.aclose()


def test_streams_are_bounded_in_all_and_for_each_tenant() -> None:
    slots = StreamSlots(3, tenant_limit=2)
    for tenant in ("acme", "acme", "other"):
        slots.take(tenant)
    with pytest.raises(TooManyStreams, match="3 streams are open, 0 of them of this tenant"):
        slots.take("third")
    slots.give_back("other")
    with pytest.raises(TooManyStreams, match="2 of them"):
        slots.take("acme")
    slots.take("third")
