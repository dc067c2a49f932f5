"""The tables, in the order in which they are measured. Each is a module that can be read alone."""

from __future__ import annotations

from tests.benchmarks.harness.table import Table
from tests.benchmarks.tables import awaiting, commands, first_chunk, sse, stream, submit, throughput

TABLES: dict[str, Table] = {
    module.TABLE.name: module.TABLE for module in (throughput, submit, first_chunk, awaiting, stream, sse, commands)
}
