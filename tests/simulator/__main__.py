"""``python -m tests.simulator``: play random histories, or one of them again."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import redis

from runtime_core.embedded import EmbeddedRedis
from tests.simulator.directed import SCENES
from tests.simulator.loop import BOOT
from tests.simulator.play import Outcome, Report, play
from tests.simulator.random_history import random_history

#: Exit statuses. A guard that was removed must end in VIOLATED; anything else proves nothing.
HELD, VIOLATED, CRASHED = 0, 10, 20
_STATUS = {Outcome.HELD: HELD, Outcome.VIOLATED: VIOLATED, Outcome.CRASHED: CRASHED}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def server() -> Generator[redis.Redis]:
    with EmbeddedRedis() as embedded:
        client = redis.Redis.from_url(embedded.url, decode_responses=True)
        yield client
        client.close()


def partitions_of(seed: int) -> int:
    return (1, 2, 4, 7)[seed % 4]


def play_seed(client: redis.Redis, seed: int, *, trace: bool = False) -> Report:
    return play(random_history, seed, client, partitions=partitions_of(seed), trace=trace)


def play_seeds(first: int, count: int, step: int, deadline: float) -> int:
    """Play every ``step``-th seed; stops at the first violation."""
    totals: Counter[str] = Counter()
    seed, histories, virtual = first, 0, 0.0
    with server() as client:
        for seed in range(first, first + count, step):
            if time.monotonic() >= deadline:
                break
            report = play_seed(client, seed)
            histories, virtual = histories + 1, virtual + report.seconds - BOOT
            totals.update(report.counts)
            if report.outcome is not Outcome.HELD:
                say(f"seed {seed}: {report.outcome} {report.story}")
                say("\n".join(report.trace))
                say(f"again: python -m tests.simulator --seed {seed} --trace")
                return _STATUS[report.outcome]
    runs = sum(count for name, count in totals.items() if name.startswith("finished "))
    say(f"seeds {first}…{seed} by {step}: {histories} histories held, {runs} runs, {virtual / 3600:.1f} virtual hours")
    say("  " + ", ".join(f"{name} {count}" for name, count in sorted(totals.items())))
    return HELD


def play_scene(client: redis.Redis, name: str, *, trace: bool = False) -> Report:
    scene = SCENES[name]
    return play(scene.play, scene.seed, client, partitions=scene.partitions, trace=trace)


def play_scenes(names: Sequence[str], *, trace: bool = False) -> int:
    """Play directed histories; stops at the first violation."""
    with server() as client:
        for name in names:
            report = play_scene(client, name, trace=trace)
            if trace or report.outcome is not Outcome.HELD:
                say("\n".join(report.trace))
            say(f"{name}: {report.outcome} {report.story}")
            if report.outcome is not Outcome.HELD:
                return _STATUS[report.outcome]
    return HELD


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories at most")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--step", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--scene", choices=sorted(SCENES), nargs="*", help="play these directed histories, or all")
    parser.add_argument("--trace", action="store_true", help="print every script call of it")
    options = parser.parse_args()
    if options.seed is not None:
        with server() as client:
            report = play_seed(client, options.seed, trace=options.trace)
        say("\n".join(report.trace))
        say(f"seed {options.seed}: {report.outcome} {report.story}")
        return _STATUS[report.outcome]
    if options.scene is not None:
        return play_scenes(options.scene or list(SCENES), trace=options.trace)
    if options.processes == 1:
        return play_seeds(options.first, options.seeds, options.step, time.monotonic() + options.minutes * 60)
    shares = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.simulator", "--from", str(options.first + number)),
                *("--seeds", str(options.seeds - number), "--step", str(options.processes)),
                *("--minutes", str(options.minutes)),
            ]
        )
        for number in range(options.processes)
    ]
    return max(share.wait() for share in shares)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names must have the same order each time
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulator", *sys.argv[1:]])
    sys.exit(main())
