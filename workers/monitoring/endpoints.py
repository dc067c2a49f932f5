"""What a worker serves over HTTP: ``/metrics`` on one port, ``/live`` and ``/ready`` on another, or all on one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from runtime_core.clock import boot_seconds
from runtime_core.config.settings import Settings
from runtime_core.session_cache import CacheCounters
from runtime_core.store.connection import connect_sync
from workers.execution.attempts import AttemptTable
from workers.liveness import Liveness
from workers.monitoring import metrics
from workers.monitoring.collector import Reading, WorkerCollector
from workers.monitoring.health import Health, Vitals, alive, ready
from workers.monitoring.queues import QUEUES_TIMEOUT
from workers.monitoring.server import Answer, HttpServer, Route
from workers.partitions.keeper import PartitionKeeper

logger = logging.getLogger(__name__)


class _Cache(Protocol):
    counters: CacheCounters

    def __len__(self) -> int: ...


class Monitored:
    """The parts of an opened worker that monitoring looks at, from threads of its own; it changes none of them."""

    def __init__(
        self,
        *,
        partitions: int,
        slots: Callable[[], int],
        keeper: PartitionKeeper,
        liveness: Liveness,
        table: AttemptTable,
        cache: _Cache,
        config_version: Callable[[], int],
    ) -> None:
        self._partitions = partitions
        self._slots = slots
        self._keeper = keeper
        self._liveness = liveness
        self._table = table
        self._cache = cache
        self._config_version = config_version

    def reading(self) -> Reading:
        held = list(self._keeper.held.values())
        counters = self._cache.counters
        return Reading(
            held=tuple(sorted(ownership.lease.partition for ownership in held)),
            values={
                metrics.PROBLEM: not self._liveness.works(),
                metrics.DRAINING: self._keeper.draining,
                metrics.CONFIG_VERSION: self._config_version(),
                metrics.SLOTS: self._slots(),
                metrics.EXECUTING: len(self._table),
                metrics.LEASES_HELD: len(held),
                metrics.LEASES_LAPSED: sum(not ownership.valid for ownership in held),
                metrics.PARTITIONS: self._partitions,
                metrics.CACHE_ENTRIES: len(self._cache),
                metrics.CACHE_HITS: counters.hits,
                metrics.CACHE_MISSES: counters.misses,
                metrics.CACHE_EVICTIONS: counters.evictions,
            },
        )

    def vitals(self) -> Vitals:
        keeper, liveness, now = self._keeper, self._liveness, boot_seconds()
        held = list(keeper.held.values())
        fleet = keeper.fleet
        return Vitals(
            opened=True,
            draining=liveness.draining or keeper.draining,
            loop_hangs=liveness.loop_hangs,
            problem=liveness.problem(),
            problem_lasts=liveness.problem_lasts(),
            redis_silent=now - keeper.contact.last,
            redis_answers=keeper.contact.last - keeper.contact.since,
            held=len(held),
            lapsed=sum(not ownership.valid for ownership in held),
            unowned=self._partitions if fleet is None else sum(not lease.owner for lease in fleet.leases),
        )


class Monitoring:
    """Serves what the settings ask for, from ``start`` to ``stop``; before ``watch`` the worker is starting."""

    def __init__(self, settings: Settings, *, worker: str, release: str) -> None:
        self._settings = settings
        self._worker = worker
        self._release = release
        self._monitored: Monitored | None = None
        self._servers: dict[int, HttpServer] = {}
        self._collector: WorkerCollector | None = None

    def start(self) -> None:
        """Raises ConfigError if a port cannot be had."""
        settings = self._settings
        wanted: dict[int, tuple[str, dict[str, Route]]] = {}
        if settings.metrics_port is not None:
            client = connect_sync(settings.redis_url, timeout=QUEUES_TIMEOUT)
            self._collector = WorkerCollector(self._worker, self._release, client, self._reading)
            REGISTRY.register(self._collector)
            wanted[settings.metrics_port] = ("--metrics-port", {"/metrics": _metrics})
        if settings.health_port is not None:
            _, routes = wanted.setdefault(settings.health_port, ("--health-port", {}))
            routes |= {"/live": lambda _: self._probe(alive), "/ready": lambda _: self._probe(ready)}
        for port, (option, routes) in wanted.items():
            self._servers[port] = server = HttpServer(settings.http_host, port, routes, option=option)
            logger.info("http://%s:%d serves %s", settings.http_host, server.port, ", ".join(routes))

    def watch(self, monitored: Monitored) -> None:
        """The worker has opened."""
        self._monitored = monitored

    def stop(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        if self._collector is not None:
            REGISTRY.unregister(self._collector)
            self._collector.close()
            self._collector = None

    def ports(self) -> Mapping[str, int | str]:
        """The ports in use, for the heartbeat; empty text for none."""
        wanted = {"metrics_port": self._settings.metrics_port, "health_port": self._settings.health_port}
        serving = {name: None if port is None else self._servers.get(port) for name, port in wanted.items()}
        return {name: "" if server is None else server.port for name, server in serving.items()}

    def _reading(self) -> Reading:
        return Reading(values={}) if self._monitored is None else self._monitored.reading()

    def _probe(self, decide: Callable[[Vitals], Health]) -> Answer:
        vitals = Vitals(opened=False) if self._monitored is None else self._monitored.vitals()
        health = decide(vitals)
        body = {"status": "ok" if health.ok else "failing", "worker": self._worker, "missing": health.missing}
        return Answer(
            body=json.dumps(body).encode() + b"\n",
            status=HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE,
        )


def _metrics(accept: str) -> Answer:
    encode, content_type = choose_encoder(accept)
    return Answer(body=encode(REGISTRY), content_type=content_type)
