"""What must hold when every fault is over and every run has finished: read from Redis, as a client would find it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import unquote

from runtime_core.contracts.frame import TERMINAL_EVENT, Frame, decode_frame
from runtime_core.ids import SessionKey
from runtime_core.store import keys
from tests.simulator.agent import color_of
from tests.simulator.history import History
from tests.simulator.known_run import Run

#: Virtual seconds within which all runs finish once faults are over, beyond their own time: a lease, an orphan's wait,
#: the longest back-off of a doorbell, the solo seconds of probation, once for each charge.
SETTLE = 240.0


async def settle(history: History) -> None:
    """Faults end; everything accepted finishes, the partitions are shared out, nothing is left over."""
    oracle = history.oracle
    await history.heal()
    if not [worker for worker in history.living if not worker.draining]:
        history.worker()
    await history.until(history.finished, f"finished: {_unfinished(history)}", SETTLE)
    await history.until(history.balanced, f"balanced: {history.shares()}", history.balance_within)
    await history.until(lambda: not _tables(history), f"tables empty: {_tables(history)}", 10.0)
    if oracle.failure is None:
        check(history)


def check(history: History) -> None:
    oracle = history.oracle
    oracle.scan(list(oracle.runs.values()))
    for run in oracle.runs.values():
        _check_log(history, run)
        _check_status(history, run)
        _check_family(history, run)
        _check_history(history, run)
        _check_lives_on(history, run)
    for session in {run.session: None for run in oracle.runs.values()}:
        _check_session(history, session)
    for partition in range(history.partitions):
        _check_empty(history, partition)


def _unfinished(history: History) -> list[Run]:
    return [run for run in history.oracle.runs.values() if run.state != "finished"]


def _tables(history: History) -> list[Any]:
    return [line for one in history.living if one.worker is not None for line in one.worker.table.describe()]


def frames(history: History, run: Run) -> list[Frame]:
    entries: Any = history.network.execute("XRANGE", keys.log(run.partition, run.id), "-", "+")
    return [decode_frame(fields[1] if isinstance(fields, list) else fields["f"]) for _, fields in entries]


def _check_log(history: History, run: Run) -> None:
    expect, log = history.oracle.expect, frames(history, run)
    numbers = [frame.sequence for frame in log]
    expect(numbers == list(range(1, len(log) + 1)), f"the log of {run.id} is not dense: {numbers}")
    expect(bool(log) and log[0].event == "run.queued", f"the log of {run.id} does not begin with run.queued")
    attempts = [frame.attempt for frame in log]
    expect(attempts == sorted(attempts), f"attempts of {run.id} go back in its log: {attempts}")
    ends = [frame.sequence for frame in log if frame.event == TERMINAL_EVENT]
    expect(ends == [len(log)], f"{run.id} has {len(log)} frames, its terminal ones are {ends}")
    for attempt in range(1, run.attempt + 1):
        events = [frame.event for frame in log if frame.attempt == attempt]
        starts, interrupted = events.count("run.started"), events.count("run.interrupted")
        begins = starts == 1 and events[0] == "run.started"
        expect(begins, f"attempt {attempt} of {run.id} does not begin with its only run.started: {events}")
        if attempt < run.attempt:
            expect(interrupted == 1, f"attempt {attempt} of {run.id} ended early, its log says so {interrupted} times")
    if run.status == "completed":
        _check_text(history, run, log)
    sequence, result = history.network.execute("HMGET", keys.run(run.partition, run.id), "sequence", "result")
    expect(sequence == str(len(log)), f"the record of {run.id} says {sequence} frames, its log has {len(log)}")
    expect(log[-1].payload["result"] == json.loads(result), f"the terminal frame of {run.id} has another result")


def _check_text(history: History, run: Run, log: list[Frame]) -> None:
    """The last attempt says all its steps. One that goes on behind what earlier ones kept need not say those again, but
    its readers have all of them, and each attempt says its own in order.
    """
    expect, first = history.oracle.expect, 1 if run.keeps else run.attempt
    said = {
        attempt: [
            int(step)
            for frame in log
            if frame.event == "llm.delta" and frame.attempt == attempt
            for step in frame.payload["text"].replace("step", "").split(";")[:-1]
        ]
        for attempt in range(first, run.attempt + 1)
    }
    told = sorted({step for steps in said.values() for step in steps})
    expect(told == list(range(run.steps)), f"{run.id} took {run.steps} steps, its log has {said}")
    for steps in said.values():
        in_order = steps == list(range(steps[0], steps[0] + len(steps))) if steps else True
        expect(in_order, f"an attempt of {run.id} told its steps out of order: {said}")


def _check_status(history: History, run: Run) -> None:
    expect = history.oracle.expect
    allowed = {"completed"}
    if run.cancelled is not None:
        allowed |= {"cancelled"} if run.cancelled[1] == "CANCELLED" else {"cancelled", "completed"}
        if run.cancelled[1] == "CANCELLED":
            allowed = {"cancelled"}
    if run.verb == "raise":
        allowed = allowed - {"completed"} | {"failed"}
    deadline_ms = run.request.queue_deadline_ms
    if deadline_ms is not None:
        allowed |= {"timeout"}
    if run.verb == "poison":
        allowed |= {"dead_letter"}
        allowed -= {"completed"}
    # One poison run becomes known in time. Of several, one that is new may kill the worker of a run that is beside it.
    poison = {other for one, other in history.oracle.beside_poison if one == run.id}
    hits = history.hits.get(run.id, 0) + len(poison)
    if hits >= 2:  # what the history did to it by chance may look like poison
        allowed |= {"dead_letter"}
    parent = history.oracle.runs.get(run.request.parent_run_id or "")
    if parent is not None and (parent.status == "cancelled" or (run.within and parent.finished == run.finished)):
        allowed |= {"cancelled"}
    why = json.loads(run.result or "{}").get("error_details")
    expect(run.status in allowed, f"{run.id} ended as {run.status}, not {sorted(allowed)} (hit {hits} times): {why}")
    if deadline_ms is not None:
        latest = run.submitted + deadline_ms / 1000 + history.clock_error
        late = [start for start in run.starts[:1] if start > latest]
        expect(not late, f"{run.id} started at {late}, its queue deadline was {latest:.3f}")
        expect(run.status != "timeout" or not run.starts, f"{run.id} started and ended by its queue deadline")
    if parent is not None and parent.status == "cancelled" and run.status != "cancelled":
        since = parent.cancelled[0] if parent.cancelled else parent.finished
        ended_before = run.finished is not None and since is not None and run.finished <= since
        expect(run.cancelled is not None or ended_before, f"{run.id} was not cancelled with its parent {parent.id}")


def _check_family(history: History, run: Run) -> None:
    """Whoever delegates once has one child, however many attempts it took."""
    known = history.oracle.runs.values()
    mine = [one.id for one in known if one.delegated and one.request.parent_run_id == run.id]
    history.oracle.expect(len(mine) <= 1, f"{run.id} delegated once, its children are {mine}")


def _check_history(history: History, run: Run) -> None:
    """What counts against a run was the death of a process; everything that ended an attempt is told."""
    if run.within is not None:
        return  # it counts with its parent
    expect = history.oracle.expect
    entries: Any = history.network.execute("LRANGE", keys.crashes(run.partition, run.id), 0, -1)
    told = [json.loads(entry) for entry in entries]
    counts = Counter(entry["count"] for entry in told)
    names = ("crashes", "interruptions", "handovers", "spared")
    values = history.network.execute("HMGET", keys.run(run.partition, run.id), *names)
    for name, value in zip(names, values, strict=True):
        expect(counts[name] == int(value or 0), f"{run.id} counts {value} {name}, its history has {counts[name]}")
    early = sum(counts.values())
    expect(early in (run.attempt, run.attempt - 1), f"{run.id}: {run.attempt} attempts, {early} of them ended early")
    for entry in told:
        if entry["count"] in ("crashes", "spared"):
            harmed = history.was_harmed(entry["worker"])
            expect(harmed, f"{run.id} counts a crash of {entry['worker']}, to which nothing was done: {entry}")


def _check_lives_on(history: History, run: Run) -> None:
    execute = history.network.execute
    for key in (keys.run(run.partition, run.id), keys.log(run.partition, run.id), keys.run_pointer(run.id)):
        left = execute("TTL", key)
        history.oracle.expect(left > 0, f"{key} of a finished run lives for {left} s")
    for of_run in (keys.steps, keys.approvals, keys.decisions, keys.children):
        left = execute("TTL", of_run(run.partition, run.id))
        history.oracle.expect(left != -1, f"{of_run.__name__} of {run.id}, which has finished, live for ever")
    left = execute("EXISTS", keys.staged(run.partition, run.id))
    history.oracle.expect(left == 0, f"{run.id} has finished and its staged session writes are left")


def _check_session(history: History, session: str) -> None:
    """Each completed run's writes are in the session once, in the order of their ends; no other's are.

    A run whose cancel came when it had staged them is told apart by its transcript: all of its writes, or none. A fork
    begins with what its source had.
    """
    oracle, execute, expect = history.oracle, history.network.execute, history.oracle.expect
    runs = sorted((run for run in oracle.runs.values() if run.session == session), key=lambda run: run.finished or 0.0)
    partition, own, forked = runs[0].partition, {run.id for run in runs}, "fork:" in unquote(session)

    def part(name: str) -> str:
        return keys.session_part(partition, SessionKey(session), name)

    messages = [json.loads(text) for text in execute("LRANGE", part("transcript"), 0, -1)]
    said = [(message["run_id"], message["role"]) for message in messages if not forked or message["run_id"] in own]
    late = {run.id for run in runs if run.status == "cancelled" and (run.id, "user") in said}
    completed = [run.id for run in runs if run.status == "completed" or run.id in late]
    fields = zip(execute("HKEYS", part("state")), execute("HVALS", part("state")), strict=True)
    state = {name: json.loads(text) for name, text in fields}
    done = [run for run in state.get("done", []) if not forked or run in own]
    expect([run for run in done if run in completed] == completed, f"state of {session}: {done}, not {completed}")
    expect(len(set(done)) == len(done), f"a run wrote the state of {session} twice: {done}")
    for run in runs:
        if run.verb == "durable" and run.status == "completed":
            taken = state.get(run.id)
            expect(taken == list(range(run.steps)), f"{run.id} took {run.steps} steps, the state holds {taken}")
        parent = oracle.runs.get(run.within or "")
        if parent is not None and (run.status, parent.status) == ("completed", "completed"):
            color = state.get(color_of(parent.id))
            expect(color == "the child's", f"{run.id} changed the state within {parent.id}, it holds {color}")
    artifacts = [json.loads(text) for text in execute("LRANGE", part("artifacts"), 0, -1)]
    artifacts = [artifact for artifact in artifacts if not forked or artifact["name"] in own]
    names = [artifact["name"] for artifact in artifacts]
    expect(names == completed, f"artifacts of {session}: {names}, not {completed}")
    for artifact in artifacts:
        run, attempt = oracle.runs[artifact["name"]], artifact["payload"]["attempt"]
        expect(attempt == run.attempt, f"{run.id} ended with attempt {run.attempt}, its artifact is of {attempt}")
    told = [run.id for run in runs if run.status in ("completed", "failed") or run.id in late]
    expected = [(run, role) for run in told for role in ("user", "assistant")]
    expect(said == expected, f"transcript of {session}: {said}, not {expected}")


def _check_empty(history: History, partition: int) -> None:
    execute, expect = history.network.execute, history.oracle.expect
    prefix = keys.prefix(partition)
    for name in ("ready", "live", "cancels", "deadlines", "cascades", "woken"):
        expect(execute("EXISTS", prefix + name) == 0, f"{prefix}{name} is left when all runs have finished")
    mailboxes = execute("KEYS", prefix.replace("{", "\\{").replace("[", "\\[") + "mailbox:*")
    expect(not mailboxes, f"mailboxes are left when all runs have finished: {mailboxes}")
    runs = sum(run.partition == partition for run in history.oracle.runs.values())
    stats = execute("HMGET", prefix + "stats", "submitted", "finished", "pending")
    expect(
        [int(value or 0) for value in stats] == [runs, runs, 0], f"stats of partition {partition}: {stats}, {runs} runs"
    )
