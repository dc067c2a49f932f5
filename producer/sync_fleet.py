"""SyncFleet: the verbs of Fleet for code without an event loop."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from producer.blocking import LoopThread
from producer.fleet import DEFAULT_URL, Fleet
from producer.reports import FleetReport, ReloadReport
from runtime_core.contracts.config_version import ConfigText, ConfigVersion
from runtime_core.contracts.fleet import FleetStatus
from runtime_core.contracts.fleet_event import FleetEvent
from runtime_core.ids import DEFAULT_TENANT


class SyncFleet:
    """Fleet without ``await``: same verbs, same errors. Safe to use from several threads; close it."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self._fleet = Fleet(url)
        self._thread = LoopThread("runlane fleet", self._fleet.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._thread.close()

    def reload(
        self, config: str | Path | Mapping[str, Any], *, author: str | None = None, offline: bool = False
    ) -> ReloadReport:
        return self._thread.wait(self._fleet.reload(config, author=author, offline=offline))

    def rollback(self, version: int, *, author: str | None = None, offline: bool = False) -> ReloadReport:
        return self._thread.wait(self._fleet.rollback(version, author=author, offline=offline))

    def config_version(self) -> int:
        return self._thread.wait(self._fleet.config_version())

    def configs(self) -> Sequence[ConfigVersion]:
        return self._thread.wait(self._fleet.configs())

    def config_text(self, version: int) -> ConfigText:
        return self._thread.wait(self._fleet.config_text(version))

    def reload_agent(self, agent_id: str) -> FleetReport:
        return self._thread.wait(self._fleet.reload_agent(agent_id))

    def close_session(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> FleetReport:
        return self._thread.wait(self._fleet.close_session(session_id, tenant=tenant))

    def release_session(self, session_id: str, *, tenant: str = DEFAULT_TENANT) -> FleetReport:
        return self._thread.wait(self._fleet.release_session(session_id, tenant=tenant))

    def drain(self, worker: str) -> FleetReport:
        return self._thread.wait(self._fleet.drain(worker))

    def gone(self, workers: Collection[str]) -> None:
        self._thread.wait(self._fleet.gone(workers))

    def living(self) -> Mapping[str, str]:
        return self._thread.wait(self._fleet.living())

    def status(self) -> FleetStatus:
        return self._thread.wait(self._fleet.status())

    def workers(self) -> FleetReport:
        return self._thread.wait(self._fleet.workers())

    def list_agents(self) -> list[dict[str, str]]:
        return self._thread.wait(self._fleet.list_agents())

    def get_agent_info(self, agent_id: str) -> dict[str, Any] | None:
        return self._thread.wait(self._fleet.get_agent_info(agent_id))

    def get_session_count(self) -> int:
        return self._thread.wait(self._fleet.get_session_count())

    def events(self) -> Generator[FleetEvent, None, None]:
        return self._thread.iterate(self._fleet.events())
