"""Errors of the openagents SDK 0.4, which its plugins raise: the codes are ours, the classes are not.

A class that a plugin derives from one of theirs keeps its own code, and says itself whether it is retryable.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache

from runtime_core.errors import RunlaneError

_THEIR_BASE = "openagents.error"


def as_ours(error: BaseException) -> RunlaneError | None:
    """``error`` if it is one of ours, else one of ours that has its code and is caused by it; None if it is of
    neither kind.
    """
    if isinstance(error, RunlaneError):
        return error
    kind = _class_for(error)
    if kind is None:
        return None
    said = getattr(error, "message", None) or next(iter(str(error).splitlines()), "")
    names = ["hint", "docs_url", *(["retry_after_ms"] if hasattr(error, "retry_after_ms") else [])]
    more = {name: getattr(error, name, None) for name in names}
    try:
        ours = kind(said or None, **more)
    except TypeError:  # a class that takes something else
        return None
    ours.__cause__ = error
    return ours


@contextmanager
def translating_errors() -> Generator[None]:
    """What comes out of plugin code is raised as one of ours, where it is one of theirs."""
    try:
        yield
    except Exception as error:
        ours = as_ours(error)
        if ours is None or ours is error:
            raise
        raise ours from error


def is_foreign(error: BaseException) -> bool:
    """Whether it is an error of theirs."""
    return not isinstance(error, RunlaneError) and as_ours(error) is not None


def _class_for(error: BaseException) -> type[RunlaneError] | None:
    code: object = getattr(error, "code", None)
    known = _class_of(code)
    if not isinstance(code, str) or not _is_theirs(error):
        return known
    codes = [vars(base).get("code") for base in type(error).__mro__]
    nearest = known or next(kind for kind in map(_class_of, codes) if kind is not None)
    retryable = bool(getattr(error, "retryable", nearest.retryable))
    return known if known and known.retryable == retryable else _derived(nearest, code, retryable)


def _is_theirs(error: BaseException) -> bool:
    return any(vars(base).get("code") == _THEIR_BASE for base in type(error).__mro__)


@lru_cache(maxsize=256)
def _derived(kind: type[RunlaneError], code: str, retryable: bool) -> type[RunlaneError]:
    return type(kind.__name__, (kind,), {"code": code, "retryable": retryable, "__doc__": kind.__doc__})


def _class_of(code: object) -> type[RunlaneError] | None:
    if code == _THEIR_BASE:
        return RunlaneError
    return next((kind for kind in _classes(RunlaneError) if "code" in vars(kind) and kind.code == code), None)


def _classes(kind: type[RunlaneError]) -> Iterator[type[RunlaneError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _classes(one)
