"""From a reference in the agents file to a plugin, or to an error that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from runtime_core.config.schema import PluginRef
from runtime_core.errors import PluginConfigError, PluginLoadError
from runtime_core.plugins import decorators, registry
from runtime_core.plugins.builtin.pattern.base import Pattern
from runtime_core.plugins.builtin.tool.calc import CalcTool
from runtime_core.plugins.loader import load_plugin
from runtime_core.plugins.protocols import REQUIRED_METHODS, Seam
from runtime_core.plugins.typed_config import TypedConfig

MODULE = """
import dataclasses

class Good:
    name = "good"
    description = "An openagents tool."
    def __init__(self, config=None):
        self.config = config or {}
    async def invoke(self, params, context):
        return self.config
    def schema(self):
        return {"type": "object"}

class WithoutConfig:
    def invoke(self, params, context):
        return "ok"

class Lacking:
    pass

class Exits:
    def __init__(self, config=None):
        raise SystemExit(3)
    def invoke(self, params, context): ...

class Outer:
    class Inner(Good):
        pass

async def echo(params, context):
    '''Say it again.'''
    return params

instance = Good({"ready": True})
number = 7
"""

#: The builtins of the openagents SDK 0.4, by ``type``.
_OF_THE_SDK = {
    Seam.MEMORY: "buffer window_buffer markdown_memory chain mem0 zep",
    Seam.PATTERN: "react plan_execute reflexion",
    Seam.CONTEXT_ASSEMBLER: "truncating head_tail sliding_window importance_weighted",
    Seam.TOOL_EXECUTOR: "safe retry filesystem_aware concurrent_batch",
    Seam.SESSION: "in_memory sqlite jsonl_file",
    Seam.EVENTS: "async file_logging otel_bridge rich_console",
    Seam.SKILLS: "local",
    Seam.DIAGNOSTICS: "null rich langfuse phoenix",
    Seam.TOOL: """builtin_search mcp read_file write_file list_files delete_file grep_files ripgrep json_parse
        text_transform http_request remember_preference shell_exec tavily_search execute_command get_env set_env
        current_time date_parse date_diff random_int random_choice random_string uuid url_parse url_build query_param
        host_lookup calc percentage min_max""",
}


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the path with a module ``my_plugins``; its modules are forgotten afterwards."""
    (tmp_path / "my_plugins.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "exiting.py").write_text("raise SystemExit('bye')")
    (tmp_path / "malformed.py").write_text("def f(:")
    (tmp_path / "needy.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_plugins", "broken", "exiting", "malformed", "needy"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def registrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_registered", {seam: {} for seam in Seam})


def refusal(seam: Seam, **ref: Any) -> PluginLoadError:
    with pytest.raises(PluginLoadError) as caught:
        load_plugin(seam, PluginRef(**ref), where="agents[0].tools[0]")
    assert str(caught.value).startswith("agents[0].tools[0]: ")
    return caught.value


def test_a_builtin_is_loaded_by_type() -> None:
    assert isinstance(load_plugin(Seam.TOOL, PluginRef(type="calc")), CalcTool)


@pytest.mark.parametrize("path", ["my_plugins.Good", "my_plugins:Good", "my_plugins:Outer.Inner"])
@pytest.mark.usefixtures("plugins")
async def test_an_openagents_class_is_loaded_by_impl(path: str) -> None:
    tool = load_plugin("tool", PluginRef(impl=path, config={"a": 1}))

    assert await tool.invoke({}, None) == {"a": 1}


@pytest.mark.usefixtures("plugins")
def test_a_class_without_config_and_a_ready_object_are_plugins_too() -> None:
    assert load_plugin(Seam.TOOL, PluginRef(impl="my_plugins.WithoutConfig")).invoke({}, None) == "ok"
    assert load_plugin(Seam.TOOL, PluginRef(impl="my_plugins.instance")).config == {"ready": True}


@pytest.mark.usefixtures("plugins")
async def test_a_function_is_a_tool() -> None:
    tool = load_plugin(Seam.TOOL, PluginRef(impl="my_plugins.echo"))

    assert tool.describe() == {"name": "echo", "description": "Say it again.", "parameters": {"type": "object"}}
    assert await tool.invoke({"x": 1}, None) == {"x": 1}


@pytest.mark.parametrize(
    ("ref", "essentials"),
    [
        ({"impl": "Good"}, ["impl 'Good' is not a path", "module.Class"]),
        ({"impl": "a b.C"}, ["is not a path"]),
        ({"impl": "my_plugnis.Good"}, ["no module 'my_plugnis'", "PYTHONPATH"]),
        ({"impl": "my_plugins.deep.Good"}, ["no module 'my_plugins.deep'"]),
        ({"impl": "my_plugins.Godd"}, ["module 'my_plugins' has no 'Godd'", "Did you mean 'Good'?"]),
        ({"impl": "needy.Tool"}, ["module 'needy' needs 'nowhere_to_be_found'", "install"]),
        ({"impl": "broken.Tool"}, ["importing 'broken' raised RuntimeError: no licence"]),
        ({"impl": "exiting.Tool"}, ["importing 'exiting' raised SystemExit: bye"]),
        ({"impl": "malformed.Tool"}, ["importing 'malformed' raised SyntaxError"]),
        ({"impl": "my_plugins.Lacking"}, ["Lacking lacks invoke", "a tool plugin implements invoke"]),
        ({"impl": "my_plugins.number"}, ["lacks invoke"]),
        ({"impl": "my_plugins.Exits"}, ["Exits could not be made: SystemExit: 3"]),
        ({"impl": "my_plugins.WithoutConfig", "config": {"a": 1}}, ["WithoutConfig takes no config", "a"]),
        ({"type": "calk"}, ["unknown tool type 'calk'", "Did you mean 'calc'?", "Available: builtin_search, calc"]),
        (
            {"type": "tavily_search"},
            ["the package 'tavily-python'", "impl: openagents.plugins.builtin.tool.tavily_search."],
        ),
    ],
)
@pytest.mark.usefixtures("plugins")
def test_what_cannot_be_loaded_is_said_with_the_fix(ref: dict[str, Any], essentials: list[str]) -> None:
    error = refusal(Seam.TOOL, **ref)

    for essential in essentials:
        assert essential in str(error)


@pytest.mark.usefixtures("plugins")
def test_the_cause_of_a_failing_import_is_kept() -> None:
    assert isinstance(refusal(Seam.TOOL, impl="broken.Tool").__cause__, RuntimeError)


@pytest.mark.parametrize("seam", _OF_THE_SDK)
def test_every_type_of_the_original_is_either_there_or_named_as_missing(seam: Seam) -> None:
    present, absent = set(registry.BUILTINS.get(seam, {})), set(registry.ONLY_IN_SDK.get(seam, {}))
    assert set(_OF_THE_SDK[seam].split()) <= present | absent
    assert not present & absent


@pytest.mark.parametrize("name", sorted(registry.BUILTINS[Seam.TOOL]))
def test_every_builtin_tool_describes_itself(name: str) -> None:
    tool = load_plugin(Seam.TOOL, PluginRef(type=name))

    description = tool.describe()

    assert description["name"] == name
    assert description["description"]
    assert description["parameters"]["type"] == "object"
    assert description["parameters"]["properties"]


def test_every_seam_says_what_it_requires() -> None:
    assert set(REQUIRED_METHODS) == set(Seam)


def test_a_decorated_class_is_known_by_its_name() -> None:
    @decorators.memory
    class Notes:
        pass

    @decorators.pattern(name="think")
    class Thinker:
        async def execute(self) -> str:
            return "done"

    assert isinstance(load_plugin(Seam.MEMORY, PluginRef(type="Notes")), Notes)
    assert isinstance(load_plugin(Seam.PATTERN, PluginRef(type="think")), Thinker)


def test_a_decorated_function_gets_its_schema_from_its_signature() -> None:
    @decorators.tool(name="adder", description="Adds.")
    def add(left: int, right: int = 2) -> int:
        return left + right

    tool = load_plugin(Seam.TOOL, PluginRef(type="adder"))

    assert add(1) == 3
    assert tool.invoke({"left": 5}, None) == 7
    description = tool.describe()
    assert (description["name"], description["description"]) == ("adder", "Adds.")
    assert description["parameters"]["required"] == ["left"]


def test_taking_the_place_of_a_builtin_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    @decorators.tool(name="calc")
    def mine(text: str) -> str:
        return text

    assert "takes the place of the builtin" in caplog.text
    assert load_plugin(Seam.TOOL, PluginRef(type="calc")).invoke({"text": "x"}, None) == mine("x")


class Configured(TypedConfig):
    class Config(BaseModel):
        size: int = 3

    cfg: Config

    def invoke(self, params: Any, context: Any) -> int:
        return self.cfg.size


class Strict(Configured):
    class Config(Configured.Config):
        model_config = ConfigDict(extra="forbid")


def test_a_typed_config_is_checked() -> None:
    impl = f"{__name__}.Configured"
    assert load_plugin(Seam.TOOL, PluginRef(impl=impl, config={"size": "5"})).invoke({}, None) == 5

    with pytest.raises(PluginConfigError) as caught:
        load_plugin(Seam.TOOL, PluginRef(impl=impl, config={"size": "big"}), where="agents[0].tools[1]")

    assert "agents[0].tools[1]: Configured: config.size: " in str(caught.value)
    assert "(value 'big')" in str(caught.value)


def test_an_unknown_config_field_is_a_warning_unless_forbidden(caplog: pytest.LogCaptureFixture) -> None:
    Configured({"sise": 1})
    assert "Configured ignores the unknown config field 'sise'. Did you mean 'size'?" in caplog.text

    with pytest.raises(PluginConfigError, match=r"config\.sise: unknown field"):
        Strict({"sise": 1})


class PatternWithoutExecute(Pattern):
    """Takes the base class and forgets what it is for."""


def test_the_base_class_of_patterns_does_not_hide_that_execute_is_missing() -> None:
    with pytest.raises(PluginLoadError, match="PatternWithoutExecute lacks execute"):
        load_plugin("pattern", PluginRef(impl=f"{__name__}.PatternWithoutExecute"))
