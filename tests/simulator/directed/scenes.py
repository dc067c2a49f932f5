"""The register of directed histories, and the moves that many of them make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulator.history import History
from tests.simulator.network import Directive, Script
from tests.simulator.play import Scene
from tests.simulator.worker import SimulatedWorker


@dataclass(frozen=True, kw_only=True)
class DirectedScene:
    name: str
    play: Scene
    partitions: int
    #: Of the chances that the scene leaves open; the one in which what it is about happens.
    seed: int


SCENES: dict[str, DirectedScene] = {}


def directed(partitions: int = 1, seed: int = 0) -> Callable[[Scene], Scene]:
    """Register a history under the name of its function."""

    def register(scene: Scene) -> Scene:
        name = scene.__name__
        assert name not in SCENES, f"two histories are called {name}"
        SCENES[name] = DirectedScene(name=name, play=scene, partitions=partitions, seed=seed)
        return scene

    return register


async def fleet(history: History, workers: int = 1) -> list[SimulatedWorker]:
    """Workers that have shared out the partitions."""
    started = [history.worker() for _ in range(workers)]
    await history.until(history.balanced, f"balanced: {history.shares()}", 15.0)
    return started


def owner(history: History, partition: int = 0) -> SimulatedWorker:
    """Whoever owns the partition; it has an owner."""
    return next(worker for worker in history.workers if owns(history, worker, partition))


def owns(history: History, worker: SimulatedWorker, partition: int = 0) -> bool:
    return history.oracle.owners.get(partition, ("", ""))[0].rpartition("#")[0] == worker.name


async def executing(history: History, run: str | None) -> None:
    """Wait until an agent acts in it."""
    await history.until(lambda: run in history.oracle.acting, f"{run} executes", 15.0)


async def finishes(history: History, *runs: str | None, seconds: float = 20.0) -> None:
    await history.until(lambda: history.finished(*runs), f"{runs} finished", seconds)


def strike(
    history: History,
    script: str,
    act: str,
    *,
    seconds: float = 0.0,
    times: int = 1,
    call: Callable[[Script], object] | None = None,
    of: SimulatedWorker | None = None,
) -> Directive:
    """Something happens to the next requests that call this script. Of appends those that log something are meant: an
    attempt's first one has live frames only, since its run.started is there already.
    """

    def matches(one: Script) -> bool:
        return one.name == script and (of is None or one.process is of.process) and (script != "append" or _logs(one))

    directive = Directive(matches=matches, act=act, seconds=seconds, left=times, call=call)
    history.network.directives.append(directive)
    return directive


def _logs(append: Script) -> bool:
    """Each of its frames is: sequence logged(1|0) bytes payload, behind owner fence run attempt."""
    return "1" in append.own[5::4]


async def struck(history: History, directive: Directive, seconds: float = 15.0) -> None:
    await history.until(lambda: directive.left == 0, "the moment that this history is about", seconds)
