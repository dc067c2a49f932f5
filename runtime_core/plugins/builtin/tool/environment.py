"""Environment variables that a session sees: those of the process that the config allows, and the session's own.

``set_env`` changes nothing in the process, which other sessions share: the variable belongs to the session, and
``get_env``, ``execute_command`` and ``shell_exec`` of the same session see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime_core.contracts.tool import ToolExecutionSpec
from runtime_core.errors import ToolAuthError, ToolValidationError
from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters
from runtime_core.suggestions import did_you_mean

#: Key of the session state that holds the session's own variables.
SESSION_ENVIRONMENT_KEY = "_environment"

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
#: Words of names whose values are secret.
_SECRET_WORD = re.compile(
    r"(^|_)(AUTH|AUTHORIZATION|BEARER|COOKIES?|DSN|KEYS?|PASS|PRIVATE)(_|$)|.+_PWD$"
    r"|(API_?KEY|CREDENTIAL|PASSPHRASE|PASSWD|PASSWORD|SECRET|TOKEN)S?(_|$)",  # PGPASSWORD, too
    re.IGNORECASE,
)
#: Values such as redis://:password@host.
_SECRET_VALUE = re.compile(r"://[^/\s]*@")
#: Names that make another program of the one that is started: what it loads, what it starts, and where it finds the
#: config that says so. There is no end to them; who lists a program that has more of them contains it otherwise.
_STEERING = re.compile(
    r"^(PATH|IFS|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|EDITOR|VISUAL|PAGER|SHELL|NODE_OPTIONS|NODE_PATH"
    r"|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS|CLASSPATH|MAVEN_OPTS|GRADLE_OPTS"
    r"|HOME|LESSOPEN|LESSCLOSE|MANPAGER|BROWSER|TAR_OPTIONS|RIPGREP_CONFIG_PATH|MAKEFLAGS|GNUMAKEFLAGS|GCONV_PATH"
    r"|KUBECONFIG|AWS_CONFIG_FILE|PHPRC|PHP_INI_SCAN_DIR|SSH_ASKPASS"
    r"|(LD|DYLD|PYTHON|PERL|RUBY|GIT|GEM|NPM|LUA|BASH_FUNC|XDG|OPENSSL|CARGO|RUSTC|DOCKER)_?.*)$",
    re.IGNORECASE,
)


def steers_programs(name: str) -> bool:
    """Whether a program that is started with this variable may do something else than without it."""
    return _STEERING.match(name) is not None


def session_environment(context: Any) -> dict[str, str]:
    """A copy of the variables that the session has set itself."""
    state: Mapping[str, Any] = getattr(context, "state", None) or {}
    return dict(state.get(SESSION_ENVIRONMENT_KEY) or {})


class EnvironmentConfig(BaseModel):
    """``allowed``: names of variables, or patterns such as ``APP_*``.

    A pattern does not let through what looks like a secret or steers programs: that must be listed by its full name.
    """

    model_config = ConfigDict(extra="forbid")

    allowed: list[str] = Field(default_factory=list[str])


class _EnvironmentTool:
    name: str
    cfg: EnvironmentConfig

    def _refuse(self, key: str, *, sensitive: bool) -> None:
        allowed = self.cfg.allowed
        if key in allowed or (not sensitive and any(fnmatchcase(key, pattern) for pattern in allowed)):
            return
        known = ", ".join(allowed)
        raise ToolAuthError(
            f"the environment variable {key!r} is not allowed",
            hint=f"{did_you_mean(key, allowed)}Allowed: {known}"
            if allowed
            else f"none is: list its name in the config of this tool, {self.name}: allowed: [{key}]",
            tool_id=self.name,
        )


class GetEnvParameters(Parameters):
    key: str = Field(pattern=_NAME, max_length=256, description="Name of the variable")
    default: str | None = Field(None, max_length=32_768, description="What to return if it is not set")


class GetEnvTool(_EnvironmentTool, BuiltinTool[GetEnvParameters]):
    """``{"key": "LANG"}`` → ``{key, value, exists}``."""

    name = "get_env"
    description = "Read an environment variable."
    Parameters = GetEnvParameters
    Config = EnvironmentConfig
    cfg: EnvironmentConfig

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        own = session_environment(context).get(given.key)
        value = os.environ.get(given.key) if own is None else own
        # What the session has set itself is no secret to it.
        self._refuse(given.key, sensitive=own is None and _looks_secret(given.key, value))
        return {"key": given.key, "value": given.default if value is None else value, "exists": value is not None}


class SetEnvParameters(Parameters):
    key: str = Field(pattern=_NAME, max_length=256, description="Name of the variable")
    value: str | int | float | bool = Field(description="Its new value")


class SetEnvTool(_EnvironmentTool, BuiltinTool[SetEnvParameters]):
    """``{"key": "APP_MODE", "value": "test"}`` → ``{key, value, "set": true}``, for this session alone."""

    name = "set_env"
    description = "Set an environment variable for this session and the commands that it executes."
    Parameters = SetEnvParameters
    Config = EnvironmentConfig
    cfg: EnvironmentConfig
    #: Setting it twice is setting it once.
    durable_idempotent = True

    def execution_spec(self) -> ToolExecutionSpec:
        return ToolExecutionSpec(concurrency_safe=True, side_effects="session")

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        self._refuse(given.key, sensitive=steers_programs(given.key))
        value = str(given.value).lower() if isinstance(given.value, bool) else str(given.value)
        if "\0" in value or len(value) > 32_768:
            raise ToolValidationError(
                "the value is longer than 32768 characters or contains NUL",
                hint="use a shorter text",
                tool_id=self.name,
            )
        context.state[SESSION_ENVIRONMENT_KEY] = session_environment(context) | {given.key: value}
        return {"key": given.key, "value": value, "set": True}


def _looks_secret(name: str, value: str | None) -> bool:
    return _SECRET_WORD.search(name) is not None or (value is not None and _SECRET_VALUE.search(value) is not None)
