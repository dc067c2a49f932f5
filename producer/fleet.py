"""Fleet: the operator's verbs. It changes the agents config, asks the workers, and waits for exactly those that live.

Needs the extra ``fleet`` (Celery, whose control protocol it speaks); no worker's code.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from producer.connection import READ_PATIENCE_S, StoreConnection
from producer.control import ControlChannel
from producer.reports import Answer, FleetReport, ReloadReport
from producer.subscriptions import Signal
from runtime_core.contracts.commands import FleetCommand
from runtime_core.contracts.config_version import ConfigFormat, ConfigText, ConfigVersion
from runtime_core.contracts.fleet import FleetStatus
from runtime_core.contracts.fleet_event import FleetEvent
from runtime_core.errors import AgentNotFoundError, ConfigError, ConfigLoadError, FleetUnavailable, InvalidInputError
from runtime_core.ids import DEFAULT_TENANT, check_name, check_session_id
from runtime_core.store import keys
from runtime_core.store.configs import Activation, this_author
from runtime_core.store.overview import read_status

DEFAULT_URL = "redis://127.0.0.1:6379/0"
#: Seconds that a worker whose heart beats gets to answer; to load a config it may have to import much.
PATIENCE_S = 10.0
LOAD_PATIENCE_S = 60.0
#: Seconds between two looks at who lives.
_POLL = 0.2

Progress = Callable[[FleetReport], object]


def _no_progress(_: FleetReport) -> None: ...


class Fleet:
    """All workers of one store. Use it from one event loop; close it, or use it as a context manager.

    1. A verb that tells the workers something returns a report with an answer for each worker that lived: what it did,
       why it could not, or that it is silent. Only what is wrong for all of them is raised.
    2. ``progress`` gets the report so far, whenever a worker has answered.
    3. Verbs may be repeated.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self._store = StoreConnection(url)
        self._control = ControlChannel(url, self._living)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._control.aclose()
        await self._store.aclose()

    async def reload(
        self,
        config: str | Path | Mapping[str, Any],
        *,
        author: str | None = None,
        offline: bool = False,
        progress: Progress = _no_progress,
    ) -> ReloadReport:
        """Push an agents file (a path, or what stands in one) and have every worker go over to it.

        One worker tries it first: if it cannot load it, nothing changes and that worker's error is raised. Placeholders
        ``${VAR}``, also in a mapping, are expanded by each worker with its own environment. Sessions go on with
        the version that they have; new ones get this one. ``offline``, for a fleet without a worker, takes the config
        unchecked. Raises ConfigError, also if somebody else pushed meanwhile.
        """
        text, source = _config_text(config)
        return await self._push(text, source=source, author=author, offline=offline, progress=progress)

    async def rollback(
        self, version: int, *, author: str | None = None, offline: bool = False, progress: Progress = _no_progress
    ) -> ReloadReport:
        """Push what an earlier version says, as a new version. Raises as ``reload`` does."""
        text = await self.config_text(version)
        source = f"rollback to {version}"
        return await self._push(text, source=source, author=author, offline=offline, progress=progress)

    async def config_version(self) -> int:
        """The current version; 0 while there is none."""
        configs = await self._store.configs()
        return await self._store.call(configs.current, patience=READ_PATIENCE_S)

    async def configs(self) -> Sequence[ConfigVersion]:
        """All versions that are kept, newest first."""
        configs = await self._store.configs()
        return await self._store.call(configs.list, patience=READ_PATIENCE_S)

    async def config_text(self, version: int) -> ConfigText:
        """A version as it was pushed. Raises ConfigError if there is none."""
        configs = await self._store.configs()
        return await self._store.call(lambda: configs.text(version), patience=READ_PATIENCE_S)

    async def reload_agent(self, agent_id: str, *, progress: Progress = _no_progress) -> FleetReport:
        """Drop an agent's plugins in every session; its sessions go on with its current config, with fresh plugins.

        Raises AgentNotFoundError.
        """
        report = await self._tell(FleetCommand.RELOAD_AGENT, {"agent_id": agent_id}, progress=progress)
        unknown = [error for error in report.failed.values() if error.code == AgentNotFoundError.code]
        if unknown and len(unknown) == len(report.answers) - len(report.missing):
            raise AgentNotFoundError(unknown[0].message, hint=unknown[0].hint, agent_id=agent_id)
        return report

    async def close_session(
        self, session_id: str, *, tenant: str = DEFAULT_TENANT, progress: Progress = _no_progress
    ) -> FleetReport:
        """Close a session's plugins, after the run that executes; its next run starts with fresh ones and the current
        config. What the session remembers stays.
        """
        arguments = {"session_id": check_session_id(session_id), "tenant": check_name("tenant", tenant)}
        return await self._tell(FleetCommand.CLOSE_SESSION, arguments, progress=progress)

    async def release_session(
        self, session_id: str, *, tenant: str = DEFAULT_TENANT, progress: Progress = _no_progress
    ) -> FleetReport:
        """Release what the runtime itself holds for a session; its plugins stay. Doing it twice is no error."""
        arguments = {"session_id": check_session_id(session_id), "tenant": check_name("tenant", tenant)}
        return await self._tell(FleetCommand.RELEASE_SESSION, arguments, progress=progress)

    async def drain(self, worker: str, *, progress: Progress = _no_progress) -> FleetReport:
        """Have a worker give its partitions up as their runs end, and stop. ``worker`` is its name, or its Celery node
        (with or without ``@host``). Returns when it has begun. Raises InvalidInputError for one that does not live.
        """
        living = await self._living()
        chosen = {name: node for name, node in living.items() if worker in (name, node, node.partition("@")[0])}
        if not chosen:
            raise InvalidInputError(
                f"no live worker is called {worker!r}",
                hint=f"live workers: {', '.join(sorted(set(living.values()))) or '(none)'}",
            )
        return await self._tell(FleetCommand.DRAIN, {}, workers=chosen, progress=progress)

    async def gone(self, workers: Collection[str]) -> None:
        """Return when none of ``workers`` lives any more."""
        while True:
            if set(workers).isdisjoint(await self._living()):
                return
            await asyncio.sleep(_POLL)

    async def living(self) -> Mapping[str, str]:
        """The workers whose heart beats: worker → its Celery node."""
        return await self._living()

    async def status(self) -> FleetStatus:
        """Workers, partitions, queues and who waits, as Redis shows them: no worker is asked or waited for."""
        return await self._store.read(read_status)

    async def workers(self, *, progress: Progress = _no_progress) -> FleetReport:
        """What every worker says of itself: version, partitions, what it executes, its cache."""
        return await self._tell(FleetCommand.STATUS, {}, progress=progress)

    async def list_agents(self) -> list[dict[str, str]]:
        """[{id, name}] of the current config, from a worker that has it."""
        return list((await self._newest_agents({})).values["agents"])

    async def get_agent_info(self, agent_id: str) -> dict[str, Any] | None:
        """What the current config and, if one holds a session of it, a worker's plugins say; None if it is unknown."""
        report = await self._ask(FleetCommand.AGENTS, {"agent_id": agent_id})
        newest = max(answer.values["config_version"] for answer in report)
        told = [
            answer.values["agent"]
            for answer in report
            if answer.values["config_version"] == newest and answer.values["agent"] is not None
        ]
        return max(told, key=lambda info: info["loaded_plugins"]["pattern"] is not None, default=None)

    async def get_session_count(self) -> int:
        """Sessions that hold plugins, on all workers together."""
        report = await self._ask(FleetCommand.SESSIONS, {"limit": 0})
        return sum(answer.values["count"] for answer in report)

    async def events(self) -> AsyncGenerator[FleetEvent, None]:
        """Events without a run, of all workers, as they happen: ``config.reloaded``, ``agent.reloaded``, …"""
        channel = keys.FLEET_CHANNEL
        async with self._store.subscriptions.join(channel, confirm_within=READ_PATIENCE_S) as reader:
            while True:
                message = await reader.receive(timeout=None)
                if isinstance(message, Signal):
                    self._store.check_usable()
                    continue
                yield FleetEvent.model_validate_json(message.data)

    async def _push(
        self, text: ConfigText, *, source: str, author: str | None, offline: bool, progress: Progress
    ) -> ReloadReport:
        configs, workers = await self._store.configs(), await self._living()
        expected = await self._store.call(configs.current)
        known = await self._store.call(lambda: configs.digest(expected))
        digest = await self._store.call(lambda: configs.propose(text))
        if offline and workers:
            raise ConfigError(
                f"{len(workers)} workers live: {', '.join(sorted(workers))}", hint="push without --offline"
            )
        if not offline and digest != known:
            await self._try_out(digest, workers)
        activated = await self._store.call(
            lambda: configs.activate(digest, expected=expected, author=author or this_author(), source=source)
        )
        if activated.outcome is Activation.MOVED:
            raise ConfigError(
                f"somebody else made version {activated.version} current meanwhile; nothing was changed",
                hint=f"look at it with `runlane config diff {expected} {activated.version}`, then push again",
            )
        report = await self._tell(
            FleetCommand.RELOAD,
            {"version": activated.version},
            workers={**workers, **await self._living()},  # one that has fallen silent since is named, too
            patience=LOAD_PATIENCE_S,
            progress=progress,
        )
        created = activated.outcome is Activation.NEW
        changed = {agent for answer in report.answers.values() for agent in answer.values.get("changed_agents", ())}
        return ReloadReport(
            version=activated.version,
            created=created,
            changed_agents=tuple(sorted(changed)) if created else (),
            fleet=report,
        )

    async def _try_out(self, digest: str, workers: Mapping[str, str]) -> None:
        """Have one worker load the candidate; if it does not answer, the next one. Raises what it says."""
        for worker, node in sorted(workers.items()):
            report = await self._control.ask(
                FleetCommand.CHECK_CONFIG, {"digest": digest}, patience=LOAD_PATIENCE_S, workers={worker: node}
            )
            answer = report.answers.get(worker)
            if answer is not None and answer.error is not None:
                raise ConfigError(
                    f"worker {worker} cannot load it, nothing was changed: {answer.error.message}",
                    hint=answer.error.hint or "correct the config, then push again",
                )
            if answer is not None and answer.answered:
                return
        raise ConfigError(
            "no worker is there to try it out; nothing was changed",
            hint="start a worker, or push with --offline: its plugins are checked when workers start",
        )

    async def _ask(self, command: FleetCommand, arguments: Mapping[str, Any]) -> list[Answer]:
        """The answers of those that answered. Raises FleetUnavailable if nobody did."""
        report = await self._tell(command, arguments)
        answers = [answer for answer in report.answers.values() if answer.ok]
        if not answers:
            raise FleetUnavailable(
                "no worker answered" if report.answers else "no worker lives",
                hint="start one with `runlane worker`; see `runlane status`",
            )
        return answers

    async def _newest_agents(self, arguments: Mapping[str, Any]) -> Answer:
        return max(await self._ask(FleetCommand.AGENTS, arguments), key=lambda answer: answer.values["config_version"])

    async def _tell(
        self,
        command: FleetCommand,
        arguments: Mapping[str, Any],
        *,
        workers: Mapping[str, str] | None = None,
        patience: float = PATIENCE_S,
        progress: Progress = _no_progress,
    ) -> FleetReport:
        asked = await self._living() if workers is None else workers
        return await self._control.ask(command, arguments, patience=patience, workers=asked, progress=progress)

    async def _living(self) -> Mapping[str, str]:
        leases = await self._store.leases()
        return await self._store.call(leases.living, patience=READ_PATIENCE_S)


def _config_text(config: str | Path | Mapping[str, Any]) -> tuple[ConfigText, str]:
    """The text and where it comes from. Raises ConfigLoadError, InvalidInputError."""
    if isinstance(config, Mapping):
        try:
            return ConfigText(text=json.dumps(config, indent=2), format=ConfigFormat.JSON), "a mapping"
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"the config cannot be written as JSON: {error}",
                hint="use plain values: text, numbers, lists, mappings",
            ) from error
    path = Path(config)
    try:
        return ConfigText.named(path.name, path.read_text(encoding="utf-8-sig")), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigLoadError(f"agents file {path} cannot be read: {error}", hint="give the path of a file") from error
