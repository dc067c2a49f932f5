"""A version of the agents config, as the registry of the fleet keeps it."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict

from runtime_core.ids import digest


class ConfigFormat(StrEnum):
    YAML = "yaml"
    JSON = "json"


class ConfigText(BaseModel):
    """An agents file as it was written: ``${VAR}`` stands in it as it is, each worker expands it with its own
    environment. So secrets stay out of the registry.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    format: ConfigFormat = ConfigFormat.YAML

    @property
    def digest(self) -> str:
        return digest(f"{self.format}:{self.text}".encode())

    @classmethod
    def named(cls, name: str, text: str) -> Self:
        """The content of a file of that name: JSON if it ends in ``.json``, else YAML."""
        return cls(text=text, format=ConfigFormat.JSON if name.lower().endswith(".json") else ConfigFormat.YAML)


class ConfigVersion(BaseModel):
    """What the registry says of a version. ``created_ms`` is by the clock of Redis."""

    model_config = ConfigDict(frozen=True)

    version: int
    current: bool
    digest: str
    #: Who pushed it, as far as known: user@host, or the worker whose agents file it was.
    author: str
    #: Where it came from: a file's path, ``rollback to 3``, …
    source: str
    created_ms: int
