"""Random numbers, choices, texts and UUIDs: from the system's generator, or repeatable from a seed."""

from __future__ import annotations

import random
import secrets
import string
import uuid
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters

#: Values in one result.
_MAX_COUNT = 100
#: JSON numbers beyond 2^53 lose digits in many readers.
_MAX_INT = 2**53


class SeededParameters(Parameters):
    seed: int | None = Field(None, description="The same seed gives the same values; leave it out for secure ones")

    def generator(self) -> random.Random:
        return secrets.SystemRandom() if self.seed is None else random.Random(self.seed)


class RandomIntParameters(SeededParameters):
    min: int = Field(0, ge=-_MAX_INT, le=_MAX_INT, description="The least value")
    max: int = Field(100, ge=-_MAX_INT, le=_MAX_INT, description="The greatest value")
    count: int = Field(1, ge=1, le=_MAX_COUNT, description="How many values")

    @model_validator(mode="after")
    def _in_order(self) -> RandomIntParameters:
        if self.min > self.max:
            raise ValueError("min must not be greater than max")
        return self


class RandomIntTool(BuiltinTool[RandomIntParameters]):
    """``{"min": 1, "max": 6}`` → ``{"value": 4}``; with a count above 1 → ``{"values": [4, 2, …]}``."""

    name = "random_int"
    description = "Return random integers between two bounds, both included."
    Parameters = RandomIntParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        generator = given.generator()
        return _one_or_more("value", [generator.randint(given.min, given.max) for _ in range(given.count)])


class RandomChoiceParameters(SeededParameters):
    choices: list[Any] = Field(min_length=1, max_length=10_000, description="What to choose from")
    count: int = Field(1, ge=1, description="How many to choose; none is chosen twice")

    @model_validator(mode="after")
    def _enough(self) -> RandomChoiceParameters:
        if self.count > len(self.choices):
            raise ValueError(f"count must be at most {len(self.choices)}, the number of choices")
        return self


class RandomChoiceTool(BuiltinTool[RandomChoiceParameters]):
    """``{"choices": ["a", "b"]}`` → ``{"value": "b"}``; with a count above 1 → ``{"values": ["b", "a"]}``."""

    name = "random_choice"
    description = "Choose from a list at random, without choosing an element twice."
    Parameters = RandomChoiceParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        return _one_or_more("value", given.generator().sample(given.choices, given.count))


class Charset(StrEnum):
    ALPHANUMERIC = "alphanumeric"
    ALPHA = "alpha"
    NUMERIC = "numeric"
    HEX = "hex"
    ASCII = "ascii"


_CHARACTERS = {
    Charset.ALPHANUMERIC: string.ascii_letters + string.digits,
    Charset.ALPHA: string.ascii_letters,
    Charset.NUMERIC: string.digits,
    Charset.HEX: "0123456789abcdef",
    Charset.ASCII: string.ascii_letters + string.digits + "!@#$%^&*",
}


class RandomStringParameters(SeededParameters):
    length: int = Field(16, ge=1, le=1000, description="Number of characters")
    charset: Charset = Field(Charset.ALPHANUMERIC, description="Which characters")


class RandomStringTool(BuiltinTool[RandomStringParameters]):
    """``{"length": 4, "charset": "hex"}`` → ``{"value": "9f3a", "length": 4}``."""

    name = "random_string"
    description = "Return a random text of letters, digits or other characters."
    Parameters = RandomStringParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        value = "".join(given.generator().choices(_CHARACTERS[given.charset], k=given.length))
        return {"value": value, "length": given.length}


class UuidParameters(Parameters):
    version: Literal[1, 4] = Field(4, description="4: random; 1: made of the time")
    count: int = Field(1, ge=1, le=_MAX_COUNT, description="How many")


class UuidTool(BuiltinTool[UuidParameters]):
    """``{}`` → ``{"uuid": "…"}``; with a count above 1 → ``{"uuids": ["…", …]}``."""

    name = "uuid"
    description = "Return new UUIDs."
    Parameters = UuidParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        # A random node instead of the host's network address; its multicast bit marks it as such (RFC 9562, 6.10).
        node = secrets.randbits(48) | 1 << 40
        made = [str(uuid.uuid4() if given.version == 4 else uuid.uuid1(node)) for _ in range(given.count)]
        return _one_or_more("uuid", made)


def _one_or_more(name: str, values: list[Any]) -> dict[str, Any]:
    return {name: values[0]} if len(values) == 1 else {f"{name}s": values}
