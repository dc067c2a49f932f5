"""An MCP server of the standard library alone, on its standard streams: it starts fifty times as fast.

It tells its process id, so that a test can tell one process from another and end it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
_NAME = {"type": "object", "properties": {"variable": {"type": "string"}}}
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}

#: name → (description, schema)
TOOLS = {
    "add": ("Add two numbers.", _NUMBERS),
    "fail": ("Fail.", _NOTHING),
    "lines": ("So many lines.", _NUMBERS),
    "pid": ("The id of the server's process.", _NOTHING),
    "variable": ("A variable of the server's environment.", _NAME),
    "wait": ("Never come back.", _NOTHING),
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result; None for what is not known."""
    match method:
        case "initialize":
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "plain", "version": "1"},
            }
        case "tools/list":
            tools = [
                {"name": name, "description": description, "inputSchema": schema}
                for name, (description, schema) in TOOLS.items()
            ]
            return {"tools": tools}
        case "tools/call":
            return call(params["name"], params.get("arguments") or {})
        case _:
            return None


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "add":
            text = str(arguments["a"] + arguments["b"])
        case "lines":
            lines = [f"line {number}" for number in range(arguments["a"])]
            return {
                "content": [{"type": "text", "text": line} for line in lines],
                "structuredContent": {"lines": lines},
            }
        case "pid":
            text = str(os.getpid())
        case "variable":
            text = os.environ.get(arguments["variable"], "(unset)")
        case _:
            return {"content": [{"type": "text", "text": "it rains"}], "isError": True}
    return {"content": [{"type": "text", "text": text}]}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or message.get("params", {}).get("name") == "wait":
            continue
        result = answer(message["method"], message.get("params") or {})
        said = {"error": {"code": -32601, "message": "unknown method"}} if result is None else {"result": result}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
