"""The registry of agents configs: numbered versions, one of which is current; and which agents were reloaded when."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from runtime_core.contracts.config_version import ConfigFormat, ConfigText, ConfigVersion
from runtime_core.errors import ConfigError
from runtime_core.store import keys
from runtime_core.store.scripts import run_fleet_script

#: Seconds that a candidate lives: its push asks a worker about it at once.
_CANDIDATE_SECONDS = 600
#: Bytes of an agents file. Each worker reads all of it, and Redis does nothing else meanwhile.
_MAX_BYTES = 4 * 1024 * 1024


class Activation(StrEnum):
    #: It is a new version, and current.
    NEW = "ok"
    #: The current version has this very text.
    SAME = "same"
    #: Another version became current meanwhile.
    MOVED = "moved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Activated:
    outcome: Activation
    #: The version that is current now.
    version: int


class ConfigStore:
    """1. A version never changes; a new one gets the next number.

    2. A candidate becomes current only if the version that its author saw still is.
    3. The newest 50 versions are kept, and older ones for as long as sessions may be pinned to them.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def current(self) -> int:
        """The current version; 0 while the registry is empty."""
        return int(await self._redis.get(keys.CONFIG) or 0)

    async def propose(self, config: ConfigText) -> str:
        """Store a candidate and return its digest. Raises ConfigError if it is too large."""
        size = len(config.text.encode())
        if size > _MAX_BYTES:
            raise ConfigError(f"the agents file has {size:,} bytes", hint=f"at most {_MAX_BYTES:,} can be pushed")
        key = keys.config_candidate(config.digest)
        pipeline = self._redis.pipeline()
        pipeline.hset(key, mapping={"text": config.text, "format": config.format, "digest": config.digest})
        pipeline.expire(key, _CANDIDATE_SECONDS)
        await pipeline.execute()
        return config.digest

    async def activate(self, digest: str, *, expected: int, author: str, source: str) -> Activated:
        """Make a candidate current if ``expected`` still is. Raises ConfigError if the candidate has expired."""
        word, *version = await run_fleet_script(self._redis, "activate", keys.CONFIG, digest, expected, author, source)
        if word == "GONE":
            raise ConfigError("the pushed config waited for too long", hint="push it again")
        return Activated(outcome=Activation(word.lower()), version=int(version[0]))

    async def candidate(self, digest: str) -> ConfigText:
        """Raises ConfigError if it has expired."""
        return await self._text(keys.config_candidate(digest), "the pushed config waited for too long", "push it again")

    async def digest(self, version: int) -> str | None:
        """None if there is no such version."""
        call: Any = self._redis.hget(keys.config(version), "digest")
        return await call

    async def text(self, version: int) -> ConfigText:
        """Raises ConfigError if there is no such version."""
        return await self._text(
            keys.config(version), f"there is no config version {version}", "see `runlane config list`"
        )

    async def list(self) -> Sequence[ConfigVersion]:
        """All versions that are kept, newest first."""
        call: Any = self._redis.zrevrange(keys.CONFIGS, 0, -1)
        versions: list[str] = await call
        pipeline = self._redis.pipeline()
        pipeline.get(keys.CONFIG)
        for version in versions:
            pipeline.hmget(keys.config(int(version)), "digest", "author", "source", "created_ms")
        current, *found = await pipeline.execute()
        return [
            ConfigVersion(
                version=int(version),
                current=version == current,
                digest=digest,
                author=author or "",
                source=source or "",
                created_ms=int(created or 0),
            )
            for version, (digest, author, source, created) in zip(versions, found, strict=True)
            if digest is not None
        ]

    async def reload_agent(self, agent_id: str) -> int:
        """Note that sessions of the agent are to start anew with its current config; how many reloads there were."""
        _, count = await run_fleet_script(self._redis, "reload_agent", keys.RELOADS, agent_id)
        return int(count)

    async def reloaded_agents(self, after: int) -> Mapping[str, int]:
        """The agents that were reloaded after the reload of that number, each with that of its last."""
        call: Any = self._redis.hgetall(keys.RELOADS)
        entries: dict[str, str] = await call
        counts = {name: int(entry.partition(":")[0]) for name, entry in entries.items() if name != keys.RELOADS_COUNT}
        return {name: count for name, count in counts.items() if count > after}

    async def _text(self, key: str, problem: str, hint: str) -> ConfigText:
        call: Any = self._redis.hmget(key, "text", "format")
        text, form = await call
        if text is None:
            raise ConfigError(problem, hint=hint)
        return ConfigText(text=text, format=ConfigFormat(form or ConfigFormat.YAML))


def this_author() -> str:
    """user@host of this process, as far as it has a user: a container's may have none."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
