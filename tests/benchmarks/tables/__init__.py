"""The tables, in the order in which they are measured. Each is a module that can be read alone."""

from __future__ import annotations

from tests.benchmarks.harness.table import Table
from tests.benchmarks.tables import (
    awaiting,
    commands,
    conversation,
    first_chunk,
    flat,
    idle,
    sse,
    stream,
    submit,
    throughput,
    workers,
)

_MODULES = (
    *(throughput, submit, first_chunk, awaiting, stream, sse),
    *(idle, commands, flat, workers, conversation),
)
TABLES: dict[str, Table] = {module.TABLE.name: module.TABLE for module in _MODULES}
