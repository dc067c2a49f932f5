"""What may be shown, logged or exported: URLs without their passwords, values without what their keys call secret."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, cast

from pydantic import BaseModel

from runtime_core.wording import well_formed

#: Up to the last @, for a password that was not percent-encoded may hold any character.
_USER_INFO = re.compile(r"(?<=://)([^/@:]*):.*@")
_QUERY_PASSWORD = re.compile(r"([?&](?:sentinel_)?password=)[^&]*")

#: Names of keys whose values are secret unless somebody says otherwise: those of the openagents SDK, and more.
SECRET_KEYS = (
    *("api_key", "authorization", "token", "secret", "password"),
    *("apikey", "access_key", "secret_key", "private_key", "passwd", "passphrase", "credentials", "cookie"),
)
REDACTED = "***"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: Levels of containers; deeper ones are named by their type.
_MAX_DEPTH = 20


def redacted_url(url: str) -> str:
    """``url`` with ``***`` in place of its password. Takes any text, for a URL that is wrong must be shown too."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_INFO.sub(r"\1:***@", url))


def redacted(value: Any, *, keys: Iterable[str] = SECRET_KEYS, max_length: int) -> Any:
    """``value`` as JSON can hold it, with ``***`` for the values of secret keys, and long texts cut.

    A key is secret if it is one of ``keys`` or ends with one as a word of its own, whatever its spelling: ``X-Api-Key``
    and ``openaiApiKey`` for ``api_key``, but not ``tokens`` for ``token``. ``max_length`` is in characters. What JSON
    does not know becomes its text, models and dataclasses become objects; a container within itself is cut.
    """
    return _Walk([_spelling(key) for key in keys], max_length).value(value, ())


class _Walk:
    def __init__(self, keys: list[str], max_length: int) -> None:
        self._keys = keys
        self._max_length = max_length

    def value(self, value: Any, above: tuple[int, ...]) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._cut(value)
        if id(value) in above or len(above) >= _MAX_DEPTH:
            return f"<{type(value).__name__}>"
        inside = (*above, id(value))
        if isinstance(value, BaseModel):
            value = {name: getattr(value, name, None) for name in type(value).model_fields}
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {
                well_formed(_text(key)): REDACTED if self._secret(key) else self.value(item, inside)
                for key, item in cast("Mapping[Any, Any]", value).items()
            }
        if isinstance(value, list | tuple | Set):
            return [self.value(item, inside) for item in cast("Iterable[Any]", value)]
        return self._cut(_text(value))

    def _secret(self, key: Any) -> bool:
        spelling = f"_{_spelling(_text(key))}"
        return any(spelling.endswith(f"_{secret}") for secret in self._keys)

    def _cut(self, text: str) -> str:
        more = len(text) - self._max_length
        text = well_formed(text)
        return text if more <= 0 else f"{text[: self._max_length]}… ({more} characters more)"


def _spelling(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", key).lower()).strip("_")


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # somebody else's object: it is shown, not trusted
        return f"<{type(value).__name__}>"
