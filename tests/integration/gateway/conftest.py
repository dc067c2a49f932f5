"""The gateway as it is used: the command ``runlane gateway`` as a process, on a real Redis, asked over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from producer.client import AsyncClient
from producer.gateway.tokens import Scope, new_token
from runtime_core.contracts.run import RunRequest
from runtime_core.embedded import EmbeddedRedis
from runtime_core.ids import ScopedRunId, scoped_run_id
from runtime_core.store.connection import connect, connect_sync
from runtime_core.store.leases import LeaseStore
from tests.acceptance.command import Command
from tests.integration.attempt_by_hand import AttemptByHand
from tests.integration.fleet.conftest import fleet as fleet

PARTITIONS = 16


class GatewayProcess:
    """One that serves, as its first line of output says."""

    def __init__(self, command: Command, *arguments: str, log: Path) -> None:
        with log.open("wb") as errors:
            self.process = command.start("gateway", *arguments, errors=errors.fileno())
        self.log = log
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), f"it did not start: {self.logged()}"

    def logged(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


class Tokens:
    """A file of tokens, and their secrets."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._entries: dict[str, dict[str, Any]] = {}
        self._secrets: dict[tuple[str, frozenset[Scope]], str] = {}

    def header(self, tenant: str, *scopes: Scope) -> dict[str, str]:
        """What a request of the tenant sends, with these scopes or with all."""
        granted = frozenset(scopes or Scope)
        return {"Authorization": f"Bearer {self._secrets[tenant, granted]}"}

    def add(self, tenant: str, *scopes: Scope) -> Tokens:
        granted = frozenset(scopes or Scope)
        secret, token = new_token(f"{tenant}-{len(self._entries)}", tenant, granted)
        self._secrets[tenant, granted] = secret
        self._entries[secret] = token.model_dump(mode="json")
        return self._write()

    def withdraw(self, tenant: str, *scopes: Scope) -> Tokens:
        """Its header is still given out."""
        del self._entries[self._secrets[tenant, frozenset(scopes or Scope)]]
        return self._write()

    def _write(self) -> Tokens:
        self.file.write_text(json.dumps({"tokens": list(self._entries.values())}))
        return self


class Store:
    """What workers would do, by hand: the gateway cannot tell the difference."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.redis = redis
        self.url = url

    def client(self, tenant: str) -> AsyncClient:
        return AsyncClient(self.url, tenant=tenant, partitions=PARTITIONS)

    async def finished_run(self, tenant: str, request: RunRequest, *, messages: tuple[str, ...] = ()) -> None:
        """A run of three chunks and more: queued, started, what it said, finished."""
        run = scoped_run_id(tenant, request.run_id)
        async with self.client(tenant) as client:
            await client.submit(request)
        attempt = await self.begin(run)
        await attempt.emit("llm.delta", text="hello")
        if messages:
            await attempt.say(*messages)
        await attempt.finish(final_output="done")
        await self.release(attempt)

    async def begin(self, run: ScopedRunId) -> AttemptByHand:
        return await AttemptByHand.begin(self.redis, run, PARTITIONS)

    async def release(self, attempt: AttemptByHand) -> None:
        """The next run may be of the same partition."""
        await LeaseStore(self.redis).release(attempt.admission.lease)


@pytest.fixture(scope="module")
def store_url(redis_server: EmbeddedRedis) -> str:
    """URL of a database that is empty when the module's tests begin."""
    client = connect_sync(redis_server.url)
    client.flushall()
    client.close()
    return redis_server.url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    redis = connect(store_url)
    yield Store(redis, store_url)
    await redis.aclose()


StartGateway = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def start_gateway(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """``start_gateway("--tokens", …, RUNLANE_GATEWAY_…="…")``; all are stopped with the module."""
    with ExitStack() as stack:

        def start(*arguments: str, **environment: str) -> GatewayProcess:
            command = Command(**{"RUNLANE_REDIS_URL": store_url, "RUNLANE_PARTITIONS": str(PARTITIONS)} | environment)
            log = tmp_path_factory.mktemp("gateway") / "log"
            started = GatewayProcess(command, "--port", "0", *arguments, log=log)
            stack.callback(_end, started.process)
            return started

        yield start


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """Tenants acme and other have a token for everything each; acme also one per scope that lacks just that."""
    tokens = Tokens(tmp_path_factory.mktemp("tokens") / "tokens.json").add("acme").add("other")
    for lacking in Scope:
        tokens.add("acme", *(scope for scope in Scope if scope is not lacking))
    return tokens


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, tokens: Tokens) -> GatewayProcess:
    """One that asks for tokens, shared by the module's tests."""
    return start_gateway("--tokens", str(tokens.file))


@pytest.fixture
async def http(gateway: GatewayProcess, tokens: Tokens) -> AsyncIterator[httpx.AsyncClient]:
    """Asks as the tenant acme, who may do everything."""
    async with httpx.AsyncClient(base_url=gateway.url, headers=tokens.header("acme"), timeout=20) as client:
        yield client
