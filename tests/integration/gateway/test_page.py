"""The page at /, in a real Chromium, on a real fleet."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from producer.client import AsyncClient
from tests.acceptance.command import Command
from tests.integration.fleet.conftest import Fleet
from tests.integration.gateway.conftest import GatewayProcess, Tokens

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no chromium here: apt-get install chromium"
)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


Start = Callable[..., GatewayProcess]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts gateways; those that still live are ended with the test."""
    started: list[GatewayProcess] = []

    def start_one(*arguments: str) -> GatewayProcess:
        log = tmp_path / f"gateway{len(started)}.log"
        started.append(GatewayProcess(Command(RUNLANE_REDIS_URL=redis_url), *arguments, log=log))
        return started[-1]

    yield start_one
    for gateway in started:
        gateway.process.kill()
        gateway.process.communicate()


async def submit(page: Page, agent: str, session: str, text: str) -> str:
    """Fill the form and send it; the id of the run."""
    await page.fill("#agent", agent)
    await page.fill("#session", session)
    await page.fill("#input", text)
    before = page.url
    await page.keyboard.press("Control+Enter")
    await expect(page).not_to_have_url(before)
    return page.url.partition("#run=")[2]


async def test_a_run_is_submitted_watched_left_come_back_to_and_cancelled(
    fleet: Fleet,
    browser: Browser,
    start: Start,
    tmp_path: Path,
) -> None:
    # Given a fleet, a gateway, and a page that nothing else helps
    await fleet.start(1)
    await fleet.ready()
    gateway = start("--port", "0")
    port = gateway.url.rpartition(":")[2]
    page = await browser.new_page()
    page.set_default_timeout(15_000)
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await page.goto(gateway.url)
    await expect(page.locator("#agents option")).to_have_count(3)

    # When a run is submitted: its text, its tool call and its end are seen
    await submit(page, "assistant", "s1", "/tool calc 6*7")
    await expect(page.locator("#state")).to_have_text("completed")
    await expect(page.locator("summary", has_text="calc ✓")).to_be_visible()
    await page.screenshot(path=tmp_path / "completed.png", full_page=True)

    # When it is left in the middle, come back to, and the gateway is started again meanwhile
    run = await submit(page, "journal", "s2", "talk 60 20")
    await expect(page.locator(".text")).to_contain_text("5 ")
    await page.reload()
    await expect(page.locator(".text")).to_contain_text("15 ")
    assert gateway.stop() == 0
    await expect(page.locator("#connection")).to_have_text("reconnecting …")
    gateway = start("--port", port)
    await expect(page.locator("#state")).to_have_text("completed")
    said = "".join(f"{number} " for number in range(60))
    assert await page.locator(".text").all_inner_texts() == [said, "said"]
    assert await page.locator("#connection").inner_text() == ""

    # When a run is cancelled
    cancelled = await submit(page, "journal", "s3", "wait 60")
    await expect(page.locator("#state")).to_have_text("running")
    await page.click("#cancel")
    await expect(page.locator("#state")).to_have_text("cancelled")
    assert (await fleet.client.result(cancelled, timeout=5)).stop_reason == "cancelled"

    # When something is wrong
    await page.fill("#agent", "assistant")
    await page.fill("#session", "x" * 512)
    await page.evaluate("document.querySelector('#session').maxLength = 600")
    await page.fill("#session", "ä" * 300)
    await page.fill("#input", "hello")
    await page.click("button[type=submit]")
    await expect(page.locator("#problem")).to_contain_text("600 bytes")

    # Then an EventSource, too, follows a run to its end, once
    events = await page.evaluate(
        """run => new Promise(done => {
            const source = new EventSource(`/runs/${run}/stream`), ids = [];
            source.addEventListener("llm.delta", event => ids.push(+event.lastEventId));
            source.addEventListener("run.finished", event => ids.push(+event.lastEventId));
            source.onerror = () => { if (source.readyState === EventSource.CLOSED) done(ids); };
        })""",
        run,
    )
    assert events == sorted(set(events))
    assert events[-1] == (await fleet.client.get(run)).sequence
    assert wrong == []
    assert {url.partition("://")[2].partition("/")[0] for url in asked} == {f"127.0.0.1:{port}"}
    assert gateway.stop() == 0


async def test_a_token_is_asked_for_and_kept_for_the_tab(
    browser: Browser, start: Start, redis_url: str, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens.json").add("acme")
    secret = tokens.header("acme")["Authorization"].removeprefix("Bearer ")
    gateway = start("--port", "0", "--tokens", str(tokens.file))
    page = await browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    await page.goto(gateway.url)
    await expect(page.locator("#access")).to_have_attribute("open", "")
    await page.fill("#token", secret)
    run = await submit(page, "assistant", "s1", "hello")
    await expect(page.locator("#state")).to_have_text("queued")
    await page.screenshot(path=tmp_path / "phone.png", full_page=True)
    await page.reload()
    await expect(page.locator("#state")).to_have_text("queued")
    async with AsyncClient(redis_url, tenant="acme") as client:
        assert (await client.get(run)).session_id == "s1"
    assert secret not in gateway.logged()
    assert gateway.stop() == 0
