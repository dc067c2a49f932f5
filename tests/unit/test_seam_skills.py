"""Every skills plugin of the registry, driven through the same session; and what skill packages may be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from runtime_core.contracts.context import RunContext
from runtime_core.contracts.run import StopReason
from runtime_core.errors import ConfigError, PermanentToolError, PluginError
from runtime_core.kernel.runtime import Runtime
from runtime_core.plugins.protocols import Seam
from runtime_core.plugins.registry import BUILTINS
from tests.unit.kernel_setup import config, recorded, request


class Seen:
    """A pattern that says what it knows of skills."""

    context: RunContext[Any]

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    async def execute(self) -> dict[str, Any]:
        context = self.context
        context.state["ran"] = True
        return {
            "active": context.active_skill,
            "skills": {name: summary.description for name, summary in context.skill_metadata.items()},
            "prompt": context.system_prompt_fragments,
        }


def skill(tmp_path: Path, name: str, *, code: str | None = "", package: str = "", head: str | None = None) -> Path:
    folder = tmp_path / "skills" / name
    (folder / "references").mkdir(parents=True)
    (folder / "SKILL.md").write_text(head or f"---\nname: {name}\ndescription: 'draws {name}'\n---\n# {name}\n")
    (folder / "references" / "guide.md").write_text(f"how to draw {name}")
    if code is not None:
        source = folder / "src" / (package or name)
        source.mkdir(parents=True)
        (source / "__init__.py").touch()
        (source / "entrypoint.py").write_text(code)
    return folder


def host(kind: str, tmp_path: Path, **settings: Any) -> Runtime:
    section = {"type": kind, "config": {"search_paths": [str(tmp_path / "skills")], **settings}}
    pattern = {"impl": "tests.unit.test_seam_skills.Seen"}
    return Runtime.from_dict(config(pattern=pattern) | {"skills": section})


@pytest.mark.parametrize("kind", sorted(BUILTINS[Seam.SKILLS]))
async def test_a_session_has_its_skills(kind: str, tmp_path: Path) -> None:
    skill(
        tmp_path,
        "owls",
        code="def run_openagent_skill(payload):\n    return {'drawn': payload, 'design_rationale': 'wings'}\n",
    )
    runtime = host(kind, tmp_path)
    sessions, skills = runtime.session_manager, runtime.skills_manager

    result, _ = await recorded(runtime, request(context_hints={"active_skill": "owls"}))
    assert result.final_output == {"active": "owls", "skills": {"owls": "draws owls"}, "prompt": ["# owls"]}
    known = {"session_id": "s", "skill_name": "owls", "session_manager": sessions}
    (reference,) = await skills.load_references(**known)
    assert reference["content"] == "how to draw owls"
    assert await skills.run_skill(**known, payload={"n": 2}) == {"drawn": {"n": 2}, "design_rationale": "wings"}

    prepared = await skills.prepare_session(session_id="s", session_manager=sessions)
    assert prepared["owls"].references_loaded == [reference["path"]]
    assert prepared["owls"].last_result_summary == "wings"
    assert (await sessions.get_state("s"))["ran"], "the run's own state is kept beside it"
    result, _ = await recorded(runtime, request())
    assert result.final_output["active"] is None
    await runtime.close()


async def test_a_session_without_skills_is_left_as_it_is(tmp_path: Path) -> None:
    runtime = host("local", tmp_path)
    await runtime.skills_manager.prepare_session(session_id="s", session_manager=runtime.session_manager)
    assert await runtime.session_manager.list_sessions() == []


async def test_an_unknown_skill_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    skill(tmp_path, "owls")
    runtime = host("local", tmp_path)
    result, _ = await recorded(runtime, request(context_hints={"active_skill": "owl"}))
    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert "Did you mean 'owls'" in (result.error_details.hint or "")
    with pytest.raises(ConfigError, match="no skill 'newts'"):
        await runtime.skills_manager.load_references(
            session_id="s", skill_name="newts", session_manager=runtime.session_manager
        )


async def test_only_skills_that_are_enabled_are_there(tmp_path: Path) -> None:
    skill(tmp_path, "owls")
    skill(tmp_path, "newts")
    result, _ = await recorded(host("local", tmp_path, enabled=["newts"]), request())
    assert set(result.final_output["skills"]) == {"newts"}


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("# no front matter", "does not begin with front matter"),
        ("---\nname: x\nno end", "does not begin with front matter"),
        ("---\ndescription: nameless\n---\n", "has no name"),
        ("---\n[\n---\n", "has no name"),
    ],
)
async def test_a_folder_that_is_no_sound_skill_is_left_out(
    head: str, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    skill(tmp_path, "broken", head=head)
    skill(tmp_path, "sound")
    with caplog.at_level(logging.WARNING):
        result, _ = await recorded(host("local", tmp_path), request())
    assert set(result.final_output["skills"]) == {"sound"}
    assert problem in caplog.text


async def test_a_reference_lies_in_the_skills_own_folder(tmp_path: Path) -> None:
    folder = skill(tmp_path, "owls")
    (tmp_path / "secret").write_text("not yours")
    (folder / "references" / "link.md").symlink_to(tmp_path / "secret")
    runtime = host("local", tmp_path)
    found = await runtime.skills_manager.load_references(
        session_id="s", skill_name="owls", session_manager=runtime.session_manager
    )
    assert [one["content"] for one in found] == ["how to draw owls"]


@pytest.mark.parametrize(
    ("code", "error", "problem"),
    [
        (None, PermanentToolError, "no code to run"),
        ("x = 1", PluginError, "does not define run_openagent_skill"),
        ("import nothing_of_that_name", PluginError, "cannot be imported"),
        ("raise SystemExit(3)", PluginError, "cannot be imported"),
        ("def run_openagent_skill(payload):\n    return 1\n", PluginError, "returned a int"),
    ],
)
async def test_a_skill_that_cannot_be_run_says_why(
    code: str | None, error: type[Exception], problem: str, tmp_path: Path
) -> None:
    skill(tmp_path, "owls", code=code, package=f"skill_{abs(hash(code))}")
    runtime = host("local", tmp_path)
    with pytest.raises(error, match=problem):
        await runtime.skills_manager.run_skill(
            session_id="s", skill_name="owls", payload={}, session_manager=runtime.session_manager
        )


async def test_skills_whose_packages_have_the_same_name_do_not_mix(tmp_path: Path) -> None:
    code = "async def run_openagent_skill(payload):\n    return {{'of': {!r}}}\n"
    for name in ("owls", "newts"):
        skill(tmp_path, name, code=code.format(name), package="same_skill")
    runtime = host("local", tmp_path)
    for name in ("owls", "newts", "owls"):
        found = await runtime.skills_manager.run_skill(
            session_id="s", skill_name=name, payload={}, session_manager=runtime.session_manager
        )
        assert found == {"of": name}


async def test_a_skill_without_instructions_has_its_default_prompt(tmp_path: Path) -> None:
    folder = skill(tmp_path, "owls", head="---\nname: owls\ndescription: Knows owls: all of them\n---\n")
    runtime = host("local", tmp_path)
    hint = {"active_skill": "owls"}
    assert (await runtime.run_detailed(request(context_hints=hint))).final_output["prompt"] == [
        "Knows owls: all of them"
    ]
    (folder / "agents").mkdir()
    (folder / "agents" / "openai.yaml").write_text('interface:\n  display_name: "Owls!"\n  default_prompt: Ask: me.\n')
    runtime = host("local", tmp_path)
    assert (await runtime.run_detailed(request(context_hints=hint))).final_output["prompt"] == ["Ask: me."]
    (shown,) = (
        await runtime.skills_manager.prepare_session(session_id="s", session_manager=runtime.session_manager)
    ).values()
    assert shown.display_name == "Owls!"


async def test_a_directory_of_references_does_not_lead_out_of_the_skill(tmp_path: Path) -> None:
    folder = skill(tmp_path, "owls")
    (folder / "references").rename(tmp_path / "elsewhere")
    (folder / "references").symlink_to(tmp_path / "elsewhere")
    runtime = host("local", tmp_path)
    known = {"session_id": "s", "skill_name": "owls", "session_manager": runtime.session_manager}
    assert await runtime.skills_manager.load_references(**known) == []


async def test_skills_that_are_named_twice_or_are_not_there_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    skill(tmp_path, "owls")
    skill(tmp_path, "twin", head="---\nname: owls\n---\n")
    with caplog.at_level(logging.WARNING):
        result = await host("local", tmp_path, enabled=["owls", "owl"]).run_detailed(request())
    assert result.final_output["skills"] == {"owls": "draws owls"}
    assert f"{tmp_path / 'skills' / 'twin'} is left out" in caplog.text
    assert "there is no skill 'owl' to be enabled. Did you mean 'owls'?" in caplog.text
