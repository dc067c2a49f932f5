"""Which version of the agents config this worker has, and how it comes to the fleet's current one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from runtime_core.clock import boot_seconds
from runtime_core.config.loader import load_config_text, read_config_file
from runtime_core.config.schema import AppConfig
from runtime_core.contracts.config_version import ConfigText
from runtime_core.errors import ConfigError, RunlaneError
from runtime_core.kernel.runtime import Runtime
from runtime_core.store.configs import ConfigStore, this_author
from runtime_core.store.connection import RETRYABLE
from runtime_core.store.leases import FleetView

logger = logging.getLogger(__name__)

#: Seconds before a version that could not be loaded is tried again: what it lacks may have been installed meanwhile.
_TRY_AGAIN = 30.0
_REDIS_RETRY = 0.2


async def first_config(store: ConfigStore, file: Path | None) -> tuple[AppConfig, int]:
    """What a worker starts with: the registry's current version; an empty registry gets the worker's agents file.

    Raises ConfigError if there is neither, or it cannot be loaded.
    """
    given = None if file is None else ConfigText.named(str(file), await asyncio.to_thread(read_config_file, file))
    version = await store.current()
    if version == 0:
        if given is None:
            raise ConfigError(
                "there is no agents file, and the fleet has no config yet",
                hint="set RUNLANE_CONFIG=agents.yaml or pass --config; or `runlane config push --offline agents.yaml`",
            )
        parse(given, str(file))  # before anybody sees it
        digest = await store.propose(given)
        activated = await store.activate(digest, expected=0, author=this_author(), source=str(file))
        version = activated.version
    text = await store.text(version)
    if given is not None and given.digest != text.digest:
        logger.warning(
            "%s differs from the fleet's config version %d, which is used; `runlane config push %s` makes it the next",
            *(file, version, file),
        )
    return parse(text, _name(version)), version


def _name(version: int) -> str:
    return f"config version {version}"


def parse(config: ConfigText, source: str) -> AppConfig:
    """With this process's environment. Raises ConfigError."""
    return load_config_text(config.text, source=source, is_json=config.format == "json")


class AgentsConfig:
    """``problem`` is the one that the worker started with, if any.

    1. ``reload`` swaps to a version; if it cannot be loaded, the one before stays and ``problem`` says why.

    2. ``look`` makes up for broadcasts that did not arrive.
    3. ``provide`` loads the earlier version that a session is pinned to; where that cannot be had the current serves.
    """

    def __init__(self, store: ConfigStore, runtime: Runtime, problem: RunlaneError | None = None) -> None:
        self._store = store
        self._runtime = runtime
        #: One version is loaded at a time.
        self._turn = asyncio.Lock()
        self._tried = runtime.config_version
        self._tried_at = 0.0
        #: The ids of the agents that the current version changed here.
        self._changed: list[str] = []
        self._reloads: int | None = None
        self._making_up: asyncio.Task[None] | None = None
        #: Why the fleet's current version is not the one of this worker, or what of it could not be loaded at start.
        self.problem = problem

    async def reload(self, version: int) -> list[str]:
        """The ids of the agents that the version changed, now or when a heartbeat told of it before the caller did.

        Raises RunlaneError if the version cannot be loaded.
        """
        async with self._turn:
            if version == self._runtime.config_version:
                return self._changed
            self._tried, self._tried_at = version, boot_seconds()
            try:
                config = await self._load(await self._store.text(version), _name(version))
                self._changed = changed = await self._runtime.swap(config, version)
            except RunlaneError as error:
                self.problem = error
                logger.error(
                    "config version %d cannot be loaded, version %d stays: %s",
                    *(version, self._runtime.config_version, error),
                )
                raise
            self.problem = None
            logger.info("config version %d: changed agents: %s", version, ", ".join(changed) or "none")
            return changed

    async def check(self, digest: str) -> None:
        """Raise RunlaneError if a candidate could not be loaded here."""
        async with self._turn:
            await self._load(await self._store.candidate(digest), "the pushed config")

    async def reload_agent(self, agent_id: str) -> int:
        """Start the agent's sessions anew; how many this worker held. Raises AgentNotFoundError."""
        dropped = await self._runtime.reload_agent(agent_id)
        count = await self._store.reload_agent(agent_id)
        self._reloads = max(count, self._reloads or 0)
        return dropped

    async def provide(self, version: int) -> int:
        """Have ``version`` ready for a run, and return it; or the current one, if it cannot be had."""
        if self._runtime.has_version(version):
            return version
        try:
            async with self._turn:
                if not self._runtime.has_version(version):
                    await self._add(version)
            return version
        except RunlaneError as error:
            current = self._runtime.config_version
            logger.warning("config version %d of a session cannot be had, %d serves: %s", version, current, error)
            return current

    async def _add(self, version: int) -> None:
        while True:
            try:
                text = await self._store.text(version)
                break
            except RETRYABLE as error:
                logger.warning("config version %d cannot be read, trying again: %s", version, error)
                await asyncio.sleep(_REDIS_RETRY)
        # A later one is not known to be good here. Of an earlier one a broken agent is no reason to refuse the others.
        newer = version > self._runtime.config_version
        config = await (self._load(text, _name(version)) if newer else asyncio.to_thread(parse, text, _name(version)))
        self._runtime.add_version(config, version)

    def look(self, fleet: FleetView) -> None:
        """What the registry says now, read with each heartbeat. Loop thread."""
        if self._reloads is None or fleet.reloads < self._reloads:  # less: the store lost its last writes
            self._reloads = fleet.reloads
        behind = fleet.config_version not in (0, self._runtime.config_version)
        again = fleet.config_version != self._tried or boot_seconds() - self._tried_at >= _TRY_AGAIN
        if self._making_up is not None or self._turn.locked():
            return
        if behind and again:
            self._begin(self._catch_up(fleet.config_version))
        elif fleet.reloads > self._reloads:
            self._begin(self._reload_agents(self._reloads))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self._making_up = None
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.warning("the fleet's config could not be followed, trying again: %s", error)

        self._making_up = asyncio.get_running_loop().create_task(work)
        self._making_up.add_done_callback(done)

    async def _catch_up(self, version: int) -> None:
        try:
            await self.reload(version)
        except RunlaneError:
            return  # logged, and in ``problem``

    async def _reload_agents(self, after: int) -> None:
        for agent_id, count in (await self._store.reloaded_agents(after)).items():
            await self._runtime.plugin_cache.evict_agent(agent_id)
            self._reloads = max(count, self._reloads or 0)

    async def _load(self, text: ConfigText, source: str) -> AppConfig:
        """Parse it, import its plugins. Raises the first problem."""
        config = await asyncio.to_thread(parse, text, source)
        for problem in await asyncio.to_thread(self._runtime.problems_of, config):
            raise problem
        return config
