"""A search by words in a few documents that the config gives: a search tool that needs no service."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime_core.plugins.builtin.tool.base import BuiltinTool, Parameters


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1)
    snippet: str


#: What is searched if the config gives nothing: enough to try an agent out.
_EXAMPLES = (
    Document(
        title="Agent Memory Design",
        snippet="Memory is injected before a pattern executes and written back after it, once per run.",
    ),
    Document(
        title="ReAct Pattern Notes",
        snippet="The pattern alternates between reasoning steps of the model and calls of tools.",
    ),
    Document(
        title="Session Concurrency Guide",
        snippet="Runs of the same session are executed in order; different sessions are concurrent.",
    ),
)


class BuiltinSearchConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: What is searched; three examples if unset.
    documents: list[Document] = Field(default_factory=lambda: list(_EXAMPLES))


class BuiltinSearchParameters(Parameters):
    query: str = Field("", max_length=1000, description="Words to search for; all documents if empty")
    limit: int = Field(3, ge=1, le=100, description="Most results to return")


class BuiltinSearchTool(BuiltinTool[BuiltinSearchParameters]):
    """``{"query": "memory"}`` → ``{query, items: [{title, snippet}]}``, those with the most of the words first."""

    name = "builtin_search"
    description = "Search a small collection of documents by words."
    Parameters = BuiltinSearchParameters
    Config = BuiltinSearchConfig
    cfg: BuiltinSearchConfig

    async def invoke(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        given = self.check(params)
        words = given.query.lower().split()
        scored = [(_score(document, words), document) for document in self.cfg.documents]
        if words:
            scored = sorted((one for one in scored if one[0]), key=lambda one: -one[0])
        return {
            "query": given.query.strip(),
            "items": [document.model_dump() for _, document in scored[: given.limit]],
        }


def _score(document: Document, words: list[str]) -> int:
    text = f"{document.title} {document.snippet}".lower()
    return sum(word in text for word in words)
