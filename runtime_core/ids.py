"""Identifiers: what they may look like, and the scoped forms that stand in keys, channels, hashes and doorbells.

A bare run id or session id is what users see. The scoped form adds the tenant, so that two tenants may use the same
names: a ScopedRunId is the Celery task id too.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import NewType
from urllib.parse import quote, unquote

from runtime_core.errors import InvalidInputError

ScopedRunId = NewType("ScopedRunId", str)
SessionKey = NewType("SessionKey", str)

DEFAULT_TENANT = "default"
#: Tenants and run ids: no slash (it separates the tenant), no brace (hash tags), no space.
NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
#: Bytes of UTF-8. A session id is any text; longer ones would make every key of the session long.
MAX_SESSION_ID_BYTES = 512
#: Namespace of run ids derived from something else (a Celery id, an idempotency key), so that a repeat is the same run.
_NAMESPACE = uuid.UUID("6f0d3c6e-6f5f-5b0e-9d0a-72756e6c616e")


def new_run_id() -> str:
    return uuid.uuid4().hex


def derived_run_id(*parts: str) -> str:
    """The same run id for the same parts, for ever: uuid5 over their JSON-free, length-prefixed join."""
    return str(uuid.uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


def ingress_run_id(celery_id: str) -> str:
    """The run id of a request that came as a Celery message without one: the same for each of its deliveries."""
    return derived_run_id("celery", celery_id)


def idempotent_run_id(tenant: str, key: str) -> str:
    """The run id of a tenant's idempotency key: submitting with the same key again is submitting the same run."""
    return derived_run_id("idempotency", tenant, key)


def check_name(kind: str, value: str) -> str:
    """Return ``value`` if it is a valid tenant or run id, else raise InvalidInputError that names ``kind``."""
    if not NAME.fullmatch(value):
        raise InvalidInputError(
            f"{kind} {value[:140]!r} is not valid",
            hint=f"a {kind} is 1 to 128 characters of A-Z a-z 0-9 . _ : -",
        )
    return value


def check_session_id(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError("session_id is not valid Unicode text", hint="remove lone surrogates") from error
    if not 1 <= size <= MAX_SESSION_ID_BYTES:
        raise InvalidInputError(
            f"session_id has {size} bytes", hint=f"a session id is 1 to {MAX_SESSION_ID_BYTES} bytes of UTF-8"
        )
    return value


def scoped_run_id(tenant: str, run_id: str) -> ScopedRunId:
    """``<run id>`` for the tenant ``default``, else ``<tenant>/<run id>``."""
    return ScopedRunId(run_id if tenant == DEFAULT_TENANT else f"{tenant}/{run_id}")


def split_run_id(scoped: str) -> tuple[str, str]:
    """(tenant, run id) of a scoped run id."""
    tenant, slash, run_id = scoped.partition("/")
    return (tenant, run_id) if slash else (DEFAULT_TENANT, scoped)


def session_key(tenant: str, session_id: str) -> SessionKey:
    """``<tenant>/<percent-encoded session id>``: printable, unambiguous, free of separators."""
    return SessionKey(f"{tenant}/{quote(session_id, safe='')}")


def split_session_key(key: str) -> tuple[str, str]:
    """(tenant, session id) of a session key."""
    tenant, _, encoded = key.partition("/")
    return tenant, unquote(encoded)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
