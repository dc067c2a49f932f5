"""Everything that Redis holds at one moment, and what of it the model speaks about."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from runtime_core.ids import ScopedRunId, SessionKey
from runtime_core.store import keys
from tests.property.protocol.model import Model, Run

_DUMP = """
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('XRANGE', key, '-', '+') end
  out[#out + 1] = {key, kind, redis.call('TTL', key) >= 0 and 1 or 0, value}
end
return out
"""


@dataclass(frozen=True)
class Snapshot:
    #: key → its value as str, list, dict, set, or (stream) list of (id, frame).
    values: Mapping[str, Any]
    #: Keys that expire.
    expiring: frozenset[str]

    @classmethod
    def take(cls, client: redis.Redis) -> Snapshot:
        dump: Any = client.eval(_DUMP, 0)
        values = {key: _value(kind, value) for key, kind, _, value in dump}
        return cls(values, frozenset(key for key, _, expires, _ in dump if expires))

    def list(self, key: str) -> list[Any]:
        return self.values.get(key, [])

    def hash(self, key: str) -> dict[str, str]:
        return self.values.get(key, {})

    def run(self, partition: int, run: ScopedRunId) -> dict[str, str]:
        return self.hash(keys.run(partition, run))

    def log(self, partition: int, run: ScopedRunId) -> list[tuple[str, str]]:
        return self.list(keys.log(partition, run))

    def ready(self, partition: int) -> dict[str, float]:
        """Session → when its head is rung again."""
        return {name: float(at) for name, at in self.hash(f"{keys.prefix(partition)}ready").items()}

    def bells(self, partition: int) -> list[str]:
        """Runs whose doorbell waits, in the order of delivery."""
        return [json.loads(message)["headers"]["id"] for message in reversed(self.list(keys.queue(partition)))]


def _value(kind: str, value: Any) -> Any:
    if kind in ("hash", "zset"):
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == "stream":
        return [(entry, fields[1]) for entry, fields in value]
    return set(value) if kind == "set" else value


def stored(snapshot: Snapshot, model: Model) -> dict[str, Any]:
    """What Redis says of all that the model knows; equal to ``promised``."""
    view: dict[str, Any] = {
        "workers": {name: int(float(until)) for name, until in snapshot.hash(keys.WORKERS).items()},
        "members": {name: int(float(until)) for name, until in snapshot.hash(keys.MEMBERS).items()},
    }
    for run in model.runs.values():
        view[f"run {run.id}"] = _stored_run(snapshot, run)
    for number in range(len(model.partitions)):
        prefix = keys.prefix(number)
        lease, stats = snapshot.hash(keys.lease(number)), snapshot.hash(f"{prefix}stats")
        view[f"partition {number}"] = {
            "lease": [lease.get(name) or "" for name in ("owner", "fence", "expires", "reserved_for")],
            "reserved_until": int(lease.get("reserved_until") or 0),
            "cancels": set(snapshot.list(f"{prefix}cancels")),
            "cascades": set(snapshot.list(f"{prefix}cascades")),
            "deadlines": {name: int(float(at)) for name, at in snapshot.hash(f"{prefix}deadlines").items()},
            "counters": [int(stats.get(name) or 0) for name in ("submitted", "pending", "finished")],
            "dead": Counter(run for _, run in snapshot.list(keys.dead(number))),
            "live": snapshot.hash(f"{prefix}live"),
            "ready": set(snapshot.ready(number)),
        }
    for name, session in model.sessions.items():
        partition, key = session.partition, SessionKey(name)
        view[f"session {name}"] = {
            "mailbox": snapshot.list(keys.mailbox(partition, key)),
            "transcript": snapshot.list(keys.session_part(partition, key, "transcript")),
            "config_version": snapshot.hash(keys.session_part(partition, key, "meta")).get("config_version"),
        }
    for worker in model.workers:
        view[f"probation {worker}"] = snapshot.hash(keys.probation(worker))
    return view


def promised(model: Model) -> dict[str, Any]:
    view: dict[str, Any] = {"workers": dict(model.workers), "members": dict(model.members)}
    for run in model.runs.values():
        view[f"run {run.id}"] = _promised_run(run)
    for number, partition in enumerate(model.partitions):
        runs = [run for run in model.runs.values() if run.partition == number]
        waiting = model.unfinished(number)
        sessions = {run.session: model.sessions[run.session] for run in runs}
        fence, expires = (str(value) if partition.fence else "" for value in (partition.fence, partition.expires_ms))
        view[f"partition {number}"] = {
            "lease": [partition.owner, fence, expires, partition.reserved_for],
            "reserved_until": partition.reserved_until_ms,
            "cancels": {run.id for run in waiting if run.cancel},
            "cascades": partition.cascades,
            "deadlines": {run.id: run.deadline_ms for run in waiting if run.deadline_ms is not None},
            "counters": [len(runs), len(waiting), len(runs) - len(waiting)],
            "dead": Counter(run.id for run in runs if run.status == "dead_letter"),
            "live": {name: session.live for name, session in sessions.items() if session.live is not None},
            "ready": {name for name, session in sessions.items() if session.mailbox and session.live is None},
        }
    for name, session in model.sessions.items():
        version = session.config_version
        view[f"session {name}"] = {
            "mailbox": session.mailbox,
            "transcript": session.transcript,
            "config_version": None if version is None else str(version),
        }
    for worker in model.workers:
        suspects = model.probation.get(worker, {})
        view[f"probation {worker}"] = {run: f"{at}:{charges}" for run, (at, charges) in suspects.items()}
    return view


_COUNTS = ("crashes", "interruptions", "handovers", "spared", "charges")


def _stored_run(snapshot: Snapshot, run: Run) -> dict[str, Any]:
    record, prefix = snapshot.run(run.partition, run.id), keys.prefix(run.partition)
    frames = [json.loads(frame) for _, frame in snapshot.log(run.partition, run.id)]
    return {
        "record": [record.get(name) or "" for name in ("state", "status", "attempt", "owner", "fence", "cancel")],
        "counts": [int(record.get(name) or 0) for name in _COUNTS],
        "config_version": record.get("config_version"),
        "history": [json.loads(entry)["count"] for entry in snapshot.list(keys.crashes(run.partition, run.id))],
        "sequence": int(record["sequence"]),
        "log": [(frame["attempt"], frame["event"], frame["payload"].get("text", "")) for frame in frames],
        "staged": [json.loads(entry)[2] for entry in snapshot.list(keys.staged(run.partition, run.id))],
        "steps": snapshot.hash(f"{prefix}steps:{run.id}"),
        "children": set(snapshot.list(f"{prefix}children:{run.id}")),
    }


def _promised_run(run: Run) -> dict[str, Any]:
    cancel = "1" if run.cancel else ""
    version = run.config_version
    return {
        "record": [run.state, run.status or "", str(run.attempt), run.owner, run.fence, cancel],
        "counts": [run.counts[name] for name in _COUNTS],
        "config_version": None if version is None else str(version),
        "history": run.history,
        "sequence": len(run.log),
        "log": run.log,
        "staged": run.staged,
        "steps": {name: f"{staged}:{delta}" for name, (staged, delta) in run.steps.items()},
        "children": run.children,
    }


def differences(stored: Any, promised: Any, place: str = "") -> list[str]:
    """Where the store and the model say different things, in words."""
    if isinstance(stored, dict) and isinstance(promised, dict):
        names: list[str] = sorted({*stored, *promised})
        return [
            line for name in names for line in differences(stored.get(name), promised.get(name), f"{place} / {name}")
        ]
    return [] if stored == promised else [f"{place}: stored {stored!r}, promised {promised!r}"]
