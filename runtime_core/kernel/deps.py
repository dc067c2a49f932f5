"""The deps of one attempt: the object itself, or what a named factory makes of its arguments."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from runtime_core.contracts.run import DepsFactory
from runtime_core.errors import InvalidInputError, PluginError, RunlaneError
from runtime_core.plugins.deps import Factory, find
from runtime_core.wording import in_words

logger = logging.getLogger(__name__)


def built_deps(deps: Any, listed: Sequence[str]) -> AbstractAsyncContextManager[Any]:
    """What the run's plugins get as ``context.deps``. What a factory has made is closed in the end.

    Raises ConfigError for an unknown factory, InvalidInputError for arguments that it does not take, PluginError for
    what it raises; a RunlaneError of its own passes as it is, so that it may say that trying again helps.
    """
    named = DepsFactory.of(deps)
    return nullcontext(deps) if named is None else _built(named, listed)


@asynccontextmanager
async def _built(named: DepsFactory, listed: Sequence[str]) -> AsyncGenerator[Any]:
    made = await _made(await asyncio.to_thread(find, named.factory, listed), named)
    try:
        yield made
    finally:
        await _close(made, named.factory)


async def _made(factory: Factory, named: DepsFactory) -> Any:
    try:
        inspect.signature(factory).bind(**named.arguments)
    except TypeError as error:
        raise InvalidInputError(
            f"the deps factory {named.factory!r} cannot be called with these arguments: {error}",
            hint=f"it takes {inspect.signature(factory)}",
        ) from error
    except ValueError:  # written in C, without a signature
        pass
    try:
        if inspect.iscoroutinefunction(factory):
            return await factory(**named.arguments)
        made = await asyncio.to_thread(factory, **named.arguments)
        return await made if inspect.isawaitable(made) else made
    except RunlaneError:
        raise
    except Exception as error:
        raise PluginError(
            f"the deps factory {named.factory!r} failed: {in_words(error)}", hint="see the worker's log"
        ) from error


async def _close(made: Any, name: str) -> None:
    close = getattr(made, "aclose", None) or getattr(made, "close", None)
    if not callable(close):
        return
    try:
        outcome = await close() if inspect.iscoroutinefunction(close) else await asyncio.to_thread(close)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        logger.exception("closing what the deps factory %r has made failed", name)
