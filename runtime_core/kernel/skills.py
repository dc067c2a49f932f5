"""The session's skills, as a run is given them."""

from __future__ import annotations

from typing import Any

from runtime_core.contracts.context import RunContext
from runtime_core.errors import ConfigError
from runtime_core.kernel.optional_methods import optional_method
from runtime_core.suggestions import did_you_mean

#: In ``context_hints``: name of the skill that the run is about.
ACTIVE_SKILL_HINT = "active_skill"


async def set_up_skills(skills: Any, context: RunContext[Any], session_manager: Any) -> None:
    """Fill ``skill_metadata``, and ``active_skill`` with its instructions if the request's hint names one.

    Raises ConfigError for a name that is none of the session's skills.
    """
    if (prepare := optional_method(skills, "prepare_session")) is None:
        return
    prepared: dict[str, Any] = await prepare(session_id=context.session_id, session_manager=session_manager)
    if prepared:
        await _refresh(context, session_manager)
    context.skill_metadata.update(prepared)
    name: Any = context.run_request.context_hints.get(ACTIVE_SKILL_HINT)
    if name is None:
        return
    if name not in prepared:
        known = ", ".join(sorted(prepared)) or "none"
        raise ConfigError(f"there is no skill {name!r}", hint=f"{did_you_mean(str(name), prepared)}Skills: {known}")
    context.active_skill = name
    tell = optional_method(skills, "instructions")
    context.system_prompt_fragments.append(
        prepared[name].default_prompt if tell is None else await tell(skill_name=name)
    )


async def _refresh(context: RunContext[Any], session_manager: Any) -> None:
    """What was written to the session's state is in the run's, too."""
    state: dict[str, Any] = await session_manager.get_state(context.session_id)
    if state is not context.state:
        context.state.clear()
        context.state.update(state)
