"""The agents file: what loads, and what the errors say."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from runtime_core.config.loader import load_config, load_config_dict, load_config_text
from runtime_core.config.schema import ContextAssemblerRef, ToolExecutorRef
from runtime_core.errors import ConfigLoadError, ConfigValidationError

OPENAGENTS_FILE: dict[str, Any] = {
    "version": "1.0",
    "runtime": {"type": "default", "config": {}},
    "session": {"type": "in_memory"},
    "events": {"type": "async", "config": {"max_history": 100}},
    "skills": {"type": "local", "config": {"search_paths": ["skills"]}},
    "logging": {"auto_configure": True, "level": "debug", "per_logger_levels": {"a": "info"}, "redact_keys": ["pin"]},
    "diagnostics": {"type": "null", "error_snapshot_last_n": 5},
    "multi_agent": {"enabled": False, "default_child_budget": {"max_steps": 3}},
    "agents": [
        {
            "id": "assistant",
            "name": "Assistant",
            "memory": {"type": "window_buffer", "on_error": "fail", "config": {"window_size": 12}},
            "pattern": {"type": "react", "config": None},
            "llm": {
                "provider": "openai_compatible",
                "model": "m",
                "api_base": "http://localhost:1/v1",
                "api_key_env": "KEY",
                "temperature": 0.2,
                "retry": {"max_attempts": 2},
                "pricing": {"input": 1.0, "output": 2.0},
                "extra_headers": {"x-team": "a"},
                "top_p": 0.9,
            },
            "tool_executor": {"type": "safe"},
            "context_assembler": {"impl": "mine.Assembler"},
            "tools": [{"id": "calc", "type": "calc"}, {"id": "off", "impl": "mine.Tool", "enabled": False}],
            "runtime": {"max_steps": 8, "step_timeout_ms": 1000, "session_queue_size": 5, "event_queue_size": 6},
        }
    ],
}


def agent(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"id": "a", "name": "A", "memory": {"type": "buffer"}, "pattern": {"type": "react"}}
    return base | changes


def refusal(payload: Any) -> str:
    with pytest.raises(ConfigValidationError) as caught:
        load_config_dict(payload)
    assert caught.value.code == "config.validation"
    return str(caught.value)


def load_refusal(text: str, **options: Any) -> str:
    with pytest.raises(ConfigLoadError) as caught:
        load_config_text(text, source="agents", **options)
    assert caught.value.code == "config.load"
    return str(caught.value)


def test_an_openagents_file_loads_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(OPENAGENTS_FILE))

    config = load_config(path)

    assistant = config.agents_by_id["assistant"]
    assert assistant.llm is not None
    assert assistant.llm.model_extra == {"top_p": 0.9}
    assert assistant.pattern.config == {}
    assert config.logging is not None
    assert config.logging.per_logger_levels == {"a": "INFO"}
    assert config.multi_agent is not None
    assert config.multi_agent.default_child_budget is not None


def test_defaults_are_those_of_openagents() -> None:
    config = load_config_dict({"agents": [agent()]})

    assert (config.runtime.type, config.session.type, config.events.type) == ("default", "in_memory", "async")
    assert (config.agents[0].runtime.max_steps, config.agents[0].runtime.step_timeout_ms) == (16, 30_000)


def test_agents_have_what_the_default_runtime_says_unless_they_name_their_own() -> None:
    given = {"tool_executor": {"type": "safe"}, "context_assembler": {"type": "truncating"}}
    agents = [agent(), agent(id="b", tool_executor={"type": "retry"})]

    config = load_config_dict({"agents": agents, "runtime": {"type": "default", "config": given}})

    of = config.agents_by_id
    assert [of[name].tool_executor for name in "ab"] == [ToolExecutorRef(type="safe"), ToolExecutorRef(type="retry")]
    assert [of[name].context_assembler for name in "ab"] == [ContextAssemblerRef(type="truncating")] * 2

    default = {"type": "default", "config": {"tool_executor": {"type": "default"}}}
    assert load_config_dict({"agents": agents, "runtime": default}).agents[0].tool_executor is None


def test_the_config_of_another_runtime_is_its_own_affair() -> None:
    runtime = {"impl": "m.Runtime", "config": {"tool_executor": "of its own kind"}}

    assert load_config_dict({"agents": [agent()], "runtime": runtime}).agents[0].tool_executor is None


def test_yaml_and_json_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("agents: [{id: a, name: A, memory: {type: buffer}, pattern: {type: react}}]")
    (tmp_path / "a.json").write_text(json.dumps({"agents": [agent()]}))

    assert load_config(tmp_path / "a.yaml") == load_config(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("payload", "essentials"),
    [
        (
            {"agents": [agent(tools=[{"id": "x", "type": "calc"}, {"id": "y", "typ": "calc", "type": "calc"}])]},
            ["agents[0].tools[1].typ: unknown field (value 'calc')", "Did you mean 'type'?"],
        ),
        ({"agents": [agent(runtime={"max_step": 3})]}, ["agents[0].runtime.max_step", "Did you mean 'max_steps'?"]),
        ({"agent": []}, ["agent: unknown field", "Did you mean 'agents'?", "agents: required, but missing"]),
        ({"agents": [agent(memory={})]}, ["agents[0].memory: names no plugin", "set 'type'"]),
        ({"agents": [agent(memory={"type": " "})]}, ["agents[0].memory: names no plugin"]),
        (
            {"agents": [agent(pattern={"type": "react", "impl": "m.C"})]},
            ["agents[0].pattern: has both type 'react' and impl 'm.C'; keep one"],
        ),
        ({"agents": [agent(memory="buffer")]}, ["agents[0].memory", "'buffer'"]),
        ({"agents": [agent(memory="redis://ada:pw@host/0")]}, ["(value 'redis://ada:***@host/0')"]),
        ({"agents": [agent(runtime={"max_steps": 0})]}, ["agents[0].runtime.max_steps", "(value 0)", "greater than 0"]),
        ({"agents": [agent(), agent()]}, ["agents: agent id 'a' stands at [0] and at [1]"]),
        (
            {"agents": [agent(tools=[{"id": "t", "type": "calc"}, {"id": "t", "type": "calc"}])]},
            ["agents[0].tools: tool id 't' stands at [0] and at [1]"],
        ),
        ({"agents": []}, ["agents: at least one agent is needed"]),
        ({"agents": [agent(id="  ")]}, ["agents[0].id"]),
        ({"agents": [agent(llm={"provider": "openai_compatible"})]}, ["agents[0].llm", "needs 'api_base'"]),
        ({"agents": [agent(llm={"provider": "antropic"})]}, ["agents[0].llm.provider", "Did you mean 'anthropic'?"]),
        ({"agents": [agent(llm={"temperature": 3})]}, ["agents[0].llm.temperature", "less than or equal to 2"]),
        ({"agents": [agent(llm={"pricing": {"input": -1}})]}, ["agents[0].llm.pricing.input", "(value -1)"]),
        ({"agents": [agent(llm={"pricing": {"output": "nan"}})]}, ["agents[0].llm.pricing.output", "finite"]),
        ({"agents": [agent()], "logging": {"level": "loud"}}, ["logging.level: not a log level", "WARNING"]),
        (
            {"agents": [agent()], "runtime": {"type": "default", "config": {"tool_executor": {"typ": "safe"}}}},
            ["runtime: config.tool_executor.typ: unknown field (value 'safe')", "Did you mean 'type'?"],
        ),
        ([], ["a list, not a mapping", "agents: […]"]),
        (None, ["empty, not a mapping"]),
    ],
)
def test_an_error_names_the_place_the_value_and_the_fix(payload: Any, essentials: list[str]) -> None:
    message = refusal(payload)

    for essential in essentials:
        assert essential in message


def test_every_problem_is_listed_at_once() -> None:
    message = refusal({"agents": [agent(memory={}, pattern={})], "versoin": "1"})

    assert message.count("\n") >= 3


def test_a_secret_is_not_shown() -> None:
    message = refusal({"agents": [agent(llm={"extra_headers": {"authorization": 5_550_123}})]})

    assert "agents[0].llm.extra_headers.authorization" in message
    assert "5550123" not in message


def test_any_provider_of_pydantic_ai_is_accepted() -> None:
    config = load_config_dict({"agents": [agent(llm={"provider": "google-gla", "model": "gemini"})]})

    assert config.agents[0].llm is not None
    assert config.agents[0].llm.provider == "google-gla"


def test_a_misspelled_llm_field_is_a_warning_for_providers_have_fields_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        load_config_dict({"agents": [agent(llm={"tempereture": 0.1})]})

    assert "did you mean 'temperature'" in caplog.text


YAML = "agents: [{{id: a, name: {name}, memory: {{type: buffer}}, pattern: {{type: react}}}}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"${NAME}"', "Ada"),
        ('"Dr ${NAME} ${NAME}"', "Dr Ada Ada"),
        ('"${MISSING:-Bob}"', "Bob"),
        ('"${EMPTY:-Bob}"', "Bob"),
        ('"${NAME:-Bob}"', "Ada"),
        ('"$${NAME}"', "${NAME}"),
        ('"$NAME costs $5"', "$NAME costs $5"),
    ],
)
def test_placeholders_are_expanded(text: str, expected: str) -> None:
    environment = {"NAME": "Ada", "EMPTY": ""}

    config = load_config_text(YAML.format(name=text), source="agents", environment=environment)

    assert config.agents[0].name == expected


def test_a_number_may_come_from_the_environment() -> None:
    text = "agents: [{id: a, name: A, memory: {type: b}, pattern: {type: r}, runtime: {max_steps: '${STEPS}'}}]"

    config = load_config_text(text, source="agents", environment={"STEPS": "7"})

    assert config.agents[0].runtime.max_steps == 7


def test_a_value_with_markup_stays_a_value() -> None:
    environment = {"NAME": '", "id": "other'}

    config = load_config_text(YAML.format(name='"${NAME}"'), source="agents", environment=environment)

    assert (config.agents[0].id, config.agents[0].name) == ("a", environment["NAME"])


def test_an_undefined_variable_is_named_with_its_field() -> None:
    message = load_refusal(YAML.format(name='"${NOBODY}"'), environment={})

    assert "agents[0].name: environment variable 'NOBODY' is not set" in message
    assert "${NOBODY:-…}" in message


def test_a_malformed_placeholder_is_said() -> None:
    assert "'${not a name}' is not a placeholder" in load_refusal(YAML.format(name='"${not a name}"'))


@pytest.mark.parametrize(
    ("text", "is_json", "essentials"),
    [
        ("agents:\n  - id: a\n   name: b\n", False, ["agents, line 3, column", "correct the YAML"]),
        ("agents:\n\t- a", False, ["line 2, column 1", "cannot start any token"]),
        ('{"agents": [}', True, ["agents, line 1, column 13", "correct the JSON"]),
        ("a: 1\na: 2\n", False, ["line 2, column 1", "'a' stands twice"]),
        ('{"a": 1, "a": 2}', True, ["'a' stands twice"]),
        ("agents: !!python/object:os.system {}", False, ["line 1", "could not determine a constructor"]),
        ("a: \x07", False, ["cannot be parsed"]),
        ("&x [*x]", False, ["nested too deeply, or contains itself"]),
        ("[" * 100_000, True, ["nested too deeply"]),
        ("on: 1", False, ["the name True is not text", "quotes"]),
    ],
)
def test_malformed_text_is_located(text: str, is_json: bool, essentials: list[str]) -> None:
    message = load_refusal(text, is_json=is_json)

    for essential in essentials:
        assert essential in message


def test_a_bomb_of_yaml_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]

    assert "more than 100,000 values" in load_refusal("\n".join(lines))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").touch()

    with pytest.raises(ConfigLoadError, match=r"agents\.yml does not exist") as caught:
        load_config(tmp_path / "agents.yml")

    assert f"did you mean {tmp_path / 'agents.yaml'}?" in str(caught.value)


def test_unreadable_files_are_said(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: caf\xe9")

    with pytest.raises(ConfigLoadError, match="is a directory"):
        load_config(tmp_path)
    with pytest.raises(ConfigLoadError, match="is not UTF-8: byte 6 is 0xe9"):
        load_config(tmp_path / "latin.yaml")


def test_the_demo_file_loads() -> None:
    path = Path(__file__).parents[2] / "producer" / "cli" / "demo" / "agents.yaml"

    config = load_config(path, environment={"RUNLANE_READER_ROOT": "/data"})

    assert list(config.agents_by_id) == ["assistant", "reader"]
    assert config.agents_by_id["reader"].tools[0].config == {"root": "/data"}
