"""What makes two requests the same."""

from __future__ import annotations

import json
from typing import Any

from runtime_core.contracts.run import RunRequest
from runtime_core.ids import digest


def request_digest(body: str) -> str:
    """Digest of a request's meaning: sorted JSON without defaults, run id, and hints that begin with ``__``."""
    fields: dict[str, Any] = json.loads(body)
    hints = {name: value for name, value in fields.pop("context_hints").items() if not name.startswith("__")}
    meaning = {
        name: value
        for name, value in fields.items()
        if name != "run_id" and value != RunRequest.model_fields[name].get_default(call_default_factory=True)
    }
    return digest(json.dumps(meaning | {"context_hints": hints}, sort_keys=True).encode())
