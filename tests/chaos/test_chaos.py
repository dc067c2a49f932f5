"""The short schedule, as part of the test suite; ``make chaos`` runs the long ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.scenarios import SCENARIOS, Options


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_nothing_is_lost_doubled_or_reordered_while_workers_redis_and_connections_fail(tmp_path: Path) -> None:
    console = Console(file=sys.stdout, width=100)

    outcome = await SCENARIOS["short"](Options(folder=tmp_path / "short", console=console))

    outcome.print(console)
    assert not outcome.violations
    assert all(one.holds for one in outcome.measured)
    assert outcome.figures.hits >= 3
