"""What a run returns must be JSON where it leaves the process."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from runtime_core.contracts.run import ErrorDetails, RunArtifact, RunResult, StopReason
from runtime_core.errors import ExecutionError


def json_value(value: Any, *, what: str) -> Any:
    """``value`` as JSON holds it (models become objects, datetimes text). Raises ExecutionError that names the type."""
    try:
        plain = to_jsonable_python(value)
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()  # a lone surrogate is no Unicode text
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise ExecutionError(
            f"{what} is not JSON: {type(value).__name__}: {_brief(error)}",
            hint="return text, numbers, lists, mappings with text keys, or pydantic models",
        ) from error
    return plain


def json_artifact(artifact: RunArtifact) -> RunArtifact:
    """``artifact`` with payload and metadata as JSON. Raises ExecutionError that names the artifact."""
    parts = {"payload": artifact.payload, "metadata": artifact.metadata}
    return artifact.model_copy(
        update={
            name: json_value(value, what=f"the {name} of artifact {artifact.name!r}") for name, value in parts.items()
        }
    )


def json_output(result: RunResult) -> RunResult:
    """``result`` with everything in it as JSON, or the failed result of a run whose output JSON cannot hold.

    Parts that are not JSON are dropped from a failed result, so that it can always be stored.
    """
    try:
        return result.model_copy(
            update={
                "final_output": json_value(result.final_output, what="the final output"),
                "artifacts": [json_artifact(artifact) for artifact in result.artifacts],
                "metadata": json_value(result.metadata, what="the result's metadata"),
            }
        )
    except ExecutionError as error:
        error.with_context(run_id=result.run_id)
        return result.model_copy(
            update={
                "final_output": None,
                "artifacts": [],
                "metadata": {},
                "stop_reason": StopReason.FAILED,
                "error_details": ErrorDetails.from_exception(error),
            }
        )


def _brief(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
