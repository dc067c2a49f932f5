"""Each guard is needed: without it a promise is broken, and the simulator says which. About a minute."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.simulator.guards import GUARDS
from tests.simulator.removal import ROOT

_PROCESSES = 2


@pytest.mark.timeout(300)
def test_without_any_one_guard_a_promise_is_broken() -> None:
    command = [sys.executable, "-m", "tests.simulator.removal"]
    shares = [
        subprocess.Popen([*command, str(share), str(_PROCESSES)], stdout=subprocess.PIPE, cwd=ROOT, text=True)
        for share in range(_PROCESSES)
    ]
    removed = [json.loads(line) for share in shares for line in share.communicate()[0].splitlines()]

    unnoticed = {one["name"]: f"{one['outcome']}: {one['story']}" for one in removed if one["outcome"] != "violated"}
    assert not unnoticed
    assert sorted(one["name"] for one in removed) == sorted(guard.name for guard in GUARDS)


def test_every_guard_stands_in_its_file_once_under_a_name_of_its_own() -> None:
    for guard in GUARDS:
        assert (ROOT / guard.file).read_text().count(guard.text) == 1, guard.name
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
