"""The control commands of a worker, which are Celery remote control commands, and what one answers.

Every answer is one JSON object: ``ok`` (a sentence) and the command's own fields, or ``error`` (a sentence) and
``details`` (ErrorDetails); ``worker`` names who answers. ``celery -A workers.app inspect`` and ``control`` show them.
"""

from __future__ import annotations

from enum import StrEnum


class FleetCommand(StrEnum):
    #: version (the least that the caller means) → version, changed_agents. Go over to the current agents config.
    RELOAD = "runlane_reload"
    #: digest. Whether a candidate could be loaded: parse it, import its plugins. Changes nothing.
    CHECK_CONFIG = "runlane_check_config"
    #: agent_id → sessions. Drop the agent's plugins; its sessions go on with its current config.
    RELOAD_AGENT = "runlane_reload_agent"
    #: session_id, tenant → held. Close the session's plugins after its executing run; unpin its config.
    CLOSE_SESSION = "runlane_close_session"
    #: session_id, tenant. Release what the runtime itself holds for the session; plugins stay.
    RELEASE_SESSION = "runlane_release_session"
    #: Give all partitions up as their runs end, then stop.
    DRAIN = "runlane_drain"
    #: What the worker is and does now.
    STATUS = "runlane_status"
    #: limit → sessions, count: those whose plugins are warm here, last used first.
    SESSIONS = "runlane_sessions"
    #: agent_id → agents ([{id, name}]), agent (what get_agent_info says of that one).
    AGENTS = "runlane_agents"
