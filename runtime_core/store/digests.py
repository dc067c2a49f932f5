"""What makes two requests the same."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from runtime_core.contracts.run import RunRequest
from runtime_core.ids import digest

_canonical = json.JSONEncoder(sort_keys=True).encode


def request_digest(body: str) -> str:
    """Digest of a request's meaning: sorted JSON without defaults, run id, and hints that begin with ``__``."""
    fields: dict[str, Any] = json.loads(body)
    defaults = _defaults()
    meaning = {
        name: value for name, value in fields.items() if name != "run_id" and value != defaults.get(name, _REQUIRED)
    }
    meaning["context_hints"] = {
        name: value for name, value in fields["context_hints"].items() if not name.startswith("__")
    }
    return digest(_canonical(meaning).encode())


#: Stands for the default of a field that has none; equal to nothing that JSON can say.
_REQUIRED = object()


@cache
def _defaults() -> dict[str, Any]:
    """Field → its default, which nobody changes. A run id has none: it is another each time."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in RunRequest.model_fields.items()
        if not field.is_required() and name != "run_id"
    }
