"""What readers of runs ask Redis: a command, and what its reply means. No I/O: see shared_reads.py for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

from runtime_core.contracts.frame import Frame, decode_frame
from runtime_core.contracts.run import RunRecord
from runtime_core.contracts.stream import OpenToolCall, StreamSnapshot
from runtime_core.errors import RunNotFound
from runtime_core.ids import ScopedRunId, split_run_id
from runtime_core.store import keys
from runtime_core.store.records import RECORD_FIELDS, parse_record

T = TypeVar("T")
_OPEN_CALL = "call:"


@dataclass(frozen=True, eq=False)
class Read(Generic[T]):
    """Two reads with the same command mean the same."""

    command: tuple[str | int, ...]
    #: The value of a reply. Raises RunlaneError, or ValueError for what cannot be read.
    parse: Callable[[Any], T]


def run_not_found(run: ScopedRunId) -> RunNotFound:
    return RunNotFound(
        f"there is no run {run!r}",
        hint="check the id and the tenant; a record is kept for 24 hours after its run finished",
        run_id=split_run_id(run)[1],
    )


def partition_of_run(run: ScopedRunId) -> Read[int]:
    """Raises RunNotFound."""

    def parse(pointer: str | None) -> int:
        if pointer is None:
            raise run_not_found(run)
        return int(pointer.partition(":")[0])

    return Read(("GET", keys.run_pointer(run)), parse)


def record_of_run(partition: int, run: ScopedRunId) -> Read[RunRecord]:
    """Raises RunNotFound."""

    def parse(values: list[str | None]) -> RunRecord:
        record = parse_record(run, partition, values)
        if record is None:
            raise run_not_found(run)
        return record

    return Read(("HMGET", keys.run(partition, run), *RECORD_FIELDS), parse)


def log_of_run(partition: int, run: ScopedRunId, *, after: int = 0, count: int = 500) -> Read[list[Frame]]:
    """Up to ``count`` logged frames with sequence > ``after``. The first may be later than after + 1: see snapshot."""

    def parse(entries: list[tuple[str, dict[str, str]]]) -> list[Frame]:
        return [decode_frame(fields["f"]) for _, fields in entries]

    return Read(("XRANGE", keys.log(partition, run), f"({after}-0", "+", "COUNT", count), parse)


def payload_in_store(partition: int, run: ScopedRunId, sequence: int) -> Read[str | None]:
    """JSON of the payload of a frame that says ``stored``; None if the log has dropped that frame."""
    return Read(("HGET", keys.payloads(partition, run), sequence), lambda reply: reply)


def snapshot_of_run(partition: int, run: ScopedRunId) -> Read[tuple[int, StreamSnapshot] | None]:
    """(sequence of the last frame that the log dropped, how things stood behind it); None if it dropped none."""

    def parse(reply: list[Any]) -> tuple[int, StreamSnapshot] | None:
        flat, said = reply
        fields: dict[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
        if "sequence" not in fields:
            return None
        calls = {name[len(_OPEN_CALL) :]: tool for name, tool in fields.items() if name.startswith(_OPEN_CALL)}
        snapshot = StreamSnapshot(
            text=said or "",
            truncated=fields.get("truncated") == "1",
            open_tool_calls=tuple(OpenToolCall(call_id=call, tool_id=tool) for call, tool in calls.items()),
            status=fields.get("status", "running"),
            attempt=int(fields.get("attempt", 0)),
        )
        return int(fields["sequence"]), snapshot

    command = ("EVAL", _script("snapshot"), 2, keys.snapshot(partition, run), keys.said(partition, run))
    return Read(command, parse)


def children_of_run(partition: int, run: ScopedRunId) -> Read[frozenset[ScopedRunId]]:
    return Read(("SMEMBERS", keys.children(partition, run)), lambda reply: frozenset(map(ScopedRunId, reply)))


@cache
def _script(name: str) -> str:
    """A script so short that it is sent whole: it goes out among other reads."""
    return (files("runtime_core.store") / "lua" / f"{name}.lua").read_text()
