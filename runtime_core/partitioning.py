"""Which partition a session belongs to. P is fixed for the life of a store (DESIGN §1)."""

from __future__ import annotations

import hashlib

from runtime_core.ids import SessionKey

DEFAULT_PARTITIONS = 64
MAX_PARTITIONS = 1024


def partition_of(session: SessionKey, partitions: int) -> int:
    """0 ≤ partition < partitions: blake2b of the session key, first 8 bytes, big-endian, modulo P."""
    return int.from_bytes(hashlib.blake2b(session.encode(), digest_size=8).digest(), "big") % partitions


def partition_name(partition: int) -> str:
    """``p0007``: padded, so that names sort as numbers do."""
    return f"p{partition:04d}"
