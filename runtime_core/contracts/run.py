"""A run: what is asked (RunRequest), what came of it (RunResult), and what the store says of it meanwhile (RunRecord).

The wire form of each is its JSON (``model_dump_json``); unknown fields of a request are refused with a near match, so
that a typing error does not silently lose an option.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)

from runtime_core.errors import InvalidInputError, RunlaneError
from runtime_core.ids import MAX_SESSION_ID_BYTES, NAME, check_name, check_session_id, new_run_id
from runtime_core.suggestions import did_you_mean
from runtime_core.wording import in_words

#: What ``check_name`` asks for, for those who read the JSON schema.
_RUN_ID_SCHEMA: dict[str, JsonValue] = {"pattern": f"^{NAME.pattern}$"}
_DEPS_SCHEMA: dict[str, JsonValue] = {
    "description": "A factory of the workers and what to call it with; its result is the run's deps.",
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "factory": {"type": "string", "minLength": 1, "maxLength": 256},
                "arguments": {"type": "object", "additionalProperties": True},
            },
            "required": ["factory"],
            "additionalProperties": False,
        },
        {"type": "null"},
    ],
}


class StopReason(StrEnum):
    """Why a run is finished; also the status of a finished run record."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    MAX_STEPS = "max_steps"
    BUDGET_EXHAUSTED = "budget_exhausted"
    DEAD_LETTER = "dead_letter"


#: ``run()`` raises for these; every other stop reason is an answer.
RAISING_STOP_REASONS = frozenset({StopReason.FAILED, StopReason.DEAD_LETTER})


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class RunBudget(BaseModel):
    """Limits of one run; None means no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_steps: PositiveInt | None = None
    #: Milliseconds from the start of the attempt.
    max_duration_ms: PositiveInt | None = None
    max_tool_calls: PositiveInt | None = None
    max_validation_retries: NonNegativeInt | None = 3
    max_cost_usd: NonNegativeFloat | None = None
    max_resume_attempts: NonNegativeInt | None = 3


class DepsFactory(BaseModel):
    """``deps`` that can travel: the name of a factory that the worker knows, and what to call it with.

    Its JSON, ``{"factory": "store", "arguments": {"region": "eu"}}``, means the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str = Field(min_length=1, max_length=256)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def of(cls, deps: Any) -> DepsFactory | None:
        """What ``deps`` names, or None if it is an object of its own: a mapping with other keys is one."""
        if isinstance(deps, DepsFactory):
            return deps
        if isinstance(deps, dict) and "factory" in deps and deps.keys() <= cls.model_fields.keys():
            try:
                return cls.model_validate(deps)
            except ValidationError:
                return None
        return None


class RunRequest(BaseModel):
    """One request to one agent.

    ``deps`` is any Python object in process; across processes it is a DepsFactory, and other objects stay behind.
    ``output_type`` is a class, or the JSON schema of one: that is what crosses to the fleet.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, json_schema_extra={"additionalProperties": False})

    agent_id: str = Field(min_length=1, max_length=128)
    session_id: str = Field(json_schema_extra={"minLength": 1, "maxLength": MAX_SESSION_ID_BYTES})
    input_text: str
    #: Submitting the same run id again returns the same run.
    run_id: str = Field(default_factory=new_run_id, json_schema_extra=_RUN_ID_SCHEMA)
    parent_run_id: str | None = Field(default=None, json_schema_extra=_RUN_ID_SCHEMA)
    metadata: dict[str, Any] = Field(default_factory=dict)
    context_hints: dict[str, Any] = Field(default_factory=dict)
    budget: RunBudget | None = None
    deps: Annotated[Any, WithJsonSchema(_DEPS_SCHEMA)] = Field(
        default=None, exclude_if=lambda deps: DepsFactory.of(deps) is None
    )
    output_type: type[BaseModel] | dict[str, Any] | None = None
    durable: bool = False
    resume_from_checkpoint: str | None = None
    #: Milliseconds after submit; a run that has not started by then ends with stop_reason timeout. None waits for ever.
    #: At most a year: beyond 2^53 the store could not count.
    queue_deadline_ms: Annotated[int, Field(ge=1, le=365 * 24 * 3_600_000)] | None = None
    #: Whether LLM deltas are produced. Without them the stream still has every other chunk.
    stream: bool = True

    @classmethod
    def of(cls, request: Any) -> Self:
        """``request`` itself, or one with the fields of what is no RunRequest of ours but of the openagents SDK.

        Raises ValidationError.
        """
        return request if isinstance(request, cls) else cls.model_validate(request, from_attributes=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = cls.model_fields
            for name in value:  # pyright: ignore[reportUnknownVariableType]
                if name not in known:
                    raise ValueError(
                        f"unknown field {name!r}. {did_you_mean(str(name), known)}Fields: {', '.join(known)}"
                    )
        return value  # pyright: ignore[reportUnknownVariableType]

    @field_serializer("output_type")
    def _schema(self, value: type[BaseModel] | dict[str, Any] | None) -> dict[str, Any] | None:
        return value.model_json_schema() if isinstance(value, type) else value

    @field_validator("run_id", "parent_run_id")
    @classmethod
    def _check_run_id(cls, value: str | None) -> str | None:
        try:
            return None if value is None else check_name("run id", value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @field_validator("session_id")
    @classmethod
    def _check_session_id(cls, value: str) -> str:
        try:
            return check_session_id(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error


def refuse_object_as_deps(request: RunRequest) -> None:
    """Raises InvalidInputError if its deps cannot go to another process."""
    if request.deps is not None and DepsFactory.of(request.deps) is None:
        raise InvalidInputError(
            "deps is a Python object and cannot travel to the fleet",
            hint='name a factory that the workers know, {"factory": "<name>", "arguments": {…}} with JSON values, '
            "or run the request with the in-process Runtime",
            run_id=request.run_id,
        )


class RunUsage(BaseModel):
    """What a run consumed, over all its attempts. Latencies and time to first token in milliseconds, cost in USD."""

    llm_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_cached: int = 0
    input_tokens_cache_creation: int = 0
    cost_usd: float | None = None
    cost_breakdown: dict[str, float] = Field(default_factory=dict)
    ttft_ms: float | None = None
    llm_latency_p50_ms: float | None = None
    llm_latency_p95_ms: float | None = None
    llm_retry_count: int = 0


class RunArtifact(BaseModel):
    name: str
    kind: str = "generic"
    payload: Any = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ErrorDetails(BaseModel):
    """An error as it travels: the same fields as ``RunlaneError.to_dict`` and up to three causes."""

    code: str
    message: str
    hint: str | None = None
    docs_url: str | None = None
    retryable: bool = False
    context: dict[str, Any] = Field(default_factory=dict)
    cause: ErrorDetails | None = None

    @classmethod
    def from_exception(cls, error: BaseException, *, depth: int = 3) -> Self:
        """Describe ``error`` and ``depth`` of its causes; a foreign exception gets the code ``error.unknown``."""
        if isinstance(error, RunlaneError):
            data = error.to_dict()
            details = cls(**{name: data[name] for name in cls.model_fields if name != "cause"})
        else:
            details = cls(code="error.unknown", message=in_words(error))
        if error.__cause__ is not None and depth > 0:
            details.cause = cls.from_exception(error.__cause__, depth=depth - 1)
        return details


class RunResult(BaseModel):
    """What came of a run. ``task_id`` is the Celery task id on the fleet, None in process.

    On the fleet ``metadata`` holds: worker, attempt, partition, config_version, cache_hit.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    run_id: str
    task_id: str | None = None
    final_output: Any = None
    stop_reason: StopReason = StopReason.COMPLETED
    usage: RunUsage = Field(default_factory=RunUsage)
    artifacts: list[RunArtifact] = Field(default_factory=list)
    error_details: ErrorDetails | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class RunRecord(BaseModel):
    """What the store says of a run now. Times are milliseconds since the epoch by the clock of Redis."""

    run_id: str
    tenant: str
    session_id: str
    agent_id: str
    partition: int
    state: RunState
    status: StopReason | None = None
    attempt: int = 0
    #: Sequence of the newest chunk.
    sequence: int = 0
    worker: str | None = None
    config_version: int | None = None
    crashes: int = 0
    interruptions: int = 0
    handovers: int = 0
    #: Crashes of its worker while another run was to blame.
    spared: int = 0
    #: Crashes in probation; the third is the last.
    charges: int = 0
    #: When it must have started.
    deadline_ms: int | None = None
    cancel_requested: bool = False
    #: ``approval:<call id>`` or ``run:<run id>``, while its attempt waits for that.
    waiting_for: str | None = None
    submitted_ms: int
    started_ms: int | None = None
    finished_ms: int | None = None
    result: RunResult | None = None
