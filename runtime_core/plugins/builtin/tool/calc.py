"""Arithmetic without eval: the syntax tree is walked, and every intermediate result is bounded."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from pydantic import Field

from runtime_core.errors import ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters

#: Characters. The parser's time and the tree's depth grow with it.
_MAX_LENGTH = 500
#: Bits of an integer, in any step: about 1,200 digits. Python would compute 9**9**9 for hours.
_MAX_BITS = 4096

_Number = int | float
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


class CalcParameters(Parameters):
    expression: str = Field(
        min_length=1, max_length=_MAX_LENGTH, description="Numbers, parentheses and + - * / // % **, e.g. 2 + 3 * 4"
    )


class CalcTool(BuiltinTool[CalcParameters]):
    """``{"expression": "2 + 3 * 4"}`` → ``{"expression": …, "result": 14}``."""

    name = "calc"
    description = "Evaluate an arithmetic expression and return the result."
    Parameters = CalcParameters

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        expression = self.check(params).expression
        try:
            result = _evaluate(ast.parse(expression.strip(), mode="eval").body)
        except ZeroDivisionError as error:
            raise _refusal(f"{expression!r} divides by zero") from error
        except (SyntaxError, ValueError) as error:
            raise _refusal(f"{expression!r} is not an arithmetic expression: {error}") from error
        except OverflowError as error:
            raise _refusal(f"{expression!r} has a number that is too large") from error
        except (RecursionError, MemoryError) as error:
            raise _refusal(f"{expression!r} is nested too deeply") from error
        return {"expression": expression, "result": result}


def _evaluate(node: ast.expr) -> _Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _bounded(_UNARY[type(sign)](_evaluate(operand)))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _bounded(_power(_evaluate(left), _evaluate(right)))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _bounded(_BINARY[type(sign)](_evaluate(left), _evaluate(right)))
        case ast.BinOp(op=ast.BitXor()):
            raise ValueError("write ** for a power, not ^")
        case _:
            raise ValueError(f"only numbers and + - * / // % ** are allowed, not {type(node).__name__}")


def _power(base: _Number, exponent: _Number) -> _Number:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _MAX_BITS:
        # 0, 1 and -1 stay small whatever the exponent; their powers are still not worth a loop.
        if abs(base) > 1:
            raise OverflowError
        exponent = exponent % 2 + 2 if exponent > 0 else -(exponent % 2) - 2
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("a root of a negative number is not real")
    return result


def _bounded(value: Any) -> _Number:
    if isinstance(value, int):
        if value.bit_length() > _MAX_BITS:
            raise OverflowError
    elif not math.isfinite(value):
        raise OverflowError
    return value


def _refusal(message: str) -> ToolValidationError:
    return ToolValidationError(message, hint="allowed: numbers, parentheses, + - * / // % **", tool_id="calc")
