"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RedisUrl = Annotated[
    str,
    typer.Option("--redis-url", envvar="RUNLANE_REDIS_URL", show_envvar=True, help="Redis that the fleet runs on."),
]
Tenant = Annotated[str, typer.Option("--tenant", envvar="RUNLANE_TENANT", help="Whose runs these are.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on a terminal too.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")]
Every = Annotated[float, typer.Option("--every", min=0.1, max=3600, help="Seconds between two looks of --watch.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, as submit printed it.")]
Agent = Annotated[str, typer.Option("--agent", "-a", help="Id of the agent in the agents file.")]
Session = Annotated[
    str | None, typer.Option("--session", "-s", help="Session to run in; its runs go one after the other. [a new one]")
]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="Input of the run; - reads standard input.")]
OwnRunId = Annotated[
    str | None, typer.Option("--run-id", help="Id of the run; submitting it again is the same run. [a new one]")
]
QueueDeadline = Annotated[
    float | None,
    typer.Option(
        "--queue-deadline",
        min=0.001,
        max=365 * 24 * 3600,
        help="Seconds by which the run must have started, or it ends.",
    ),
]
Durable = Annotated[
    bool, typer.Option("--durable", help="Keep each answer of the model and of a tool as a step to go on behind.")
]
ResumeFrom = Annotated[
    str | None,
    typer.Option(
        "--resume-from", help="Step of an earlier run of the session to go on behind: <run id>:step:<number>."
    ),
]
Budget = Annotated[
    list[str] | None,
    typer.Option("--budget", "-b", metavar="NAME=NUMBER", help="A limit, such as max_tool_calls=5. May be repeated."),
]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait; the run goes on after.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="RUNLANE_CONFIG", help="The agents file (YAML or JSON)."),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", min=1, envvar="RUNLANE_CONCURRENCY", help="Runs that execute at once per worker."),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        envvar="RUNLANE_METRICS_PORT",
        help="Serve Prometheus metrics at /metrics there; 0 takes a free port. [nowhere]",
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        min=0,
        max=65535,
        envvar="RUNLANE_HEALTH_PORT",
        help="Answer the probes /live and /ready there; may be the port of the metrics. [nowhere]",
    ),
]
HttpHost = Annotated[
    str | None,
    typer.Option(
        "--http-host",
        envvar="RUNLANE_HTTP_HOST",
        help="Address of this machine that both listen on, 0.0.0.0 for all. [127.0.0.1]",
    ),
]

DEFAULT_EVERY = 2.0
DEFAULT_LIMIT = 50
DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_TENANT = "default"
