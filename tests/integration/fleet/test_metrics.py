"""What a worker exports, and that dashboard and alerts ask for nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from runtime_core.contracts.run import StopReason
from runtime_core.store import keys
from tests.acceptance.command import Command
from tests.integration.fleet.conftest import PARTITIONS, Fleet, request, wait_until
from tests.integration.fleet.promql import Exported, check, exported, labels_shown, metrics_of
from tests.integration.gateway.conftest import GatewayProcess
from workers.monitoring.metrics import COUNTED, SCRAPED

_DEPLOY = Path(__file__).parents[3] / "deploy"
_ALERTS = _DEPLOY / "prometheus" / "alerts.yaml"
_DASHBOARD = _DEPLOY / "grafana" / "runlane.json"
_NAMES = {family.name for counted in COUNTED for family in counted.describe()} | {
    one.name.removesuffix("_total") for one in SCRAPED
}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(_ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(_DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def _expressions() -> Iterator[tuple[str, str, set[str]]]:
    """Where it stands, the expression, the labels of its result that are shown."""
    for rule in _rules():
        yield rule["alert"], rule["expr"], labels_shown(" ".join(rule["annotations"].values()))
    for panel in _panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], labels_shown(target["legendFormat"])
    for variable in json.loads(_DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            yield f"variable {variable['name']}", asked[1], {asked[2]}


async def _scrape(redis: Redis) -> str:
    """What the only worker's port says, the one that its heartbeat names."""
    workers: Any = await redis.zrange(keys.WORKERS, 0, -1)
    (worker,) = workers
    port = await redis.hget(keys.worker(worker), "metrics_port")

    def read() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(read)


async def _scrape_gateway(fleet: Fleet, folder: Path) -> str:
    """What a gateway says that has served a stream."""
    command = Command(RUNLANE_REDIS_URL=fleet.redis_url)
    gateway = GatewayProcess(command, "--port", "0", log=folder / "gateway.log")
    try:
        async with httpx.AsyncClient(base_url=gateway.url) as http:
            run = (await http.post("/runs", json=request("talk 20 20", session="web").model_dump(mode="json"))).json()
            stream = await http.get(f"/runs/{run['run_id']}/stream")

            async def ended() -> bool:
                return _value((await http.get("/metrics")).text, "runlane_gateway_stream_ends_total") > 0

            await wait_until(ended, "the gateway, too, has done with the stream that its client has read")
            text = (await http.get("/metrics")).text
        assert _value(text, "runlane_gateway_chunks_total") == stream.text.count("event: ")
        assert _value(text, "runlane_gateway_lag_seconds_count") > 0
        assert _value(text, "runlane_gateway_streams_total", how="new") == 1
        assert _value(text, "runlane_gateway_stream_ends_total", how="finished") == 1
        assert _value(text, "runlane_gateway_requests_total", operation="POST /runs", status="202") == 1
        return text
    finally:
        gateway.stop()


def _value(text: str, name: str, **labels: str) -> float:
    """Of all samples of the name that have these labels, the sum."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_a_scrape_tells_what_happened_and_answers_each_question_of_dashboard_and_alerts(
    fleet: Fleet, redis: Redis, tmp_path: Path
) -> None:
    await fleet.start(1, RUNLANE_METRICS_PORT="0")
    await fleet.ready()
    for text in ("echo one", "echo two"):
        assert await fleet.client.run(request(text)) == text.split()[1]
    failed = await fleet.client.run_detailed(request("raise ValueError"))
    assert failed.stop_reason is StopReason.FAILED
    stranger = await fleet.client.run_detailed(request("hi", agent="made-up-by-a-client", session="other"))
    assert stranger.stop_reason is StopReason.FAILED
    executing = await fleet.client.submit(request("wait 15"))
    await wait_until(lambda: len(fleet.journal()) == 7, "the run executes")
    behind = await fleet.client.submit(request("echo behind"))
    await redis.hset(keys.stats(3), "dead_letters", "2")

    async def beaten() -> bool:
        return _value(await _scrape(redis), "runlane_loop_lag_seconds_count") > 0

    await wait_until(beaten, "the loop has been measured")
    text = await _scrape(redis)

    assert _value(text, "runlane_runs_total", agent="journal", outcome="completed") == 2
    assert _value(text, "runlane_runs_total", agent="journal", outcome="failed") == 1
    assert _value(text, "runlane_runs_total", agent="unknown", outcome="failed") == 1
    assert "made-up-by-a-client" not in text, "anybody could make a series"
    assert _value(text, "runlane_attempts_total", agent="journal") == 4
    assert _value(text, "runlane_run_wait_seconds_count", agent="journal") == 4
    assert _value(text, "runlane_run_duration_seconds_count") == 4
    assert 0 < _value(text, "runlane_run_duration_seconds_sum") < 10
    assert _value(text, "runlane_first_chunk_seconds_count", agent="journal") == 3
    assert _value(text, "runlane_cache_hits_total") == 3
    assert _value(text, "runlane_cache_entries") == 1
    assert _value(text, "runlane_executing_runs") == 1
    assert _value(text, "runlane_leases_held") == _value(text, "runlane_leases_acquired_total") == PARTITIONS
    assert _value(text, "runlane_pending_runs") == 2, "one executes, one waits in its mailbox"
    assert _value(text, "runlane_dead_letters_total", partition="p0003") == 2
    assert _value(text, "runlane_events_total") == _value(text, "runlane_publish_batch_events_sum") > 0
    assert _value(text, "runlane_redis_up") == 1
    assert fleet.redis_url not in text
    exports = exported(text + await _scrape_gateway(fleet, tmp_path))
    described = {family.name: family.documentation for family in text_string_to_metric_families(text)}
    assert {name for name in _NAMES if not described.get(name)} == set(), "each is exported, with its help"
    wrong = {
        f"{where}: {expression}": problems
        for where, expression, shown in _expressions()
        if (problems := check(expression, exports, shown=shown))
    }
    assert wrong == {}

    for handle in (executing, behind):
        await handle.cancel()


async def test_runs_that_wait_show_in_depth_and_oldest_wait(fleet: Fleet, redis: Redis) -> None:
    await fleet.start(1, RUNLANE_METRICS_PORT="0", RUNLANE_CONCURRENCY="1")
    await fleet.ready()
    handles = [await fleet.client.submit(request("wait 15", session="a"))]
    await wait_until(lambda: len(fleet.journal()) == 1, "the run executes")
    handles.append(await fleet.client.submit(request("echo late", session="b")))

    async def waits() -> bool:
        return _value(await _scrape(redis), "runlane_oldest_wait_seconds") >= 0.5

    await wait_until(waits, "the run that waits has waited for half a second")
    text = await _scrape(redis)
    assert _value(text, "runlane_waiting_sessions") == 1
    assert _value(text, "runlane_pending_runs") == 2
    for handle in reversed(handles):
        await handle.cancel()


async def test_a_port_that_is_taken_ends_the_worker_and_the_error_says_what_to_do(fleet: Fleet, redis: Redis) -> None:
    taken = redis.connection_pool.connection_kwargs["port"]
    (worker,) = await fleet.start(1, RUNLANE_METRICS_PORT=str(taken))
    await wait_until(lambda: worker.exit_code is not None, "the worker has ended", seconds=30)
    assert worker.exit_code == 2
    log = worker.log.read_text()
    assert f"127.0.0.1:{taken} cannot be listened on" in log
    assert "each worker of a host needs a port of its own: give --metrics-port another one" in log
    assert "Traceback" not in log


def test_every_metric_is_shown_or_watched() -> None:
    used = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for _, expression, _ in _expressions()
        for name in metrics_of(expression.replace("$__rate_interval", "5m"))
    }
    assert _NAMES - used == set()


def test_every_alert_says_what_to_do() -> None:
    for rule in _rules():
        assert {"summary", "description", "action"} <= rule["annotations"].keys(), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]


_EXPORTS: Exported = {
    "runs_total": {"agent": {"a"}, "outcome": {"failed"}},
    "wait_seconds_bucket": {"le": {"1", "+Inf"}, "agent": {"a"}},
    "slots": {},
}


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(rate(rums_total[5m]))", "nothing exports rums_total"),
        ('sum(rate(runs_total{agnet="a"}[5m]))', "runs_total has no label agnet"),
        ('runs_total{outcome="faild"}', "runs_total has no outcome faild"),
        ("sum by (outcom) (runs_total)", "sum groups by outcom, which its series do not have"),
        ("histogram_quantile(0.9, sum by (agent) (rate(wait_seconds_bucket[5m])))", "histogram_quantile by le"),
        ("histogram_quantile(0.9, rate(runs_total[5m]))", "histogram_quantile of runs_total, no histogram"),
        ("rate(slots[5m])", "rate of slots, no counter"),
        ("sum by (agent) (runs_total) / sum(runs_total)", "never match"),
        ("slots and on (agent) runs_total", "and on by agent"),
        ("sum(runs_total", "it does not parse"),
        ("slots > 0 unless sum(rate(missing_total[5m] offset 5m)) > 0", "nothing exports missing_total"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, problem: str) -> None:
    assert problem in "; ".join(check(expression, _EXPORTS))


def test_a_legend_shows_labels_of_the_result_only() -> None:
    assert check("sum by (agent) (runs_total)", _EXPORTS, shown=labels_shown("{{agent}} {{ $value }}")) == []
    assert check("sum(runs_total)", _EXPORTS, shown=labels_shown("{{agent}}")) == ["its result has no label agent"]
