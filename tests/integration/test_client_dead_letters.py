"""Dead letters and full queues, as clients meet them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from producer.client import AsyncClient
from producer.sync_client import Client
from runtime_core.contracts.run import RunRequest, RunState, StopReason
from runtime_core.errors import InvalidInputError, QueueFull, RunConflict, RunNotFound
from tests.integration.dead_letter_by_hand import give_up

PARTITIONS = 4


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(redis_url, partitions=PARTITIONS) as client:
        yield client


def request(run_id: str, session_id: str = "s") -> RunRequest:
    return RunRequest(agent_id="a", session_id=session_id, input_text="hi", run_id=run_id)


async def test_a_dead_letter_is_found_looked_at_and_submitted_again(client: AsyncClient, redis: Redis) -> None:
    await client.submit(request("poison", "session of/the run"))
    deaths = await give_up(redis, "poison", PARTITIONS)

    (entry,) = await client.dead_letters()
    assert (entry.run_id, entry.session_id) == ("poison", "session of/the run")
    letter = await client.dead_letter("poison")
    assert letter.record.status is StopReason.DEAD_LETTER
    assert letter.record.charges == 3
    assert [interruption.attempt for interruption in letter.history] == list(range(1, deaths + 1))

    again = await client.redrive("poison")
    assert again.created
    assert (await again.get()).state is RunState.QUEUED
    assert (await client.dead_letter("poison")).redriven_as == again.run_id
    repeat = await client.redrive("poison")
    assert (repeat.run_id, repeat.created) == (again.run_id, False)


async def test_a_client_sees_the_dead_letters_of_its_tenant_only(redis_url: str, redis: Redis) -> None:
    async with AsyncClient(redis_url, partitions=PARTITIONS, tenant="acme") as acme, AsyncClient(redis_url) as other:
        await acme.submit(request("poison"))
        await give_up(redis, "acme/poison", PARTITIONS)
        assert [entry.run_id for entry in await acme.dead_letters()] == ["poison"]
        assert await other.dead_letters() == []
        with pytest.raises(RunNotFound, match="check the id and the tenant"):
            await other.dead_letter("poison")
        assert (await acme.redrive("poison")).created


async def test_all_that_are_kept_are_listed_on_request(client: AsyncClient, redis: Redis) -> None:
    for number in range(3):
        await client.submit(request(f"r{number}", f"s{number}"))
        await give_up(redis, f"r{number}", PARTITIONS)
    assert [entry.run_id for entry in await client.dead_letters(limit=2)] == ["r2", "r1"]
    assert len(await client.dead_letters(limit=None)) == 3


async def test_what_is_no_dead_letter_is_named(client: AsyncClient) -> None:
    await client.submit(request("alive"))
    for verb in (client.dead_letter, client.redrive):
        with pytest.raises(RunNotFound, match="no run 'nobody'"):
            await verb("nobody")
        with pytest.raises(InvalidInputError, match="no dead letter: it is queued"):
            await verb("alive")


async def test_the_limits_of_a_client_hold_for_its_submits(redis_url: str) -> None:
    async with AsyncClient(redis_url, partitions=1, session_limit=1, partition_limit=2) as client:
        await client.submit(request("r1"))
        with pytest.raises(QueueFull, match="the session has 1") as full:
            await client.submit(request("r2"))
        assert full.value.retry_after_ms is not None
        second, third = await client.submit_many([request("r2", "s2"), request("r3", "s3")])
        assert not isinstance(second, Exception)
        assert isinstance(third, QueueFull)
        assert not (await client.submit(request("r1"))).created, "a repeat is no new run"
        with pytest.raises(RunConflict):
            await client.submit(request("r1", "elsewhere"))
        await client.cancel("r1")
        assert (await client.submit(request("r3", "s3"))).created


async def test_the_same_verbs_without_a_loop(redis_url: str, redis: Redis) -> None:
    def verbs() -> None:
        with Client(redis_url, session_limit=1) as client:
            with pytest.raises(QueueFull, match="the session has 1"):
                client.submit(request("another"))
            asyncio.run_coroutine_threadsafe(give_up(redis, "poison", PARTITIONS), loop).result()
            (entry,) = client.dead_letters()
            assert client.dead_letter(entry.run_id).record.crashes == 5
            again = client.redrive(entry.run_id)
            assert again.get().state is RunState.QUEUED

    loop = asyncio.get_running_loop()
    async with AsyncClient(redis_url, partitions=PARTITIONS) as client:
        await client.submit(request("poison"))
    await asyncio.to_thread(verbs)
