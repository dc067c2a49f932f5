"""Times of the ownership protocol, and the inequalities they obey (DESIGN §4)."""

from __future__ import annotations

#: A lease lives this long after its last renewal. A killed worker's runs start elsewhere within this + 2 s.
LEASE_TTL_MS = 6_000
#: Seconds between renewals; < LEASE_TTL / 3, so that two lost renewals in a row cost nothing.
RENEW_INTERVAL = 1.0
#: Seconds by which a worker stops trusting its lease before Redis does: covers the clock's drift and one late reply.
#: Local validity = time before the request was sent + LEASE_TTL − SAFETY_MARGIN; must exceed 2 × RENEW_INTERVAL.
SAFETY_MARGIN = 1.0
#: A released partition waits this long for the member it is reserved for.
RESERVATION_MS = 3_000
#: A heartbeat is good for this long, ms. Suspicion only moves quotas; ownership waits for the lease.
WORKER_TTL_MS = 3_000
#: Seconds between two looks at the fleet, each with a heartbeat; < WORKER_TTL / 2. A worker is killed → its lease
#: expires → that was seen for a whole TTL → acquired: two of these must fit into the 2 s promised on top of the TTL.
LOOK_INTERVAL = 0.5
#: Seconds between sweeps of an owned partition.
SWEEP_INTERVAL = 1.0
#: Seconds that a starting worker only heartbeats, so that a fleet that starts together divides the partitions once.
SETTLE_SECONDS = 2.0
#: A partition that could have been taken for this long is taken by a worker that has its quota, too. A killed worker's
#: runs start elsewhere within LEASE_TTL + 2 × this + 2 × LOOK_INTERVAL, even if those whose turn it was die meanwhile.
ORPHAN_MS = 1_000
#: The same for partitions that nobody ever owned, from the first heartbeat of the fleet on; > SETTLE_SECONDS.
UNOWNED_MS = 4_000
