"""The Lua scripts: loading, calling, and the meaning of their first reply word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from runtime_core.errors import LeaseLost, RunlaneError
from runtime_core.store import keys
from runtime_core.store.connection import outage

Argument = str | bytes | int


#: Scripts about the fleet as a whole; all others are about one partition.
_FLEET_SCRIPTS = frozenset({"activate", "heartbeat", "reload_agent"})


@cache
def source(name: str) -> str:
    """A script with what is put before it."""
    parts = ["_clock", name] if name in _FLEET_SCRIPTS else ["_clock", "_prelude", name]
    folder = files("runtime_core.store") / "lua"
    return "".join((folder / f"{part}.lua").read_text() for part in parts)


@cache
def sha(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def arguments(partition: int, values: Sequence[Argument]) -> tuple[Argument, ...]:
    """The one key of a script, then the prelude's ARGV and the script's own."""
    return (keys.lease(partition), "", keys.prefix(partition), keys.queue(partition), *values)


async def run_script(redis: Redis, name: str, partition: int, *values: Argument) -> list[Any]:
    """Run one script on a partition; its reply is a list whose first item is a word (see the script's comment)."""
    return await _run(redis, name, arguments(partition, values))


async def run_fleet_script(redis: Redis, name: str, key: str, *values: Argument) -> list[Any]:
    """Run one of the scripts that are about the fleet as a whole."""
    return await _run(redis, name, (key, "", *values))


async def _run(redis: Redis, name: str, values: Sequence[Argument]) -> list[Any]:
    try:
        call: Any = redis.execute_command("EVALSHA", sha(name), 1, *values)
        return await call
    except NoScriptError:
        call = redis.execute_command("EVAL", source(name), 1, *values)
        try:
            return await call
        except ResponseError as error:
            raise outage(error) or error from None
    except ResponseError as error:
        raise outage(error) or error from None


async def run_scripts(redis: Redis, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
    """Run one script many times in one round trip. An item of the reply is a list, or the exception of that call."""
    replies = await _send(redis, name, calls)
    if any(isinstance(reply, NoScriptError) for reply in replies):
        await redis.script_load(source(name))
        replies = await _send(redis, name, calls)
    return [(outage(reply) or reply) if isinstance(reply, ResponseError) else reply for reply in replies]


async def _send(redis: Redis, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
    pipeline = redis.pipeline(transaction=False)
    for partition, values in calls:
        pipeline.execute_command("EVALSHA", sha(name), 1, *arguments(partition, values))
    return await pipeline.execute(raise_on_error=False)


def fenced(reply: list[Any], what: str) -> list[Any]:
    """Return ``reply`` if it is OK; raise LeaseLost if the writer is not the owner or its attempt is over."""
    match reply[0]:
        case "OK":
            return reply
        case "FENCED" | "STALE":
            raise LeaseLost(f"{what} was refused: another worker owns the partition, or the attempt is over")
        case word:
            raise RunlaneError(
                f"{what} was answered {word} {reply[1:]}",
                hint="the run's log and its writer disagree: this is a defect of runlane, please report it",
            )
