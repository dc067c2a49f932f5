"""Every metric of a worker, with its help: what ``--metrics-port`` serves besides Python's and the process's own.

Those with a value here are counted where it happens. The ``ScrapedMetric``s are read when somebody asks, see
collector.py. Labels are bounded: ``agent`` is an id of the loaded config or UNKNOWN_AGENT, ``partition`` one of P.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram, disable_created_metrics

disable_created_metrics()  # a second series for each, which nobody asks for

#: The agent of a run whose agent this worker's config does not have.
UNKNOWN_AGENT = "unknown"

#: Seconds. A run waits for milliseconds on an idle fleet and for minutes on one that is too small.
_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
#: Seconds. A model's first token takes a fraction of a second, a run up to an hour.
_RUN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
#: Seconds. A loop that is late by 3 s counts as hung, see liveness.py.
_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
#: Frames; 250 are the most that one script writes, see publisher.py.
_BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250)

# Runs.
RUNS = Counter("runlane_runs_total", "Runs that an attempt here finished, by stop_reason.", ["agent", "outcome"])
ATTEMPTS = Counter("runlane_attempts_total", "Attempts that were admitted here.", ["agent"])
ATTEMPTS_CUT = Counter(
    "runlane_attempts_cut_total",
    "Attempts that ended here without finishing their run, by cause; the run goes on elsewhere.",
    ["cause"],
)
REPAIRS = Counter("runlane_repairs_total", "Runs that were marked as running here, were not, and started again.")
RUN_WAIT = Histogram("runlane_run_wait_seconds", "From submit to first admission.", ["agent"], buckets=_WAIT_BUCKETS)
FIRST_CHUNK = Histogram(
    "runlane_first_chunk_seconds",
    "From admission to the first chunk after run.started; of a run that streams nothing, to its last.",
    ["agent"],
    buckets=_RUN_BUCKETS,
)
RUN_DURATION = Histogram(
    "runlane_run_duration_seconds",
    "From the last admission to the answer of finish.",
    ["agent"],
    buckets=_RUN_BUCKETS,
)

# Events.
EVENTS = Counter("runlane_events_total", "Events of runs that were written to Redis.")
PUBLISH_BATCH = Histogram("runlane_publish_batch_events", "Events in one write to Redis.", buckets=_BATCH_BUCKETS)
WRITE_RETRIES = Counter(
    "runlane_write_retries_total", "Writes of runs (events, results, session writes) that Redis did not answer."
)
PUBLISH_FAILURES = Counter("runlane_publish_failures_total", "Runs whose events Redis refused for good.")

# Ownership.
LEASES_ACQUIRED = Counter("runlane_leases_acquired_total", "Partitions acquired, free ones and lapsed ones.")
TAKEOVERS = Counter("runlane_takeovers_total", "Partitions acquired whose owner had let its lease lapse.")
LEASES_MOVED = Counter(
    "runlane_leases_moved_total", "Partitions handed over in order: to another worker or by a drain."
)
LEASES_LOST = Counter("runlane_leases_lost_total", "Partitions that another worker took from this one.")
RENEWAL_FAILURES = Counter("runlane_renewal_failures_total", "Rounds of lease renewals that Redis did not answer.")

# The process.
LOOP_LAG = Histogram(
    "runlane_loop_lag_seconds", "How late the event loop wakes a sleeper, twice a second.", buckets=_LAG_BUCKETS
)


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScrapedMetric:
    """A metric that is read when it is asked for."""

    name: str
    help: str
    kind: Kind = Kind.GAUGE
    labels: tuple[str, ...] = ()


INFO = ScrapedMetric(name="runlane_worker_info", help="Always 1: which worker this is.", labels=("worker", "release"))
PROBLEM = ScrapedMetric(
    name="runlane_worker_problem", help="1 while the event loop, Celery's hub or its consumer does not work."
)
DRAINING = ScrapedMetric(name="runlane_worker_draining", help="1 while the worker drains.")
CONFIG_VERSION = ScrapedMetric(name="runlane_config_version", help="Version of the agents config for new sessions.")
SLOTS = ScrapedMetric(name="runlane_slots", help="Runs that may execute here at once.")
EXECUTING = ScrapedMetric(name="runlane_executing_runs", help="Runs that execute here, or are about to.")
LEASES_HELD = ScrapedMetric(name="runlane_leases_held", help="Partitions that this worker holds.")
LEASES_LAPSED = ScrapedMetric(
    name="runlane_leases_lapsed", help="Partitions held whose lease was not renewed in time: their runs pause."
)
PARTITIONS = ScrapedMetric(name="runlane_partitions", help="Partitions of the store, the same at every worker.")
CACHE_ENTRIES = ScrapedMetric(name="runlane_cache_entries", help="Warm plugin sets, one per session and agent.")
CACHE_HITS = ScrapedMetric(name="runlane_cache_hits_total", help="Runs that found warm plugins.", kind=Kind.COUNTER)
CACHE_MISSES = ScrapedMetric(
    name="runlane_cache_misses_total", help="Runs for which plugins were built.", kind=Kind.COUNTER
)
CACHE_EVICTIONS = ScrapedMetric(
    name="runlane_cache_evictions_total", help="Warm plugin sets that were closed.", kind=Kind.COUNTER
)

REDIS_UP = ScrapedMetric(
    name="runlane_redis_up", help="1 if Redis answered this scrape; the metrics of queues are there only then."
)
INGRESS_MESSAGES = ScrapedMetric(
    name="runlane_ingress_queue_messages",
    help="Submissions by plain Celery clients that no worker took yet; the same at every worker.",
)
QUEUE_DOORBELLS = ScrapedMetric(
    name="runlane_queue_doorbells",
    help="Doorbells in the Celery queue of a partition that is held here.",
    labels=("partition",),
)
PENDING_RUNS = ScrapedMetric(
    name="runlane_pending_runs",
    help="Unfinished runs in the mailboxes of a partition that is held here.",
    labels=("partition",),
)
WAITING_SESSIONS = ScrapedMetric(
    name="runlane_waiting_sessions",
    help="Sessions of a partition that is held here whose first run waits to start.",
    labels=("partition",),
)
OLDEST_WAIT = ScrapedMetric(
    name="runlane_oldest_wait_seconds",
    help="Since when the run that is rung next has waited, in a partition that is held here; 0 if none waits.",
    labels=("partition",),
)
DEAD_LETTERS = ScrapedMetric(
    name="runlane_dead_letters_total",
    help="Runs of a partition that is held here that were ever given up on, by whichever worker.",
    kind=Kind.COUNTER,
    labels=("partition",),
)

#: Of this module, those that are counted where it happens.
COUNTED: Final = (
    *(RUNS, ATTEMPTS, ATTEMPTS_CUT, REPAIRS, RUN_WAIT, FIRST_CHUNK, RUN_DURATION),
    *(EVENTS, PUBLISH_BATCH, WRITE_RETRIES, PUBLISH_FAILURES),
    *(LEASES_ACQUIRED, TAKEOVERS, LEASES_MOVED, LEASES_LOST, RENEWAL_FAILURES, LOOP_LAG),
)
#: Of this module, those that are read when they are asked for.
SCRAPED: Final = (
    *(INFO, PROBLEM, DRAINING, CONFIG_VERSION, SLOTS, EXECUTING, LEASES_HELD, LEASES_LAPSED, PARTITIONS),
    *(CACHE_ENTRIES, CACHE_HITS, CACHE_MISSES, CACHE_EVICTIONS),
    *(REDIS_UP, INGRESS_MESSAGES, QUEUE_DOORBELLS, PENDING_RUNS, WAITING_SESSIONS, OLDEST_WAIT, DEAD_LETTERS),
)
