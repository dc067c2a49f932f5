"""``python -m tests.benchmarks <name>``: prints what it measures on this machine; README.md holds our figures."""

from __future__ import annotations

import argparse
import asyncio

from tests.benchmarks import conversation, sse, stream


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=["stream", "sse", "conversation"])
    parser.add_argument("--clients", type=int, nargs="+", help="clients at once [stream: 1 20 100; sse: 1 200]")
    parser.add_argument("--rate", type=float, help="chunks per second for each client [stream: 40; sse: 20]")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement [5]")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured, in turns [3]")
    parser.add_argument("--turns", type=int, default=1_000, help="of the conversation [1000]")
    given = parser.parse_args()
    if given.name == "stream":
        asyncio.run(stream.measure(given.clients or [1, 20, 100], given.rate or 40.0, given.seconds, given.rounds))
    elif given.name == "conversation":
        asyncio.run(conversation.measure(given.turns))
    else:
        asyncio.run(sse.measure(given.clients or [1, 200], given.rate or 20.0, given.seconds, given.rounds))


if __name__ == "__main__":
    main()
