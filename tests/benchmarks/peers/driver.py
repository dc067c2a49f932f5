"""The process that calls a system: submits, waits for results, and times both. It runs in that system's environment.

``python -m tests.benchmarks.peers.driver MODULE`` makes ``MODULE.Calls()`` and obeys lines of JSON on standard input,
``{"verb": …, "arguments": {…}}``, each answered by one line. A verb is one of those below, or a method of ``Calls``.
Methods may be coroutines. What is in this folder knows the standard library and its own peer, nothing of Runlane.

``submit(job, count)`` submits one by one and returns handles, ``submit_many`` in the way that is fastest there, and
``results(handles)`` returns the results when all are known. Jobs: ``noop``, and ``sleep`` which awaits a second.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


class Driver:
    def __init__(self, calls: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._calls = calls
        self._loop = loop

    def serve(self, answers: int) -> None:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = self._obey(request["verb"], request["arguments"])
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            os.write(answers, json.dumps(answer).encode() + b"\n")

    def _obey(self, verb: str, arguments: dict[str, Any]) -> Any:
        own: Callable[..., Any] | None = getattr(self, verb, None)
        return own(**arguments) if own else self._finish(getattr(self._calls, verb)(**arguments))

    def _finish(self, value: Any) -> Any:
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def throughput(self, job: str, count: int, *, many: bool = False, **more: Any) -> dict[str, float]:
        """Submit until every result is known."""
        spent, began = time.process_time(), time.perf_counter()
        handles = self._submit(job, count, many, more)
        submitted = time.perf_counter()
        self._check(self._finish(self._calls.results(handles)), count)
        ended = time.perf_counter()
        return {
            "submit_s": submitted - began,
            "seconds": ended - began,
            "cpu_s": time.process_time() - spent,
        }

    def submits(self, job: str, count: int, *, many: bool = False, **more: Any) -> dict[str, float]:
        """Submit, and wait for nothing."""
        began = time.perf_counter()
        handles = self._submit(job, count, many, more)
        seconds = time.perf_counter() - began
        self._check(handles, count)
        return {"seconds": seconds}

    def round_trips(self, job: str, count: int) -> dict[str, list[float]]:
        """Submit and wait, one after the other; milliseconds of each."""
        found: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            self._check(self._finish(self._calls.results(self._submit(job, 1, False, {}))), 1)
            found.append((time.perf_counter() - began) * 1000)
        return {"ms": found}

    def _submit(self, job: str, count: int, many: bool, more: dict[str, Any]) -> Any:
        how = self._calls.submit_many if many else self._calls.submit
        return self._finish(how(job, count, **more))

    @staticmethod
    def _check(found: Sequence[Any], count: int) -> None:
        if len(found) != count or any(one is None for one in found):
            raise RuntimeError(f"{count} were asked for, {sum(one is not None for one in found)} came")


def main() -> None:
    # What the libraries print must not stand among the answers.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    loop = new_loop()
    asyncio.set_event_loop(loop)
    calls = importlib.import_module(sys.argv[1]).Calls()
    Driver(calls, loop).serve(answers)
    os._exit(0)  # some libraries' threads would keep the process


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where the peer's environment has it: each peer at its best."""
    try:
        import uvloop  # pyright: ignore[reportMissingImports]
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    main()
