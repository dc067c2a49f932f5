"""What the builtin tools have in common: parameters as a pydantic model, and the JSON schema that follows from it."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.plugins.function_tool import check_params
from runtime_core.plugins.typed_config import TypedConfig


class Parameters(BaseModel):
    """Base of a tool's parameters. An unknown name is refused with a near match: the model can then correct itself."""

    model_config = ConfigDict(extra="forbid")


ParametersT = TypeVar("ParametersT", bound=Parameters)


@cache
def _schema_of(parameters: type[Parameters]) -> dict[str, Any]:
    """Made once: it takes longer than a step of a run without a model. Whoever gets it leaves it as it is."""
    return parameters.model_json_schema()


#: Milliseconds that a tool with a time limit of its own gets beyond it: it says more about its end than an executor.
_MORE_MS = 5_000


def limit_beyond(seconds: float) -> int:
    """The ``default_timeout_ms`` of a tool that ends itself after so many seconds."""
    return round(seconds * 1000) + _MORE_MS


class NoConfig(BaseModel):
    pass


class BuiltinTool(TypedConfig, Generic[ParametersT]):
    """A tool with a name, a description for the model, and ``Parameters``; a subclass adds ``invoke``."""

    name: ClassVar[str]
    description: ClassVar[str]
    Parameters: ClassVar[type[Parameters]]
    Config = NoConfig
    #: Whether calling it twice does no more than calling it once; those that change something say no.
    durable_idempotent: ClassVar[bool] = True

    def check(self, params: Any) -> ParametersT:
        """``params`` as the model wrote them → checked; raises ToolValidationError."""
        return cast(ParametersT, check_params(self.Parameters, params, tool=self.name))

    def schema(self) -> dict[str, Any]:
        return _schema_of(self.Parameters)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.schema()}

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="none")
