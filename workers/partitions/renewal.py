"""Lease renewal: a thread of its own with a connection of its own, so that a busy event loop does not cost a lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import redis
from redis.exceptions import RedisError

from runtime_core.clock import boot_seconds
from runtime_core.errors import LeaseLost, RunlaneError
from runtime_core.ids import ScopedRunId
from runtime_core.store.leases import renew
from runtime_core.store.timing import RENEW_INTERVAL
from workers.monitoring.metrics import RENEWAL_FAILURES
from workers.partitions.ownership import Ownership, valid_until

logger = logging.getLogger(__name__)

#: Seconds for one renewal; a later answer would not extend the validity by much.
RENEWAL_TIMEOUT = 2.0


class Renewal:
    """1. Every RENEW_INTERVAL each held lease is renewed, unless this process has a ``problem``.

    2. ``on_lost``, ``on_cancel`` and ``on_woken`` are called in this thread; they hand over to the loop and return
       at once.
    3. Redis errors are logged and tried again; validity lapses meanwhile, nothing is given up.
    """

    def __init__(
        self,
        client: redis.Redis,
        held: Callable[[], list[Ownership]],
        *,
        problem: Callable[[], str | None],
        on_tick: Callable[[], object],
        on_lost: Callable[[Ownership], object],
        on_cancel: Callable[[ScopedRunId], object],
        on_woken: Callable[[ScopedRunId], object],
    ) -> None:
        self._client = client
        self._held = held
        self._problem = problem
        self._on_tick = on_tick
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._on_woken = on_woken
        self._reported: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-renewal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(RENEWAL_TIMEOUT + RENEW_INTERVAL)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(RENEW_INTERVAL):
            try:
                self._on_tick()
                problem = self._problem()
                if problem is None:
                    self.renew_once()
                self._report(problem)
            except (RedisError, OSError) as error:
                RENEWAL_FAILURES.inc()
                self._report(f"Redis does not answer: {error}")
            except Exception:  # without this thread the worker would lose every lease and never know
                logger.exception("renewal failed, trying again")

    def _report(self, problem: str | None) -> None:
        """Once when it begins, and once when it has passed."""
        if problem is not None and self._reported is None:
            logger.warning("leases are not renewed: %s", problem)
        elif problem is None and self._reported is not None:
            logger.info("leases are renewed again")
        self._reported = problem

    def renew_once(self) -> None:
        """Renew what is held, take note of what is lost. Raises Redis errors, nothing having changed."""
        held = [ownership for ownership in self._held() if not ownership.lost]
        if not held:
            return
        sent = boot_seconds()
        for ownership, reply in zip(held, renew(self._client, [one.lease for one in held]), strict=True):
            if isinstance(reply, LeaseLost):
                ownership.lost = True
                self._on_lost(ownership)
                continue
            if isinstance(reply, RunlaneError):
                logger.error("%s", reply)
                continue
            ownership.until = valid_until(sent)
            for run in reply.cancels:
                self._on_cancel(run)
            for run in reply.woken:
                self._on_woken(run)
