"""A tool made of a function: the signature becomes the JSON schema, the docstring the description.

Two kinds of function are tools: ``add(left: int, right: int)``, whose parameters are those of the tool (one that is
named ``context`` or ``ctx`` gets the RunContext and does not appear in the schema), and ``add(params, context)`` of
openagents, which gets the mapping as the model wrote it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from runtime_core.config.problems import describe_problems
from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import PluginLoadError, ToolValidationError

_CONTEXT_NAMES = ("context", "ctx")
_NAME, _DESCRIPTION = "__runlane_tool_name__", "__runlane_tool_description__"


def describe_as(plugin: Any, name: str | None, description: str) -> None:
    """Set the name and description that the model sees; None and an empty text leave them."""
    is_class = isinstance(plugin, type)
    if name:
        setattr(plugin, "name" if is_class else _NAME, name)
    if description:
        setattr(plugin, "description" if is_class else _DESCRIPTION, description)


def check_params(model: type[BaseModel], params: Any, *, tool: str) -> BaseModel:
    """``params`` as ``model``. Raises ToolValidationError with a line per field, made for a model to act on."""
    if params is None:
        params = {}
    if not isinstance(params, Mapping):
        raise ToolValidationError(
            f"{tool}: the parameters are a {type(params).__name__}, not an object", hint=_expected(model), tool_id=tool
        )
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise ToolValidationError(
            f"{tool}: {describe_problems(error, model)}", hint=_expected(model), tool_id=tool
        ) from error


def function_tool(function: Callable[..., Any]) -> FunctionTool:
    """The tool that calls ``function``. Raises PluginLoadError if its signature cannot be a JSON object."""
    return AsyncFunctionTool(function) if inspect.iscoroutinefunction(function) else FunctionTool(function)


class FunctionTool:
    """A plain function as a tool; its ``invoke`` is plain too, so that the host runs it in a thread."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.config: dict[str, Any] = {}
        self._function = function
        self.name: str = getattr(function, _NAME, function.__name__)
        self.description: str = getattr(function, _DESCRIPTION, inspect.getdoc(function) or "")
        parameters = inspect.signature(function).parameters
        self._context_name = next((name for name in parameters if name in _CONTEXT_NAMES), None)
        #: None for the openagents kind, which takes the mapping as it is.
        self._model = None if list(parameters)[:1] == ["params"] and len(parameters) == 2 else self._parameters_model()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description, "parameters": self.schema()}

    def schema(self) -> dict[str, Any]:
        return {"type": "object"} if self._model is None else self._model.model_json_schema()

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec()

    def invoke(self, params: dict[str, Any], context: Any) -> Any:
        positional, named = self._arguments(params, context)
        return self._function(*positional, **named)

    def _arguments(self, params: dict[str, Any], context: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._model is None:
            return (params, context), {}
        checked = check_params(self._model, params, tool=self.name)
        named = {field.alias or name: getattr(checked, name) for name, field in self._model.model_fields.items()}
        if self._context_name is not None:
            named[self._context_name] = context
        return (), named

    def _parameters_model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        try:
            hints = get_type_hints(self._function, include_extras=True)
            for position, (name, parameter) in enumerate(inspect.signature(self._function).parameters.items()):
                if name == self._context_name:
                    continue
                if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    raise TypeError(f"parameter {name!r} has no name of its own in a call")
                default = ... if parameter.default is parameter.empty else parameter.default
                # The alias keeps names such as "schema" and "_x" from meeting pydantic's own.
                fields[f"parameter_{position}"] = (hints.get(name, Any), Field(default, alias=name, title=name))
            model = create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)
            model.model_json_schema()
        except Exception as error:
            raise PluginLoadError(
                f"function {self._function.__qualname__!r} cannot be a tool: {error}",
                hint="give each parameter a name and a type that JSON can express",
            ) from error
        return model


class AsyncFunctionTool(FunctionTool):
    """A coroutine function as a tool."""

    async def invoke(self, params: dict[str, Any], context: Any) -> Any:
        positional, named = self._arguments(params, context)
        return await self._function(*positional, **named)


def _expected(model: type[BaseModel]) -> str:
    names = [
        (field.alias or name) + ("" if field.is_required() else " (optional)")
        for name, field in model.model_fields.items()
    ]
    return f"parameters: {', '.join(names) or 'none'}"
