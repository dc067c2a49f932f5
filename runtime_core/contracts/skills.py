"""What a session knows of a skill."""

from __future__ import annotations

from pydantic import BaseModel, Field


class SessionSkillSummary(BaseModel):
    name: str
    description: str
    display_name: str = ""
    default_prompt: str = ""
    #: Paths.
    references_loaded: list[str] = Field(default_factory=list[str])
    last_result_summary: str | None = None
