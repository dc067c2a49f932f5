"""Any model provider, through pydantic-ai's direct streaming request. Only this package imports pydantic-ai."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from runtime_core.errors import (
    ConfigError,
    LLMConnectionError,
    LLMError,
    LLMRateLimitError,
    LLMResponseError,
)
from runtime_core.llm.protocol import LLMClient, LLMRequest, LLMResponse, LLMToolCall, LLMUsage, Message, TextDelta
from runtime_core.llm.providers import build_model

if TYPE_CHECKING:
    from runtime_core.config.schema import LLMOptions

#: HTTP statuses after which the same request may succeed.
_UNAVAILABLE = frozenset({408, 409, 425, 500, 502, 503, 504, 529})
#: Default models of providers whose options may leave the model out.
_DEFAULT_MODELS = {"anthropic": "claude-sonnet-4-5"}
#: Characters of a provider's own words in an error: enough for a sentence, too few for a page of HTML.
_QUOTED = 500
#: Characters. A shorter header value is no secret, and to blot it out would spoil the text around it.
_SECRET_LENGTH = 8


class ModelClient(LLMClient):
    """A provider by its name: ``openai_compatible``, ``anthropic``, ``litellm``, or any that pydantic-ai knows.

    The API key is read from the environment variable that ``api_key_env`` names; without that option the provider's
    own variable counts (OPENAI_API_KEY, ANTHROPIC_API_KEY, …). Retries are not made here. ``timeout_ms`` is how long
    the connection may be silent.
    """

    provider_name = "pydantic-ai"

    def __init__(self, options: LLMOptions) -> None:
        self._options = options
        self._models: dict[str, Model] = {}
        self.model_id = options.model or _DEFAULT_MODELS.get(options.provider, "")
        if not self.model_id:
            raise ConfigError(
                f"llm.model is missing for the provider {options.provider!r}",
                hint="name the model in the agent's llm section",
            )
        self._model(self.model_id)

    async def stream(self, request: LLMRequest) -> AsyncIterator[TextDelta | LLMResponse]:
        name = request.model or self.model_id
        model = self._model(name)
        try:
            async with model_request_stream(
                model,
                _to_messages(request.messages),
                model_settings=self._settings(request),
                model_request_parameters=_parameters(request.tools),
            ) as events:
                async for event in events:
                    if text := _text_of(event):
                        yield TextDelta(text=text)
                answer = events.get()
        except (ModelAPIError, UnexpectedModelBehavior, UserError) as error:
            unquotable = self._quoted(str(error)) != str(error)  # the cause would say it all the same
            raise _translated(error, name, self._quoted) from (None if unquotable else error)
        except (OSError, TimeoutError) as error:
            raise LLMConnectionError(f"the model {name} could not be reached: {error}") from error
        except Exception as error:  # what a server sends may be anything, and the libraries between trip over it
            raise LLMResponseError(f"the answer of the model {name} cannot be used: {type(error).__name__}") from error
        yield _from_answer(answer, name)

    async def close(self) -> None:
        """Close the providers' connections."""
        models, self._models = self._models, {}
        for model in models.values():
            close = getattr(getattr(model, "client", None), "close", None)
            if close is not None and inspect.isawaitable(closing := close()):
                await closing

    def _quoted(self, text: str) -> str:
        """``text`` of a provider, brief and without secrets: some servers repeat the headers that they refuse."""
        keys = [value for name, value in os.environ.items() if name.endswith("_API_KEY")]
        if self._options.api_key_env is not None:
            keys.append(os.environ.get(self._options.api_key_env, ""))
        for secret in (*keys, *(self._options.extra_headers or {}).values()):
            if len(secret) >= _SECRET_LENGTH:
                text = text.replace(secret, "***")
        return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"

    def _settings(self, request: LLMRequest) -> ModelSettings:
        options = self._options
        settings = cast("ModelSettings", {**(options.model_extra or {}), "timeout": options.timeout_ms / 1000})
        temperature = options.temperature if request.temperature is None else request.temperature
        if options.reasoning_model:
            temperature = None  # such a model refuses it
        max_tokens = options.max_tokens if request.max_tokens is None else request.max_tokens
        if temperature is not None:
            settings["temperature"] = temperature
        if max_tokens is not None:
            settings["max_tokens"] = max_tokens
        if options.extra_headers:
            settings["extra_headers"] = options.extra_headers
        return settings

    def _model(self, name: str) -> Model:
        if name not in self._models:
            self._models[name] = build_model(self._options, name)
        return self._models[name]


def _parameters(tools: list[dict[str, Any]]) -> ModelRequestParameters:
    functions = [tool["function"] for tool in tools]
    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=function["name"],
                description=function.get("description") or None,
                parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
            )
            for function in functions
        ],
        allow_text_output=True,
    )


def _to_messages(messages: list[Message]) -> list[ModelMessage]:
    """Neighbouring system, user and tool messages become one request, as providers with strict turns want it."""
    converted: list[ModelMessage] = []
    parts: list[ModelRequestPart] = []
    for message in messages:
        content = _text_content(message)
        match message["role"]:
            case "assistant":
                if parts:
                    converted.append(ModelRequest(parts=parts))
                    parts = []
                converted.append(ModelResponse(parts=_answer_parts(message, content)))
            case "system":
                parts.append(SystemPromptPart(content))
            case "tool":
                parts.append(
                    ToolReturnPart(
                        tool_name=message.get("name") or "", content=content, tool_call_id=message["tool_call_id"]
                    )
                )
            case _:
                parts.append(UserPromptPart(content))
    if parts:
        converted.append(ModelRequest(parts=parts))
    return converted


def _text_content(message: Message) -> str:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return json.dumps(content, ensure_ascii=False, default=str)


def _answer_parts(message: Message, content: str) -> list[ModelResponsePart]:
    parts: list[ModelResponsePart] = [TextPart(content)] if content else []
    for call in cast("list[dict[str, Any]]", message.get("tool_calls") or []):
        function = call["function"]
        parts.append(ToolCallPart(function["name"], args=function["arguments"], tool_call_id=call["id"]))
    return parts


def _text_of(event: object) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
        case _:
            return ""


def _from_answer(answer: ModelResponse, name: str) -> LLMResponse:
    calls = [_tool_call(part) for part in answer.parts if isinstance(part, ToolCallPart)]
    return LLMResponse(
        output_text="".join(part.content for part in answer.parts if isinstance(part, TextPart)),
        tool_calls=calls,
        usage=LLMUsage(
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            cached_tokens=answer.usage.cache_read_tokens,
            cache_creation_tokens=answer.usage.cache_write_tokens,
        ),
        model=answer.model_name or name,
        stop_reason=answer.finish_reason or "",
    )


def _tool_call(part: ToolCallPart) -> LLMToolCall:
    try:
        arguments = part.args_as_dict(raise_if_invalid=True)
    except (ValueError, AssertionError) as error:
        problem = f"the arguments of {part.tool_name} are no JSON object: {error}"
        return LLMToolCall(id=part.tool_call_id, name=part.tool_name, problem=problem)
    return LLMToolCall(id=part.tool_call_id, name=part.tool_name, arguments=arguments)


def _translated(error: Exception, name: str, quoted: Callable[[str], str]) -> LLMError:
    if isinstance(error, ModelHTTPError):
        wait_ms = None if error.retry_after is None else round(error.retry_after * 1000)
        if error.status_code == 429:
            return LLMRateLimitError(f"the provider limits requests to the model {name}", retry_after_ms=wait_ms)
        if error.status_code in _UNAVAILABLE:
            return LLMConnectionError(
                f"the provider of the model {name} failed with HTTP status {error.status_code}", retry_after_ms=wait_ms
            )
        return LLMResponseError(
            f"the provider refused the request to the model {name} with HTTP status {error.status_code}: "
            f"{quoted(str(error.body))}",
            hint="check the API key" if error.status_code in (401, 403) else "check llm.model and the request",
        )
    if isinstance(error, ModelAPIError):
        return LLMConnectionError(f"the connection to the model {name} failed: {quoted(error.message)}")
    return LLMResponseError(f"the answer of the model {name} cannot be used: {quoted(str(error))}")
