"""The agents file: which agents there are and which plugins they are made of.

The fields are those of the openagents SDK 0.4, so that its ``agent.json`` loads unchanged. Numbers and booleans may
stand as text, since that is what ``${VAR}`` gives.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from runtime_core.config.problems import describe_problems
from runtime_core.contracts.run import RunBudget
from runtime_core.redaction import SECRET_KEYS
from runtime_core.suggestions import near_match

logger = logging.getLogger(__name__)

_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")
#: Providers with rules of their own. Any other name is looked up among those of pydantic-ai when the client is built.
_PROVIDERS = ("anthropic", "litellm", "mock", "openai_compatible")


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _none_if_blank(value: Any) -> Any:
    return _stripped(value) or None if isinstance(value, str) else value


def _empty_if_none(value: Any) -> Any:
    return {} if value is None else value


def _none_if_default(value: Any) -> Any:
    return None if value == {"type": "default"} else value


def _level(value: Any) -> str:
    name = str(value).upper()
    if name not in _LEVELS:
        raise ValueError(f"not a log level; use one of {', '.join(_LEVELS)}")
    return name


Text = Annotated[str, BeforeValidator(_stripped), Field(min_length=1)]
Identifier = Annotated[str, BeforeValidator(_stripped), Field(min_length=1, max_length=128)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_blank)]
Options = Annotated[dict[str, Any], BeforeValidator(_empty_if_none)]
Level = Annotated[str, BeforeValidator(_level)]
Price = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class PluginRef(_Section):
    """Names a plugin: ``type`` (builtin, or registered by a decorator) or ``impl`` (``module.Class``), exactly one."""

    type: OptionalText = None
    impl: OptionalText = None
    config: Options = Field(default_factory=dict)

    @model_validator(mode="after")
    def _exactly_one_selector(self) -> Self:
        if self.type and self.impl:
            raise ValueError(f"has both type {self.type!r} and impl {self.impl!r}; keep one of them")
        if not self.type and not self.impl:
            raise ValueError("names no plugin; set 'type' to a builtin's name, or 'impl' to 'module.Class'")
        return self


class MemoryRef(PluginRef):
    #: Whether a failing memory fails the run.
    on_error: Literal["continue", "fail"] = "continue"


class PatternRef(PluginRef):
    pass


class ToolRef(PluginRef):
    id: Identifier
    enabled: bool = True


class ToolExecutorRef(PluginRef):
    pass


class ContextAssemblerRef(PluginRef):
    pass


class DefaultRuntimeConfig(BaseModel):
    """Config of the runtime ``default``: what an agent has that names none of its own."""

    model_config = ConfigDict(hide_input_in_errors=True)

    tool_executor: Annotated[ToolExecutorRef | None, BeforeValidator(_none_if_default)] = None
    context_assembler: Annotated[ContextAssemblerRef | None, BeforeValidator(_none_if_default)] = None


class RuntimeRef(PluginRef):
    @property
    def given_to_agents(self) -> DefaultRuntimeConfig:
        """Empty for another runtime than ``default``, whose config is its own affair. Raises ValidationError."""
        return DefaultRuntimeConfig.model_validate(self.config if self.type == "default" else {})


class SessionRef(PluginRef):
    pass


class EventBusRef(PluginRef):
    pass


class SkillsRef(PluginRef):
    pass


class DiagnosticsRef(PluginRef):
    error_snapshot_last_n: NonNegativeInt = 10
    redact_keys: list[str] = Field(default_factory=lambda: list(SECRET_KEYS))


class MultiAgentConfig(_Section):
    enabled: bool = False
    default_session_isolation: Literal["shared", "isolated", "forked"] = "isolated"
    max_delegation_depth: PositiveInt = 5
    default_child_budget: RunBudget | None = None


class RuntimeOptions(_Section):
    """``step_timeout_ms`` bounds the whole run, in milliseconds: its name is the original's."""

    max_steps: PositiveInt = 16
    step_timeout_ms: PositiveInt = 30_000
    session_queue_size: PositiveInt = 1000
    event_queue_size: PositiveInt = 2000


class LLMPricing(_Section):
    """USD per million tokens."""

    input: Price | None = None
    output: Price | None = None
    cached_read: Price | None = None
    cached_write: Price | None = None


class LLMRetryOptions(_Section):
    max_attempts: PositiveInt = 3
    initial_backoff_ms: PositiveInt = 500
    max_backoff_ms: PositiveInt = 5000
    backoff_multiplier: float = Field(default=2.0, ge=1.0)
    retry_on_connection_errors: bool = True
    total_budget_ms: PositiveInt | None = None


class LLMOptions(BaseModel):
    """Which model answers. Fields that are not listed here are kept and handed to the provider."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    provider: Annotated[Text, BeforeValidator(lambda value: "mock" if value is None else value)] = "mock"
    model: OptionalText = None
    api_base: OptionalText = None
    #: Name of the environment variable that holds the key; never the key.
    api_key_env: OptionalText = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    max_tokens: PositiveInt | None = None
    timeout_ms: PositiveInt = 30_000
    stream_endpoint: OptionalText = None
    pricing: LLMPricing | None = None
    retry: LLMRetryOptions | None = None
    extra_headers: dict[Text, str] | None = None
    reasoning_model: bool | None = None
    openai_api_style: Literal["chat_completions", "responses"] | None = None

    @field_validator("provider")
    @classmethod
    def _refuse_misspelled_provider(cls, value: str) -> str:
        if value not in _PROVIDERS:
            match = near_match(value, _PROVIDERS, similarity=0.8)
            if match is not None:
                raise ValueError(f"unknown provider. Did you mean {match!r}?")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.provider == "openai_compatible" and not self.api_base:
            raise ValueError("provider 'openai_compatible' needs 'api_base', the URL of the server")
        for name in self.model_extra or {}:
            if name == "api_key":
                logger.warning("llm.api_key has no effect; name the variable that holds the key in llm.api_key_env")
                continue
            match = near_match(name, type(self).model_fields, similarity=0.8)
            if match is not None:
                logger.warning("llm.%s is handed to the provider as it is; did you mean %r?", name, match)
        return self


def _unique_ids(tools: list[ToolRef]) -> list[ToolRef]:
    _refuse_duplicates("tool", [tool.id for tool in tools])
    return tools


class AgentDefinition(_Section):
    id: Identifier
    name: Text
    memory: MemoryRef
    pattern: PatternRef
    llm: LLMOptions | None = None
    tool_executor: ToolExecutorRef | None = None
    context_assembler: ContextAssemblerRef | None = None
    tools: Annotated[
        list[ToolRef],
        BeforeValidator(lambda value: [] if value is None else value),
        AfterValidator(_unique_ids),
    ] = Field(default_factory=list[ToolRef])
    runtime: RuntimeOptions = Field(default_factory=RuntimeOptions)


class LoggingSink(_Section):
    """A loguru sink of the original; accepted so that its files load."""

    target: str
    level: Level = "INFO"
    format: str | None = None
    serialize: bool = False
    colorize: bool | None = None
    rotation: str | None = None
    retention: str | None = None
    compression: str | None = None
    enqueue: bool = False
    filter_include: list[str] | None = None


class LoggingConfig(_Section):
    """Logging is configured only if ``auto_configure`` says so; ``max_value_length`` is in characters."""

    auto_configure: bool = False
    level: Level = "INFO"
    per_logger_levels: Annotated[dict[str, Level], BeforeValidator(_empty_if_none)] = Field(default_factory=dict)
    pretty: bool = False
    stream: Literal["stdout", "stderr"] = "stderr"
    include_prefixes: list[str] | None = None
    exclude_prefixes: list[str] = Field(default_factory=list)
    redact_keys: list[str] = Field(default_factory=lambda: list(SECRET_KEYS))
    max_value_length: PositiveInt = 500
    show_time: bool = True
    show_path: bool = False
    loguru_sinks: list[LoggingSink] = Field(default_factory=list[LoggingSink])

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        if self.pretty and self.loguru_sinks:
            raise ValueError("pretty and loguru_sinks exclude each other; use a sink with 'colorize: true' instead")
        return self


class AppConfig(_Section):
    """The whole file."""

    version: Annotated[str, BeforeValidator(lambda value: "1.0" if value is None else str(value).strip())] = "1.0"
    agents: list[AgentDefinition]
    runtime: RuntimeRef = Field(default_factory=lambda: RuntimeRef(type="default"))
    session: SessionRef = Field(default_factory=lambda: SessionRef(type="in_memory"))
    events: EventBusRef = Field(default_factory=lambda: EventBusRef(type="async"))
    skills: SkillsRef = Field(default_factory=lambda: SkillsRef(type="local"))
    logging: LoggingConfig | None = None
    diagnostics: DiagnosticsRef | None = None
    multi_agent: MultiAgentConfig | None = None

    @field_validator("agents")
    @classmethod
    def _at_least_one_and_unique(cls, agents: list[AgentDefinition]) -> list[AgentDefinition]:
        if not agents:
            raise ValueError("at least one agent is needed")
        _refuse_duplicates("agent", [agent.id for agent in agents])
        return agents

    @field_validator("runtime")
    @classmethod
    def _check_config_of_default(cls, runtime: RuntimeRef) -> RuntimeRef:
        try:
            _ = runtime.given_to_agents
        except ValidationError as error:
            raise ValueError(describe_problems(error, DefaultRuntimeConfig, root="config")) from error
        return runtime

    @model_validator(mode="after")
    def _give_to_agents_what_they_do_not_name(self) -> Self:
        given = self.runtime.given_to_agents
        for agent in self.agents:
            agent.tool_executor = agent.tool_executor or given.tool_executor
            agent.context_assembler = agent.context_assembler or given.context_assembler
        return self

    @property
    def agents_by_id(self) -> dict[str, AgentDefinition]:
        return {agent.id: agent for agent in self.agents}


def _refuse_duplicates(kind: str, ids: list[str]) -> None:
    for position, name in enumerate(ids):
        first = ids.index(name)
        if first != position:
            raise ValueError(f"{kind} id {name!r} stands at [{first}] and at [{position}]; give each its own id")
