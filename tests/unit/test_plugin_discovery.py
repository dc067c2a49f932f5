"""Plugins that installed packages offer, the list of all plugins, and the schema of the agents file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from producer.cli.app import app
from runtime_core.config.schema import PluginRef
from runtime_core.errors import ConfigError, PluginLoadError
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins import registry
from runtime_core.plugins.builtin.tool.calc import CalcTool
from runtime_core.plugins.catalogue import Plugin, PluginSource, plugin_named, plugins
from runtime_core.plugins.config_schema import agents_file_schema, plugin_schema
from runtime_core.plugins.decorators import tool
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import Seam
from tests.unit.distributions import installed
from tests.unit.kernel_setup import config, request

WEATHER = """
from pydantic import BaseModel

class WeatherTool:
    '''What the weather is like.

    Never wrong.
    '''
    class Config(BaseModel):
        city: str = "Rome"

    def __init__(self, config=None):
        self.config = config or {}

    def invoke(self, params, context):
        return "sunny"

class Notes:
    pass
"""
ENTRY_POINTS = """
[runlane.plugins]
tool.weather = weather_tools:WeatherTool
tool.calc = weather_tools:WeatherTool
tool.broken = weather_tools:Missing
tool.exploding = exploding_tools:Tool
memory.notes = weather_tools:Notes
tols.weather = weather_tools:WeatherTool
weather = weather_tools:WeatherTool
"""


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {seam: {} for seam in Seam})
    modules = {"weather_tools": WEATHER, "exploding_tools": "raise SystemExit('no licence')"}
    with installed(tmp_path, "weather-kit", modules=modules, entry_points=ENTRY_POINTS, monkeypatch=monkeypatch):
        yield


@pytest.mark.usefixtures("weather")
async def test_a_type_that_a_package_offers_is_used_by_its_name() -> None:
    host = Runtime.from_dict(config(memory={"type": "notes"}, tools=[{"id": "w", "type": "weather"}]))

    result = await host.run_detailed(request("/tool w {}"))

    assert result.final_output == "w says: sunny"
    await host.close()


@pytest.mark.usefixtures("weather")
def test_a_package_is_not_imported_before_its_plugin_is_asked_for() -> None:
    assert "weather" in registry.known_types(Seam.TOOL)
    with pytest.raises(PluginLoadError, match="Did you mean 'weather'"):
        load_plugin(Seam.TOOL, PluginRef(type="wether"))
    assert "weather_tools" not in sys.modules

    load_plugin(Seam.TOOL, PluginRef(type="weather"))

    assert "weather_tools" in sys.modules
    assert "exploding_tools" not in sys.modules


@pytest.mark.usefixtures("weather")
def test_a_package_does_not_take_the_place_of_a_builtin_and_a_decorator_does() -> None:
    assert isinstance(load_plugin(Seam.TOOL, PluginRef(type="calc")), CalcTool)

    @tool(name="weather")
    def mine() -> str:
        return "mine"

    assert load_plugin(Seam.TOOL, PluginRef(type="weather")).invoke({}, None) == mine()


@pytest.mark.parametrize(
    ("name", "essentials"),
    [("broken", ["weather_tools:Missing", "AttributeError"]), ("exploding", ["exploding_tools:Tool", "no licence"])],
)
@pytest.mark.usefixtures("weather")
def test_a_broken_package_is_named_to_whoever_asks_for_it(name: str, essentials: list[str]) -> None:
    with pytest.raises(PluginLoadError) as caught:
        load_plugin(Seam.TOOL, PluginRef(type=name), where="agents[0].tools[0]")

    for essential in ["agents[0].tools[0]: ", "the distribution 'weather-kit'", *essentials]:
        assert essential in str(caught.value)


@pytest.mark.usefixtures("weather")
def test_the_list_says_where_each_plugin_comes_from_and_what_is_missing() -> None:
    @tool(name="mine")
    def mine() -> str:
        """My own."""
        return "mine"

    found = {plugin.type: plugin for plugin in plugins(Seam.TOOL)}

    def seen(name: str) -> tuple[str, str, str]:
        return found[name].source, found[name].distribution, found[name].description

    assert seen("calc") == ("builtin", "", "Evaluate an arithmetic expression and return the result.")
    assert seen("weather") == ("installed", "weather-kit", "What the weather is like.")
    assert seen("mine") == ("registered", "", "My own.")
    assert mine() == "mine"
    assert found["weather"].path == "weather_tools:WeatherTool"
    assert "no licence" in found["exploding"].missing
    assert (found["tavily_search"].source, found["tavily_search"].symbol) == (PluginSource.ABSENT, None)
    assert "tavily_search.TavilySearchTool" in found["tavily_search"].missing
    assert list(found) == sorted(found)


def test_every_builtin_is_listed_with_a_description() -> None:
    builtin = [one for one in plugins() if one.source is PluginSource.BUILTIN and not one.missing]

    assert len(builtin) > 40
    assert [one.type for one in builtin if not one.description] == []
    assert plugin_named("memory.buffer").description == "Every exchange of the session with this agent."


def test_a_builtin_that_lacks_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "NEEDS_EXTRA", {Seam.TOOL: {"calc": ("no_such_package", "sums")}})

    assert plugin_named("tool.calc").missing == "needs the package 'no_such_package' (pip install 'runlane[sums]')"


@pytest.mark.parametrize(
    ("name", "essentials"),
    [
        ("tool.calk", ["no tool type 'calk'", "Did you mean 'calc'?"]),
        ("tols.calc", ["names no plugin", "Did you mean 'tool'?"]),
        ("calc", ["names no plugin", "seam.type"]),
    ],
)
def test_a_plugin_that_is_not_there_is_said_with_a_near_match(name: str, essentials: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin_named(name)

    for essential in essentials:
        assert essential in str(caught.value)


def problems(agents_file: Any) -> list[str]:
    found = Draft202012Validator(agents_file_schema()).iter_errors(agents_file)
    return sorted(error.json_path for error in found)


def test_the_schema_takes_what_loads() -> None:
    schema = agents_file_schema()
    Draft202012Validator.check_schema(schema)
    demo: Any = yaml.safe_load((files("producer.cli.demo") / "agents.yaml").read_text())

    assert problems(config()) == []
    assert problems(config(tools=[{"id": "mine", "impl": "my.Tool", "config": {"anything": 1}}])) == []
    assert problems(config(tools=[{"id": "mine", "type": "registered_elsewhere", "config": {"anything": 1}}])) == []
    assert [path for path in problems(demo) if "llm" not in path] == []  # there, ${VAR} stands for the provider


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"memory": {"type": "window_buffer", "config": {"window_size": "many"}}}, "$.agents[0].memory.config"),
        ({"tools": [{"id": "f", "type": "read_file", "config": {"rot": "/"}}]}, "$.agents[0].tools[0].config"),
        ({"tools": [{"type": "calc"}]}, "$.agents[0].tools[0]"),
        ({"toolz": []}, "$.agents[0]"),
    ],
)
def test_the_schema_finds_what_does_not_load(changes: dict[str, Any], where: str) -> None:
    assert problems(config(**changes)) == [where]


@pytest.mark.usefixtures("weather")
def test_a_plugin_of_a_package_is_in_the_schema() -> None:
    assert plugin_schema("tool.weather")["properties"]["city"]["default"] == "Rome"
    assert problems(config(tools=[{"id": "w", "type": "weather", "config": {"city": 7}}])) == [
        "$.agents[0].tools[0].config"
    ]
    with pytest.raises(PluginLoadError, match=r"schema of tool\.exploding"):
        plugin_schema("tool.exploding")


def test_the_commands_print_json_lines_and_a_schema() -> None:
    listed = CliRunner().invoke(app, ["plugins", "--seam", "pattern", "--json"])
    schema = CliRunner().invoke(app, ["schema", "--plugin", "tool.http_request"])
    wrong = CliRunner().invoke(app, ["plugins", "--seam", "tols"])

    records = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {record["seam"] for record in records} == {"pattern"}
    assert set(records[0]) == {"seam", "type", "source", "path", "description", "distribution", "missing"}
    assert "react" in {record["type"] for record in records}
    assert json.loads(schema.stdout)["properties"]["allow_private"]["default"] is False
    assert isinstance(wrong.exception, ConfigError)
    assert "Did you mean 'tool'?" in str(wrong.exception)


def test_a_plugin_is_found_whatever_its_config_says_of_itself() -> None:
    class Odd:
        Config = "no model"

    assert Plugin(seam=Seam.TOOL, type="odd", source=PluginSource.REGISTERED, symbol=Odd).config_model is None


@pytest.mark.usefixtures("weather")
def test_what_a_package_offers_in_vain_is_said() -> None:
    said = CliRunner().invoke(app, ["plugins", "--seam", "memory"]).stderr.splitlines()

    assert [line.partition(":")[0] for line in said] == [
        f"weather-kit offers '{name}'" for name in ("tols.weather", "tool.calc", "weather")
    ]
    assert "Did you mean 'tool'?" in said[0]
    assert "the builtin of that name is used" in said[1]
