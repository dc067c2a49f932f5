"""The JSON Schema of the agents file, with what the plugins that are there take as their ``config``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from runtime_core.config import schema
from runtime_core.errors import PluginLoadError
from runtime_core.plugins.catalogue import Plugin, plugin_named, plugins
from runtime_core.plugins.protocols import Seam

#: The model of each seam's section.
_SECTIONS: dict[Seam, type[schema.PluginRef]] = {
    Seam.MEMORY: schema.MemoryRef,
    Seam.PATTERN: schema.PatternRef,
    Seam.TOOL: schema.ToolRef,
    Seam.TOOL_EXECUTOR: schema.ToolExecutorRef,
    Seam.CONTEXT_ASSEMBLER: schema.ContextAssemblerRef,
    Seam.SESSION: schema.SessionRef,
    Seam.EVENTS: schema.EventBusRef,
    Seam.RUNTIME: schema.RuntimeRef,
    Seam.SKILLS: schema.SkillsRef,
    Seam.DIAGNOSTICS: schema.DiagnosticsRef,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def agents_file_schema() -> dict[str, Any]:
    """A section with a ``type`` that is known has its ``config`` checked; other types, and ``impl``, take any.

    Of a plugin that cannot be imported here, the config is not checked either.
    """
    known = plugins()
    configs = {(one.seam, one.type): model for one in known if (model := one.config_model) is not None}
    references, document = _schemas([schema.AppConfig, *configs.values(), *_SECTIONS.values()])
    definitions: dict[str, Any] = document["$defs"]
    for seam, section in _SECTIONS.items():
        definition = definitions[references[section].rpartition("/")[2]]
        types = [one.type for one in known if one.seam is seam]
        definition["properties"]["type"] = _type_schema(types)
        conditions = [
            _condition(name, references[model]) for (of_seam, name), model in configs.items() if of_seam is seam
        ]
        if conditions:
            definition["allOf"] = conditions
    root = definitions.pop(references[schema.AppConfig].rpartition("/")[2])
    return {"$schema": _DIALECT, **root, "title": "Runlane agents file", "$defs": definitions}


def plugin_schema(name: str) -> dict[str, Any]:
    """Of the config of the plugin ``seam.type``; any object if it does not say.

    Raises ConfigError for an unknown one, PluginLoadError if it cannot be imported.
    """
    plugin = plugin_named(name)
    if plugin.symbol is None:
        raise PluginLoadError(f"the schema of {name} is not known here", hint=plugin.missing)
    model = plugin.config_model
    shape: dict[str, Any] = {"type": "object"} if model is None else model.model_json_schema()
    return {"$schema": _DIALECT, **shape, "title": _title(plugin)}


def _title(plugin: Plugin) -> str:
    return f"config of {plugin.seam}.{plugin.type}"


def _schemas(models: Iterable[type[BaseModel]]) -> tuple[dict[type[BaseModel], str], dict[str, Any]]:
    """The reference of each model, and the document with all definitions."""
    unique = list(dict.fromkeys(models))
    references, document = models_json_schema(
        [(model, "validation") for model in unique], ref_template="#/$defs/{model}"
    )
    return {model: references[model, "validation"]["$ref"] for model in unique}, document


def _type_schema(types: list[str]) -> dict[str, Any]:
    """The known ones for an editor to offer, and any other: plugins are registered by code, too."""
    offered = [{"enum": types}] if types else []
    return {
        "anyOf": [*offered, {"type": "string"}, {"type": "null"}],
        "default": None,
        "description": "A builtin, or what a decorator or a package registers; else give impl.",
    }


def _condition(name: str, reference: str) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
        "then": {"properties": {"config": {"anyOf": [{"$ref": reference}, {"type": "null"}]}}},
    }
