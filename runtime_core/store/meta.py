"""The store as a whole: its protocol version and its number of partitions, which never change."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from runtime_core.errors import ConfigError
from runtime_core.partitioning import DEFAULT_PARTITIONS, MAX_PARTITIONS
from runtime_core.store import keys
from runtime_core.store.connection import outage


async def open_store(redis: Redis, partitions: int | None = None) -> int:
    """Check the store and return its P; a new store gets ``partitions`` or the default.

    Raises ConfigError if the store has another P than the one asked for, or another protocol version.
    """
    if partitions is not None and not 1 <= partitions <= MAX_PARTITIONS:
        raise ConfigError(f"partitions is {partitions}", hint=f"RUNLANE_PARTITIONS is 1 to {MAX_PARTITIONS}")
    script: Any = redis.eval(
        "redis.call('HSETNX', KEYS[1], 'version', ARGV[1]); redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2])"
        " return redis.call('HMGET', KEYS[1], 'version', 'partitions')",
        1,
        keys.META,
        str(keys.PROTOCOL_VERSION),
        str(partitions or DEFAULT_PARTITIONS),
    )
    try:
        version, stored = await script
    except ResponseError as error:
        raise outage(error) or error from None
    if partitions is not None and int(stored) != partitions:
        raise store_mismatch(version, stored)
    if int(version) != keys.PROTOCOL_VERSION:
        raise store_mismatch(version, stored)
    return int(stored)


async def check_eviction_policy(redis: Redis) -> None:
    """Raise ConfigError if Redis may evict run records. A server that hides its settings is trusted."""
    try:
        memory: dict[str, Any] = await redis.info("memory")
    except NoPermissionError:
        return
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigError(
            f"Redis may evict run records: its maxmemory-policy is {policy}",
            hint="run `redis-cli config set maxmemory-policy noeviction` and put it into redis.conf",
        )


def store_mismatch(version: str, partitions: str) -> ConfigError:
    if int(version) != keys.PROTOCOL_VERSION:
        return ConfigError(
            f"the store has protocol version {version}, this process speaks {keys.PROTOCOL_VERSION}",
            hint="run the same release of runlane everywhere, or use another Redis database",
        )
    return ConfigError(
        f"the store has {partitions} partitions and this process was told otherwise",
        hint=f"set RUNLANE_PARTITIONS={partitions} or leave it unset: P is fixed for the life of a store",
    )
