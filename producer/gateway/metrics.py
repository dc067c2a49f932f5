"""Every metric of the gateway. No tenant, run or session is a label: each would be a series of its own."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_PREFIX = "runlane_gateway_"

REQUESTS = Counter(f"{_PREFIX}requests", "Requests answered, by operation and status.", ["operation", "status"])
CLIENTS = Gauge(f"{_PREFIX}clients", "Clients that follow a stream now.")
STREAMS = Counter(f"{_PREFIX}streams", "Streams begun: new, or resumed behind a chunk.", ["how"])
ENDS = Counter(
    f"{_PREFIX}stream_ends", "Streams ended: finished, left by the client, cut, closing, withdrawn, failed.", ["how"]
)
CUTS = Counter(f"{_PREFIX}cuts", "Streams that the gateway cut, by reason.", ["reason"])
GAPS = Counter(f"{_PREFIX}gaps", "Gaps that clients were told of: the log no longer held what they asked for.")
CHUNKS = Counter(f"{_PREFIX}chunks", "Chunks handed to sockets.")
LAG = Histogram(
    f"{_PREFIX}lag_seconds",
    "From a chunk's own time until it was handed to the socket, of chunks younger than their stream.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

#: Series that exist before anything was cut: an alert on their growth sees the first cut.
REASONS = ("stalled", "closing", "withdrawn", "unavailable")
for _reason in REASONS:
    CUTS.labels(_reason)
