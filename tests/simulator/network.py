"""What lies between the simulated processes and a real redis-server: latency, loss, outages, and a clock of its own.

A command executes at one moment of virtual time, on one blocking connection. The scripts get the virtual clock through
ARGV[1], the command TIME through its reply; expiry of keys is the only thing that goes by the server's own clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.simulator.loop import BOOT, SimulatedProcess, VirtualLoop

Command = tuple[Any, ...]

#: The clock of Redis, ms since the epoch, when the machine has run for BOOT seconds.
EPOCH_MS = 1_800_000_000_000
#: Parts of a reply that are members of a set: those have no order, and are sorted so that a seed reproduces.
_SORTED: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "renew": lambda reply: [reply[0], *map(sorted, reply[1:])],
    "cancel": lambda reply: [reply[0], *sorted(reply[1:])],
}
#: Scripts that may send on the control channel.
_SPEAKS_ON_CONTROL = frozenset({"cancel", "release"})
#: Scripts that give a repeat the same answer, so that a lost reply costs nothing.
_SAME_AGAIN = frozenset(
    {"acquire", "add_child", "admit", "append", "decide", "finish", "free", "renew", "stage", "step", "wait"}
)
#: Context of what belongs to no process.
_NOWHERE = Context()


@dataclass(frozen=True, kw_only=True)
class Script:
    """One call of a script, as it reached Redis."""

    name: str
    #: ARGV from [2] on: for a partition's script its prefix, its queue, then its own arguments.
    arguments: tuple[str, ...]
    process: SimulatedProcess | None

    @property
    def partition(self) -> int | None:
        return int(self.arguments[0][5:9]) if self.arguments[0].startswith("rl:{p") else None

    @property
    def own(self) -> tuple[str, ...]:
        """A partition script's own arguments."""
        return self.arguments[2:]


class Observer(Protocol):
    """Sees each script, before and after it executes."""

    def before(self, script: Script) -> None: ...

    def after(self, script: Script, reply: Any) -> None: ...


@dataclass(kw_only=True)
class Weather:
    """Probabilities per request, and seconds. All zero is a good network, with a latency all the same."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    #: A request or a reply that takes up to ``delay_s``.
    delayed: float = 0.0
    delay_s: float = 4.0
    #: A message of the control channel that does not arrive.
    message_lost: float = 0.0


@dataclass(eq=False)
class Request:
    commands: Sequence[Command]
    process: SimulatedProcess | None
    replies: Future[list[Any]]
    executed: bool = False


@dataclass(eq=False)
class Directive:
    """What a directed history does to requests that match; ``left`` counts those still to be struck."""

    matches: Callable[[Script], bool]
    act: str  # lose_request, lose_reply, delay_request, delay_reply, call
    seconds: float = 0.0
    left: int = 1
    call: Callable[[Script], object] | None = None
    struck: int = field(default=0)


class Network:
    def __init__(self, loop: VirtualLoop, server: redis.Redis, chance: random.Random, scripts: dict[str, str]) -> None:
        self._loop = loop
        self._server = server
        self._chance = chance
        self._names = {hashlib.sha1(text.encode()).hexdigest(): name for name, text in scripts.items()}
        self._texts = {text: name for name, text in scripts.items()}
        self._connection = server.connection_pool.get_connection()
        options: dict[str, Any] = server.connection_pool.connection_kwargs
        #: Of our own, in RESP2, where messages and the answer of a PING come in one order.
        self._ear = redis.Connection(
            host=options["host"], port=options["port"], decode_responses=True, protocol=2, socket_timeout=5.0
        )
        self._listening = False
        self._subscribers: list[tuple[str, SimulatedProcess | None, Callable[[list[str]], object]]] = []
        self.observer: Observer | None = None
        self.weather = Weather()
        self.directives: list[Directive] = []
        #: Redis does not answer before this time.
        self.down_until = 0.0
        #: Processes that are cut off, and until when.
        self.cut_until: dict[SimulatedProcess, float] = {}
        #: Milliseconds by which the clock of Redis was set forward or back.
        self.skew_ms = 0
        #: Polls for doorbells that wait: queues, whose, and who gets (queue, message).
        self._polls: list[tuple[Sequence[str], SimulatedProcess, Callable[[str, str], object]]] = []
        self.on_violation: Callable[[str], object] = str
        self.requests = 0
        self.trace: Callable[[str], object] | None = None

    def close(self) -> None:
        self._ear.disconnect()
        self._server.connection_pool.release(self._connection)

    def now_ms(self) -> int:
        """The clock of Redis."""
        return EPOCH_MS + round((self._loop.time() - BOOT) * 1000) + self.skew_ms

    def reachable(self, process: SimulatedProcess | None) -> bool:
        now = self._loop.time()
        return now >= self.down_until and (process is None or now >= self.cut_until.get(process, 0.0))

    def send(self, commands: Sequence[Command], process: SimulatedProcess | None) -> Request:
        """A request leaves a process. Its replies arrive as a result, or ConnectionError if one of both is lost."""
        request = Request(commands, process, self._loop.create_future())
        request.replies.add_done_callback(_seen)
        directive = self._directive(request)
        act = directive.act if directive else ""
        lost = act == "lose_request" or self._strikes(self.weather.request_lost)
        delay = directive.seconds if directive and act == "delay_request" else self._latency()
        if lost:
            self._later(delay, self._break, request)
        else:
            reply_lost = act == "lose_reply" or self._strikes(self.weather.reply_lost)
            reply_delay = directive.seconds if directive and act == "delay_reply" else self._latency()
            self._later(delay, self._arrive, request, reply_lost, reply_delay, directive)
        return request

    def execute(self, *command: Any) -> Any:
        """Outside of the history: at once, without faults, unobserved. Raises ResponseError."""
        self._connection.send_command(*command)
        return self._connection.read_response()

    def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """In one round trip; an error is among the replies."""
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def digest(self) -> str:
        """A digest of all that Redis holds, but for the times of expiry."""
        return str(self.execute("DEBUG", "DIGEST"))

    def poll(
        self, queues: Sequence[str], process: SimulatedProcess, deliver: Callable[[str, str], object]
    ) -> Callable[[], None]:
        """BRPOP: ``deliver`` gets the first doorbell that there is, once. Returns what gives up.

        The poll of a process that was stopped takes its doorbell; that of a dead one ended with its connection.
        """
        entry = (queues, process, deliver)
        self._polls.append(entry)
        self._later(self._latency(), self._serve_polls, queues)
        return lambda: self._polls.remove(entry) if entry in self._polls else None

    def _serve_polls(self, queues: Sequence[str]) -> None:
        if self._loop.time() < self.down_until:
            return
        self._polls = [one for one in self._polls if one[1].alive]
        for entry in [one for one in self._polls if not set(queues).isdisjoint(one[0])]:
            for queue in entry[0]:
                if entry in self._polls and (message := self.execute("RPOP", queue)) is not None:
                    self._polls.remove(entry)
                    self._later(self._latency(), entry[2], queue, message)

    def subscribe(
        self, pattern: str, process: SimulatedProcess | None, deliver: Callable[[list[str]], object]
    ) -> Callable[[], None]:
        """``deliver`` gets ["pmessage", pattern, channel, data]; returns what ends it."""
        if not self._listening:
            self._ear.send_command("PSUBSCRIBE", pattern)
            self._ear.read_response()
            self._listening = True
        entry = (pattern, process, deliver)
        self._subscribers.append(entry)
        return lambda: self._subscribers.remove(entry) if entry in self._subscribers else None

    def _directive(self, request: Request) -> Directive | None:
        for command in request.commands:
            script = self._script(command, request.process)
            for directive in self.directives:
                if script is not None and directive.left and directive.matches(script):
                    directive.left -= 1
                    directive.struck += 1
                    return directive
        return None

    def _arrive(self, request: Request, reply_lost: bool, reply_delay: float, directive: Directive | None) -> None:
        if not self.reachable(request.process):
            self._break(request)
            return
        replies = self._all(request, reply_lost)
        request.executed = True
        if directive is not None and directive.call is not None and directive.act == "call":
            directive.call(_required(self._script(request.commands[0], request.process)))
        if reply_lost:
            self._later(reply_delay, self._break, request)
        else:
            self._later(reply_delay, self._answer, request, replies)

    def _answer(self, request: Request, replies: list[Any]) -> None:
        if not self.reachable(request.process):
            self._break(request)
        elif not request.replies.done():
            request.replies.set_result(replies)

    def _break(self, request: Request) -> None:
        if not request.replies.done():
            request.replies.set_exception(RedisConnectionError("the simulated network lost it"))

    def _all(self, request: Request, reply_lost: bool) -> list[Any]:
        """Execute a request; its replies, exceptions among them where they are errors."""
        self.requests += 1
        scripts = [self._script(command, request.process) for command in request.commands]
        if any(scripts):
            return [
                self._server_reply(command) if script is None else self._call(command, script, repeat=reply_lost)
                for command, script in zip(request.commands, scripts, strict=True)
            ]
        replies = self.execute_many(request.commands)
        time = [str(self.now_ms() // 1000), str(self.now_ms() % 1000 * 1000)]
        return [
            time if command[0] == "TIME" else reply for command, reply in zip(request.commands, replies, strict=True)
        ]

    def _call(self, command: Command, script: Script, *, repeat: bool) -> Any:
        """Call a script. Of one whose reply is lost the repeat is tried at once, too."""
        process = script.process
        command = (*command[:4], str(self.now_ms()), *command[5:])
        if self.observer is not None:
            self.observer.before(script)
        reply = self._server_reply(command)
        if isinstance(reply, list) and script.name in _SORTED:
            reply = _SORTED[script.name](reply)
        if self.trace is not None:
            self.trace(
                f"{process.name if process else '-'} {script.name} {_short(script.arguments[2:])} → {_short(reply)}"
            )
        if isinstance(reply, ResponseError) and "NOSCRIPT" in f"{type(reply).__name__}{reply}".upper():
            return reply
        if self.observer is not None:
            self.observer.after(script, reply)
        if repeat or self._strikes(_TRY_REPEAT):
            self._check_repeat(script, command, reply)
        if script.partition is not None and self._polls:
            self._serve_polls((script.arguments[1],))
        if script.name in _SPEAKS_ON_CONTROL and self._listening:
            self._hear()
        return reply

    def _check_repeat(self, script: Script, command: Command, reply: Any) -> None:
        before = self.digest()
        again = self._server_reply(command)
        if self.digest() != before:
            self.on_violation(f"a repeated {script.name} {_short(script.own)} changed what Redis holds")
        if script.name in _SAME_AGAIN and reply[0] == "OK" and again[0] != "OK":
            self.on_violation(f"{script.name} {_short(script.own)} was answered OK, its repeat {again}")

    def _server_reply(self, command: Command) -> Any:
        try:
            return self.execute(*command)
        except ResponseError as error:
            return error

    def _script(self, command: Command, process: SimulatedProcess | None) -> Script | None:
        if command[0] == "EVALSHA":
            name = self._names.get(command[1])
        else:
            name = self._texts.get(command[1]) if command[0] == "EVAL" else None
        if name is None:
            return None
        return Script(name=name, arguments=tuple(str(value) for value in command[5:]), process=process)

    def _hear(self) -> None:
        """Pass on what was just said on the control channel; the answered PING shows that nothing is on its way."""
        self._ear.send_command("PING")
        while (message := cast("list[str]", self._ear.read_response()))[0] != "pong":
            for _, process, deliver in list(self._subscribers):
                if self.reachable(process) and not self._strikes(self.weather.message_lost):
                    self._later(self._latency(), deliver, message)

    def _latency(self) -> float:
        if self._strikes(self.weather.delayed):
            return self._chance.uniform(0.05, self.weather.delay_s)
        return self._chance.uniform(0.0002, 0.003)

    def _strikes(self, probability: float) -> bool:
        return probability > 0 and self._chance.random() < probability

    def _later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self._loop.call_later(seconds, callback, *args, context=_NOWHERE.copy())


#: Part of the scripts that are tried again at once, to see that a repeat changes nothing.
_TRY_REPEAT = 0.03


def _required(script: Script | None) -> Script:
    assert script is not None
    return script


def _seen(future: Future[Any]) -> None:
    """Nobody may be left to read the failure: that is no error."""
    if not future.cancelled():
        future.exception()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:157]}…"


def is_forever(timeout: float | None) -> bool:
    return timeout is None or timeout == math.inf


async def bounded(future: Future[Any], timeout: float | None) -> Any:
    """Await with a time limit; the future outlives it."""
    async with asyncio.timeout(None if is_forever(timeout) else timeout):
        return await asyncio.shield(future)
