"""Commands for callers without an event loop.

redis-py's client and its pool take twice as long around a command as the connection takes for it, so this uses
connections alone. They retry, and connect again, as those of ``connect`` do.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.connection import ConnectionInterface
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from runtime_core.store.connection import BACKOFF, RETRIES, connect_sync, outage, outage_for_all
from runtime_core.store.scripts import Argument, arguments, sha, source

_RETRY = Retry(BACKOFF, RETRIES)


class BlockingConnections:
    """1. Safe to use from several threads: each command has a connection to itself.

    2. Every command is sent again after a lost connection: only what may be repeated may be sent.
    3. What the caller's exception interrupts, Ctrl-C above all, leaves no reply behind for the next command.
    4. ``close`` waits for nobody: commands under way end by themselves.
    """

    def __init__(self, url: str) -> None:
        self._pool = connect_sync(url).connection_pool
        self._idle: list[ConnectionInterface] = []
        self._closed = False

    def execute(self, *command: Argument) -> Any:
        """Raises RETRYABLE errors, and the ResponseError of a command that Redis refuses."""
        try:
            connection = self._idle.pop()  # in one step, whatever other threads do
        except IndexError:
            connection = self._pool.make_connection()
        try:
            return _RETRY.call_with_retry(lambda: _attempt(connection, command), lambda _: connection.disconnect())
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._idle.append(connection)
            if self._closed:
                self.close()

    def run_script(self, name: str, partition: int, *values: Argument) -> list[Any]:
        """As ``run_script`` of scripts.py."""
        call = (1, *arguments(partition, values))
        try:
            try:
                return self.execute("EVALSHA", sha(name), *call)
            except NoScriptError:
                return self.execute("EVAL", source(name), *call)
        except ResponseError as error:
            raise outage(error) or error from None

    def close(self) -> None:
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


def _attempt(connection: ConnectionInterface, command: tuple[Argument, ...]) -> Any:
    connection.send_command(*command)
    try:
        return connection.read_response()
    except ResponseError as error:
        raise outage_for_all(error) or error from None
