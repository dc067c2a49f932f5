"""Connections to Redis: one place for their options, and for an error that says which server did not answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from runtime_core.errors import ConfigError
from runtime_core.redaction import redacted_url
from runtime_core.store.batching import BatchingRedis

#: What may pass when the call is repeated. Every script is safe to repeat after a lost reply.
RETRYABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    OSError,
)
#: Seconds. A script takes under a millisecond; a longer silence is a broken connection.
_SOCKET_TIMEOUT = 5.0
_CONNECT_TIMEOUT = 3.0
RETRIES = 3
BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=0.5)
#: Connections of one client; redis-py opens one for each operation at once, and beyond its own limit of 100 it raises.
#: What bounds them is what bounds the operations: a worker's runs, a client's OPERATIONS_AT_ONCE.
_CONNECTIONS_AT_MOST = 10_000


#: Words by which Redis says that it cannot serve now. Inside a script they come wrapped in an error of the script, and
#: redis-py knows some of them only in front of a reply (https://redis.io/docs/latest/develop/reference/protocol-spec).
_OUTAGE = re.compile(r"(?:^|[\s-])(OOM|READONLY|MISCONF|BUSY|LOADING|MASTERDOWN|NOREPLICAS)\b")
#: Those that redis-py knows; it takes the word away.
_KNOWN_OUTAGES: dict[type[Exception], str] = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.MasterDownError: "MASTERDOWN",
}
#: Those of them that concern every command, and are no RETRYABLE of redis-py's.
_CONCERNS_ALL = frozenset({"MISCONF", "BUSY", "MASTERDOWN", "NOREPLICAS"})


def outage_word(error: BaseException) -> str | None:
    """The word by which Redis says that it cannot serve now, if ``error`` is that it does not; else None."""
    for kind, word in _KNOWN_OUTAGES.items():
        if isinstance(error, kind):
            return word
    found = _OUTAGE.search(str(error)) if isinstance(error, exceptions.RedisError) else None
    return found and found[1]


def outage(error: exceptions.ResponseError) -> exceptions.ConnectionError | None:
    """The error to raise instead, one of RETRYABLE, if Redis refused for now; None if it refused for good."""
    word = outage_word(error)
    said = str(error) if word is None or word in str(error) else f"{word} {error}"
    return exceptions.ConnectionError(f"Redis cannot serve now: {said}") if word else None


def outage_for_all(error: exceptions.ResponseError) -> exceptions.ConnectionError | None:
    """As ``outage``, if Redis refuses every command; not for one script in a pipeline: the others have own answers."""
    if outage_word(error) in _CONCERNS_ALL and not str(error).startswith("ERR"):
        return outage(error)
    return None


_packer = HiredisRespSerializer()


class _PatientConnection(AbstractConnection):
    """Bounds a write with asyncio.timeout, and says of every command what may pass when it is repeated.

    redis-py uses asyncio.wait_for, which on Python 3.11 can swallow a cancellation
    (https://github.com/python/cpython/issues/86296): a timeout would not end, a task would not stop.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._write_timeout = self.socket_timeout

    def pack_command(self, *args: Any) -> list[bytes]:
        """With hiredis, as redis-py's blocking connections do; its Python takes 20 µs for the arguments of a submit."""
        try:
            return _packer.pack(*args)
        except UnicodeEncodeError:  # half a surrogate pair, in whose place redis-py's Python puts "?"
            return super().pack_command(*args)

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        assert self._writer is not None
        self._writer.writelines(_pieces(command))
        if not self._writer.transport.get_write_buffer_size():
            return  # the socket has it all, as it has nearly always: there is nothing to bound
        self.socket_timeout = None  # so that redis-py writes without wait_for
        try:
            async with asyncio.timeout(self._write_timeout):
                await super().send_packed_command((), check_health=False)
        except TimeoutError as error:
            raise exceptions.TimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = self._write_timeout

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except exceptions.ResponseError as error:
            raise outage_for_all(error) or error from None


def _pieces(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    match command:
        case str():
            return (command.encode(),)
        case bytes():
            return (command,)
        case _:
            return command


class _TCP(_PatientConnection, Connection): ...


class _TLS(_PatientConnection, SSLConnection): ...


class _Socket(_PatientConnection, UnixDomainSocketConnection): ...


_CONNECTIONS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _TCP,
    SSLConnection: _TLS,
    UnixDomainSocketConnection: _Socket,
}


class _Pool(redis.asyncio.ConnectionPool):
    """redis-py's pool without its lock and its metrics, which take a tenth of a command's time.

    The lock guards what nothing interrupts on an event loop: to take a connection and to give it back are single steps.
    """

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        connection = self.get_available_connection()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",
        "socket_timeout": _SOCKET_TIMEOUT,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "health_check_interval": 30,
        "max_connections": _CONNECTIONS_AT_MOST,
        "retry_on_error": [exceptions.BusyLoadingError],
    }
    if not url.startswith("unix:"):  # where redis-py refuses the option
        options["socket_keepalive"] = True
    return options


def _bad_url(url: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"Redis URL {redacted_url(url)!r} is not valid: {error}",
        hint="use redis://host:6379/0, rediss://host:6379/0 or unix:///path/redis.sock?db=0",
    )


def connect(url: str, *, batching: bool = False) -> redis.asyncio.Redis:
    """A client for asyncio; connects at its first command. Replies are str. With ``batching`` the commands of its
    tasks travel together, see batching.py. Raises ConfigError for a bad URL.
    """
    kind = BatchingRedis if batching else redis.asyncio.Redis
    return kind.from_pool(_pool(url, retry=AsyncRetry(BACKOFF, RETRIES)))


def subscriber(url: str) -> AbstractConnection:
    """A connection for pub/sub: RESP2, whose messages are plain lists. It neither reconnects nor bounds a silence.

    redis-py's PubSub does both, ten times slower, and hides from its caller that messages may be missing.
    """
    options = {"protocol": 2, "socket_timeout": None, "health_check_interval": 0, "retry_on_error": []}
    return _pool(url, retry=AsyncRetry(NoBackoff(), 0), **options).make_connection()


def _pool(url: str, **options: Any) -> _Pool:
    try:
        pool = _Pool.from_url(url, **_options(url) | options)
    except ValueError as error:
        raise _bad_url(url, error) from error
    pool.connection_class = _CONNECTIONS[pool.connection_class]
    return pool


def connect_sync(url: str, *, timeout: float = _SOCKET_TIMEOUT) -> redis.Redis:
    """A blocking client, for threads; ``timeout`` in seconds, for connecting too. It does not retry by itself: its
    callers know how much time they have.
    """
    try:
        return redis.Redis.from_url(
            url,
            retry=Retry(ExponentialWithJitterBackoff(base=0.05), 0),
            **_options(url) | {"socket_timeout": timeout, "socket_connect_timeout": min(timeout, _CONNECT_TIMEOUT)},
        )
    except ValueError as error:
        raise _bad_url(url, error) from error
