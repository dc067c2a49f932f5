"""Output types that came as a JSON schema: the class that a pattern checks its output against."""

from __future__ import annotations

import json
from typing import Any, Self

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.exceptions import ValidationError as SchemaMismatch
from pydantic import BaseModel, RootModel, model_validator
from pydantic_core import PydanticCustomError
from referencing import Registry
from referencing.exceptions import Unresolvable

from runtime_core.errors import InvalidInputError


def class_of(output_type: type[BaseModel] | dict[str, Any] | None) -> type[BaseModel] | None:
    """``output_type`` itself, or the model whose value is what fits a schema of JSON Schema 2020-12.

    Raises InvalidInputError for a schema that is none. What it refers to must stand within it: nothing is fetched.
    """
    if not isinstance(output_type, dict):
        return output_type
    schema = output_type
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInputError(
            f"output_type is no JSON schema: {'.'.join(map(str, error.path)) or 'the schema'}: {error.message}",
            hint="send what a pydantic class gives as model_json_schema()",
        ) from error
    validator: Any = Draft202012Validator(schema, registry=Registry())

    class Output(RootModel[Any]):
        @model_validator(mode="after")
        def _fits(self) -> Self:
            try:
                problem: SchemaMismatch | None = next(validator.iter_errors(self.root), None)
            except Unresolvable as error:
                raise InvalidInputError(
                    f"output_type refers to {error.ref}, which it does not hold", hint="put it below $defs"
                ) from error
            if problem is not None:
                place = ".".join(map(str, problem.absolute_path)) or "output"
                raise PydanticCustomError("schema", "{problem}", {"problem": f"{place}: {problem.message[:500]}"})
            return self

        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return schema

    Output.__name__ = Output.__qualname__ = str(schema.get("title", "Output"))
    return Output


def instruction(output_type: type[BaseModel]) -> str:
    """What the model is told of it."""
    schema = json.dumps(output_type.model_json_schema(), ensure_ascii=False)
    return f"Answer with JSON that fits this schema, and with nothing else:\n{schema}"
