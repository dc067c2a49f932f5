"""A run's final output as the class that its request asked for: on the wire it is JSON."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.contracts.stream import RunStreamChunk
from runtime_core.errors import OutputValidationError
from runtime_core.wording import in_words

#: As in a RunRequest: a class; or a JSON schema or None, for both of which the output stays as it is.
OutputType: TypeAlias = type[BaseModel] | dict[str, Any] | None


def in_class(result: RunResult, output_type: OutputType) -> RunResult:
    """``result`` with an instance of ``output_type`` as final output, if it completed. Raises OutputValidationError."""
    if not isinstance(output_type, type) or result.stop_reason is not StopReason.COMPLETED:
        return result
    try:
        return result.model_copy(update={"final_output": output_type.model_validate(result.final_output)})
    except ValidationError as error:
        raise OutputValidationError(
            f"the output of run {result.run_id} is no {output_type.__name__}: {in_words(error)}",
            hint="a rule that JSON schema cannot say is not known to the worker; ask for the result without a class",
            run_id=result.run_id,
        ) from error


def chunk_in_class(chunk: RunStreamChunk, output_type: OutputType) -> RunStreamChunk:
    """``in_class`` for the terminal chunk; others are passed on."""
    if chunk.result is None:
        return chunk
    return chunk.model_copy(update={"result": in_class(chunk.result, output_type)})
