"""Whatever a request or a plugin does, its own run ends with a clear error and the worker serves on."""

from __future__ import annotations

import json

import pytest
from celery import Celery

from runtime_core.contracts.run import RunResult, StopReason
from runtime_core.errors import RunFailedError
from runtime_core.ids import ScopedRunId
from runtime_core.store import keys
from runtime_core.store.connection import connect
from tests.integration.fleet.conftest import Fleet, request, wait_until


async def _serves_on(fleet: Fleet) -> None:
    result = await fleet.client.result((await fleet.client.submit(request("echo on", session="on"))).run_id, timeout=10)
    assert result.final_output == "on"
    fleet.workers[0].check()


async def test_errors_of_requests_and_plugins_end_their_run_and_no_worker(fleet: Fleet) -> None:
    await fleet.start(1)

    async def failure(text: str, agent: str = "journal") -> tuple[str, str]:
        handle = await fleet.client.submit(request(text, session=f"{agent} {text}", agent=agent))
        result = await handle.result(timeout=15)
        assert result.stop_reason is StopReason.FAILED, (text, result)
        assert result.error_details is not None
        return result.error_details.code, f"{result.error_details.message} {result.error_details.hint}"

    code, words = await failure("hello", agent="assistent")
    assert code == "user.agent_not_found"
    assert "Did you mean 'assistant'" in words
    code, words = await failure("x", agent="broken")
    assert code == "plugin.load"
    assert "tests.no_such_module" in words
    code, words = await failure("object")
    assert "is not JSON" in words
    assert "lock" in words
    for name in ("SystemExit", "KeyboardInterrupt", "ValueError"):
        assert name in (await failure(f"raise {name}"))[1]
    assert "CancelledError" in (await failure("cancel_itself"))[1]
    await _serves_on(fleet)

    with pytest.raises(RunFailedError, match="ValueError"):
        await fleet.client.run(request("raise ValueError"))


async def test_a_run_that_swallows_cancellation_ends_for_its_client_and_holds_its_session(fleet: Fleet) -> None:
    await fleet.start(1)
    stubborn = await fleet.client.submit(request("stubborn 9"))
    after = await fleet.client.submit(request("echo after"))
    await wait_until(lambda: bool(fleet.journal()), "the stubborn run executes")

    await stubborn.cancel()
    assert (await stubborn.result(timeout=8)).stop_reason is StopReason.CANCELLED
    assert {line["what"] for line in fleet.journal()} == {"start", "swallowed"}
    await _serves_on(fleet)

    assert (await after.result(timeout=30)).final_output == "after"
    ours = [line["what"] for line in fleet.journal() if line["session"] == "s" and line["what"] != "swallowed"]
    assert ours == ["start", "end", "start", "end"]


async def test_a_run_that_lost_its_cancellation_ends_at_its_next_event(fleet: Fleet) -> None:
    await fleet.start(1)
    forgetful = await fleet.client.submit(request("forgetful 60"))
    await wait_until(lambda: bool(fleet.journal()), "the run executes")

    await forgetful.cancel()

    assert (await forgetful.result(timeout=10)).stop_reason is StopReason.CANCELLED
    assert [line["what"] for line in fleet.journal()] == ["start", "forgot", "end"]


async def test_a_sync_tool_that_outlives_its_run_holds_its_session(fleet: Fleet) -> None:
    await fleet.start(1)
    slow = await fleet.client.submit(request("/tool slow 8", agent="assistant"))
    after = await fleet.client.submit(request("/tool slow 0", agent="assistant"))
    await wait_until(lambda: bool(fleet.journal()), "the tool executes")

    await slow.cancel()
    assert (await slow.result(timeout=7)).stop_reason is StopReason.CANCELLED
    await after.result(timeout=30)

    assert [line["what"] for line in fleet.journal()] == ["tool start", "tool end"] * 2


async def test_garbage_in_a_doorbell_queue_and_in_a_record_stops_nothing(fleet: Fleet) -> None:
    await fleet.start(1)
    await fleet.ready()
    redis = connect(fleet.redis_url)
    partition = (await fleet.client.get((await fleet.client.submit(request("echo x"))).run_id)).partition
    for garbage in ("", "not json", "[]", '{"headers": {}}', '{"body": 1, "properties": {"delivery_tag": "x"}}'):
        await redis.lpush(keys.queue(partition), garbage)  # pyright: ignore[reportGeneralTypeIssues]

    fleet.workers[0].stop()
    unreadable = await fleet.client.submit(request("echo y", session="broken record"))
    record = await fleet.client.get(unreadable.run_id)
    await redis.hset(keys.run(record.partition, ScopedRunId(unreadable.run_id)), "request", "{")  # pyright: ignore
    await redis.aclose()
    await fleet.start(1)

    result = await unreadable.result(timeout=20)
    assert result.error_details is not None
    assert "cannot be read" in result.error_details.message
    assert (await fleet.client.run(request("echo on"))) == "on"


@pytest.mark.parametrize("which", ["SOFT", "HARD"])
async def test_a_time_limit_ends_a_run_as_timeout(fleet: Fleet, which: str) -> None:
    await fleet.start(1, **{f"RUNLANE_{which}_TIME_LIMIT_S": "1"})
    result: RunResult = await fleet.client.run_detailed(request("wait 60"))
    assert result.stop_reason is StopReason.TIMEOUT
    assert result.error_details is not None
    assert f"RUNLANE_{which}_TIME_LIMIT_S" in (result.error_details.hint or "")
    assert (await fleet.client.run(request("echo on"))) == "on"


async def test_a_worker_with_a_bad_configuration_refuses_to_start_and_says_why(fleet: Fleet) -> None:
    await fleet.client.submit(request("echo x"))  # the store has its partitions now
    malformed = "agents:\n  - id: [unclosed\n"
    for agents_file, settings, words in (
        (None, {"RUNLANE_PARTITIONS": "4"}, "RUNLANE_PARTITIONS=8"),
        (malformed, {}, "agents.yaml"),
        (json.dumps({"agents": []}), {}, "agents"),
    ):
        if agents_file is not None:
            (fleet.folder / "agents.yaml").write_text(agents_file)
        (worker,) = await fleet.start(1, **settings)
        await wait_until(lambda worker=worker: worker.exit_code is not None, "the worker has ended")
        assert worker.exit_code == 2
        log = worker.log.read_text()
        assert words in log
        assert "hint:" in log
        assert "Traceback" not in log


async def test_text_that_utf8_cannot_hold_fails_its_run_once(fleet: Fleet) -> None:
    await fleet.start(1)
    for text in ("surrogate output", "surrogate error"):
        result = await fleet.client.run_detailed(request(text))
        assert (result.stop_reason, result.metadata["attempt"]) == (StopReason.FAILED, 1)
        assert result.error_details is not None
        assert "surrogate" in result.error_details.message
    await _serves_on(fleet)


async def test_a_run_whose_id_was_revoked_before_it_existed_is_a_run_like_any_other(fleet: Fleet) -> None:
    await fleet.start(1)
    await fleet.ready()
    with Celery("operator", broker=fleet.redis_url, set_as_current=False) as operator:
        control = operator.control
        await wait_until(lambda: bool(control.ping(timeout=0.5)), "the worker answers")
        control.revoke("later")
        await wait_until(lambda: "later" in str(control.inspect(timeout=0.5).revoked()), "Celery remembers the id")
    assert await fleet.client.run(request("echo hello", run_id="later"), timeout=10) == "hello"
