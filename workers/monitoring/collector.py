"""What a scrape reads of a worker at that moment: nothing keeps these values up to date in between."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime_core.partitioning import partition_name
from runtime_core.store.connection import RETRYABLE
from workers.monitoring import metrics
from workers.monitoring.metrics import Kind, ScrapedMetric
from workers.monitoring.queues import Queues, read_queues

logger = logging.getLogger(__name__)

#: Label values, in the order of the metric's labels → value.
Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a worker knows of itself without asking anybody."""

    #: Values of metrics without labels.
    values: Mapping[ScrapedMetric, float]
    #: Partitions that it holds.
    held: tuple[int, ...] = ()


class WorkerCollector(Collector):
    """One worker for prometheus-client; ``read`` is called from a scrape's thread.

    While Redis does not answer, the metrics of queues are absent: an old depth would look like a true one.
    """

    def __init__(self, worker: str, release: str, client: redis.Redis, read: Callable[[], Reading]) -> None:
        self._worker = worker
        self._release = release
        self._client = client
        self._read = read

    def close(self) -> None:
        self._client.close()

    def describe(self) -> Iterable[Metric]:
        """Nothing is read for the mere registration."""
        return [_family(metric, {}) for metric in metrics.SCRAPED]

    def collect(self) -> Iterable[Metric]:
        yield _family(metrics.INFO, {(self._worker, self._release): 1})
        reading = self._read()
        for metric, value in reading.values.items():
            yield _family(metric, {(): value})
        try:
            queues = read_queues(self._client, reading.held)
        except RETRYABLE as error:
            logger.debug("Redis did not answer a scrape: %s", error)
            yield _family(metrics.REDIS_UP, {(): 0})
        else:
            yield _family(metrics.REDIS_UP, {(): 1})
            yield from _queue_families(queues)


def _queue_families(queues: Queues) -> Iterable[Metric]:
    depths = {(partition_name(number),): depth for number, depth in queues.partitions.items()}
    yield _family(metrics.INGRESS_MESSAGES, {(): queues.ingress})
    yield _family(metrics.QUEUE_DOORBELLS, {at: depth.doorbells for at, depth in depths.items()})
    yield _family(metrics.PENDING_RUNS, {at: depth.pending for at, depth in depths.items()})
    yield _family(metrics.WAITING_SESSIONS, {at: depth.waiting_sessions for at, depth in depths.items()})
    yield _family(metrics.OLDEST_WAIT, {at: depth.oldest_wait_s for at, depth in depths.items()})
    yield _family(metrics.DEAD_LETTERS, {at: depth.dead_letters for at, depth in depths.items()})


def _family(metric: ScrapedMetric, samples: Samples) -> Metric:
    family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
