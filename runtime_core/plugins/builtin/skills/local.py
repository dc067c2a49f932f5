"""Skills ``local``: skill packages below directories of this machine."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field

from runtime_core.contracts.skills import SessionSkillSummary
from runtime_core.errors import ConfigError, PluginError
from runtime_core.plugins.builtin.skills.packages import SkillPackage, find_packages
from runtime_core.plugins.protocols import SessionManager
from runtime_core.plugins.typed_config import TypedConfig
from runtime_core.suggestions import did_you_mean

#: In the session state: what is known of each skill, by name.
STATE_KEY = "_session_skills"
_SUMMARY_LENGTH = 300


class LocalSkills(TypedConfig):
    """Each folder below one of ``search_paths`` with a ``SKILL.md`` is a skill; see ``packages.py``. What a session
    knows of its skills is in its state; skills are looked for once per process.
    """

    class Config(BaseModel):
        search_paths: list[Path] = Field(default_factory=lambda: [Path("skills")])
        #: Names; all if empty.
        enabled: list[str] = Field(default_factory=list)

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self._packages: dict[str, SkillPackage] | None = None

    async def prepare_session(
        self, *, session_id: str, session_manager: SessionManager
    ) -> dict[str, SessionSkillSummary]:
        """The session's skills by name. A session without any is left as it is."""
        packages = await self._found()
        if not packages:
            return {}
        state = await session_manager.get_state(session_id)
        known = _known(state)
        summaries = {name: _summary(package, known.get(name)) for name, package in packages.items()}
        entries = {name: summary.model_dump() for name, summary in summaries.items()}
        if entries != known:
            await session_manager.set_state(session_id, {**state, STATE_KEY: entries})
        return summaries

    async def instructions(self, *, skill_name: str) -> str:
        """What ``SKILL.md`` says below its front matter, or else the default prompt. Raises ConfigError."""
        package = await self._package(skill_name)
        return package.instructions or package.default_prompt

    async def load_references(
        self, *, session_id: str, skill_name: str, session_manager: SessionManager
    ) -> list[dict[str, str]]:
        """``{"path", "content"}`` of each reference of a skill. Raises ConfigError for a skill that is not there."""
        loaded = await asyncio.to_thread((await self._package(skill_name)).references)
        paths = [reference["path"] for reference in loaded]
        await self._note(session_id, skill_name, session_manager, references_loaded=paths)
        return loaded

    async def run_skill(
        self, *, session_id: str, skill_name: str, payload: dict[str, Any], session_manager: SessionManager
    ) -> dict[str, Any]:
        """What the skill's ``run_openagent_skill(payload)`` returns, a mapping; a plain function runs in a thread.

        Raises ConfigError for a skill that is not there, PluginError for one that cannot be run.
        """
        package = await self._package(skill_name)
        function: Any = await asyncio.to_thread(package.function)
        is_async = inspect.iscoroutinefunction(function)
        outcome: Any = await function(payload) if is_async else await asyncio.to_thread(function, payload)
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if not isinstance(outcome, dict):
            raise PluginError(
                f"the skill {skill_name!r} returned a {type(outcome).__name__}", hint="have it return a mapping"
            )
        result = cast("dict[str, Any]", outcome)
        said = str(result.get("design_rationale", "")).strip()[:_SUMMARY_LENGTH]
        await self._note(session_id, skill_name, session_manager, last_result_summary=said or None)
        return result

    async def _found(self) -> dict[str, SkillPackage]:
        if self._packages is None:
            paths = [path.resolve() for path in self.cfg.search_paths]
            self._packages = await asyncio.to_thread(find_packages, paths, self.cfg.enabled)
        return self._packages

    async def _package(self, name: str) -> SkillPackage:
        packages = await self._found()
        if name not in packages:
            known = ", ".join(sorted(packages)) or "none"
            raise ConfigError(f"there is no skill {name!r}", hint=f"{did_you_mean(name, packages)}Skills: {known}")
        return packages[name]

    async def _note(self, session_id: str, name: str, session_manager: SessionManager, **changes: Any) -> None:
        state = await session_manager.get_state(session_id)
        known = _known(state)
        entry = {**_summary(await self._package(name), known.get(name)).model_dump(), **changes}
        await session_manager.set_state(session_id, {**state, STATE_KEY: {**known, name: entry}})


def _known(state: Mapping[str, Any]) -> dict[str, Any]:
    known: Any = state.get(STATE_KEY)
    return dict(cast("dict[str, Any]", known)) if isinstance(known, dict) else {}


def _summary(package: SkillPackage, known: Any) -> SessionSkillSummary:
    before = cast("dict[str, Any]", known) if isinstance(known, dict) else {}
    return SessionSkillSummary(
        name=package.name,
        description=package.description,
        display_name=package.display_name,
        default_prompt=package.default_prompt,
        references_loaded=before.get("references_loaded") or [],
        last_result_summary=before.get("last_result_summary"),
    )
