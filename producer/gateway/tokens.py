"""Bearer tokens: who may do what, and for which tenant. A file or the environment holds their hashes, never them.

```yaml
tokens:
  - name: website
    hash: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    tenant: acme
    scopes: [runs:write, runs:read]
```

``runlane token`` makes one. Its 256 random bits need no slow hash: nothing can be guessed from a digest of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime_core.errors import ConfigError, InvalidInputError
from runtime_core.ids import check_name
from runtime_core.wording import in_words

logger = logging.getLogger(__name__)

#: Seconds between two looks at the file: a token that is taken out of it is refused by then.
LOOK_EVERY_S = 2.0
_PREFIX = "rl_"
_HASH = r"^sha256:[0-9a-f]{64}$"


class Scope(StrEnum):
    RUNS_READ = "runs:read"
    #: Submit and cancel.
    RUNS_WRITE = "runs:write"
    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    AGENTS_READ = "agents:read"
    METRICS = "metrics"


def _tenant(value: str) -> str:
    try:
        return check_name("tenant", value)
    except InvalidInputError as error:
        raise ValueError(str(error)) from error


class Token(BaseModel):
    """What a token may do. ``name`` stands in logs in its place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    hash: Annotated[str, Field(pattern=_HASH)]
    tenant: Annotated[str, AfterValidator(_tenant)]
    scopes: frozenset[Scope]


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: tuple[Token, ...]

    @model_validator(mode="after")
    def _no_doubles(self) -> Self:
        for what in ("name", "hash"):
            values = [getattr(token, what) for token in self.tokens]
            double = next((value for value in values if values.count(value) > 1), None)
            if double is not None:
                raise ValueError(f"two tokens have the {what} {double!r}")
        return self


def new_token(name: str, tenant: str, scopes: frozenset[Scope]) -> tuple[str, Token]:
    """A secret to hand out once, and what to write down of it. Raises InvalidInputError."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        return secret, Token(name=name, hash=hash_of(secret), tenant=tenant, scopes=scopes)
    except ValidationError as error:
        raise InvalidInputError(f"the token cannot be made: {in_words(error)}") from error


def hash_of(secret: str) -> str:
    return f"sha256:{hashlib.sha256(secret.encode(errors='surrogateescape')).hexdigest()}"


def read_tokens(text: str, *, where: str) -> dict[str, Token]:
    """Hash → token, of a file's text (YAML or JSON). Raises ConfigError that names the entry and the field."""
    try:
        value: Any = yaml.safe_load(text)
        tokens = _TokenFile.model_validate({"tokens": value} if isinstance(value, list) else value).tokens
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(
            f"the tokens in {where} cannot be read: {in_words(error)}",
            hint="an entry has name, hash (sha256:…), tenant, scopes: `runlane token` makes one",
        ) from None  # pydantic's own text may show what stands there
    return {token.hash: token for token in tokens}


class TokenTable:
    """The tokens that are taken now. Raises ConfigError at first if they cannot be read; later the old ones stay."""

    def __init__(self, *, file: Path | None = None, inline: str | None = None) -> None:
        self._file = file
        self._inline = {} if inline is None else read_tokens(inline, where="RUNLANE_GATEWAY_TOKENS")
        self._from_file: Mapping[str, Token] = {}
        self._seen: object = None
        self._looked = 0.0
        self.configured = file is not None or inline is not None
        if file is not None:
            self._from_file, self._seen = _read_file(file), _version_of(file)
            self._looked = time.monotonic()

    def find(self, secret: str) -> Token | None:
        self._look_again()
        digest = hash_of(secret)
        return self._inline.get(digest) or self._from_file.get(digest)

    def _look_again(self) -> None:
        """Take over a file that has changed."""
        if self._file is None or time.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        version = _version_of(self._file)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._from_file = _read_file(self._file)
            logger.info("%d tokens were read again from %s", len(self._from_file), self._file)
        except ConfigError as error:
            logger.error("the tokens stay as they were: %s", error)


def _read_file(file: Path) -> dict[str, Token]:
    try:
        return read_tokens(file.read_text(encoding="utf-8-sig"), where=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the tokens in {file} cannot be read: {error}", hint="give the path of a text file"
        ) from None


def _version_of(file: Path) -> object:
    try:
        status = file.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
    except OSError:
        return None


def entry_of(token: Token) -> str:
    """The entry for the file, as YAML that is JSON."""
    return json.dumps([token.model_dump(mode="json") | {"scopes": sorted(token.scopes)}])[1:-1]
