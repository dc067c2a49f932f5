"""Real providers, against an OpenAI-compatible server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runtime_core.config.schema import LLMOptions
from runtime_core.contracts.run import ErrorDetails, StopReason
from runtime_core.contracts.stream import RunStreamChunkKind
from runtime_core.errors import ConfigError, LLMConnectionError, LLMError, LLMRateLimitError, LLMResponseError
from runtime_core.llm.clients import create_client
from runtime_core.llm.models import ModelClient
from runtime_core.llm.protocol import LLMRequest, LLMResponse, TextDelta
from runtime_core.llm.providers import build_model
from tests.unit.kernel_setup import request as run_request
from tests.unit.kernel_setup import runtime
from tests.unit.loopback_http import Response, loopback_server

CALC = {
    "type": "function",
    "function": {
        "name": "calc",
        "description": "calculates",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
HELLO: list[dict[str, Any]] = [{"content": "Hello "}, {"content": "world"}]
CALL: list[dict[str, Any]] = [
    {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "calc", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"expression": '}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"6*7"}'}}]},
]


class Provider:
    """Answers each request with the next of ``answers``: deltas to stream, or an HTTP status."""

    def __init__(self) -> None:
        self.answers: list[list[dict[str, Any]] | int] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.message = "as the test wants"
        #: Whether errors repeat the headers of the request.
        self.repeat_headers = False
        #: Whether a stream says that it is complete.
        self.finish_reasons = True
        #: Whether a stream stops after its first piece, until the client leaves; then ``left`` is set.
        self.stalls = False
        self.left = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
                """Keep quiet."""

            def do_POST(self) -> None:
                provider.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                provider.headers.append({name.lower(): value for name, value in self.headers.items()})
                provider.reply(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            message = str(self.headers[-1]) if self.repeat_headers else self.message
            body = json.dumps({"error": {"message": message}}).encode()
            handler.send_response(answer)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(body)))
            handler.send_header("retry-after", "2")
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        base = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}
        finish = "tool_calls" if "tool_calls" in answer[-1] else "stop"
        choices: list[list[dict[str, Any]]] = [
            [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}] for delta in answer
        ]
        if self.finish_reasons:
            choices.append([{"index": 0, "delta": {}, "finish_reason": finish}])
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        for chunk in (*({"choices": choice} for choice in choices), {"choices": [], "usage": usage}):
            handler.wfile.write(b"data: " + json.dumps(base | chunk).encode() + b"\n\n")
            if self.stalls:
                handler.rfile.read(1)  # returns when the connection is closed
                self.left.set()
                return
        handler.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()
    provider.thread.join()


def options(url: str, **more: Any) -> LLMOptions:
    return LLMOptions.model_validate({"provider": "openai_compatible", "model": "m", "api_base": url, **more})


async def ask(options: LLMOptions, *tools: dict[str, Any]) -> tuple[list[str], LLMResponse]:
    request = LLMRequest(messages=[{"role": "user", "content": "hi"}], tools=list(tools))
    *deltas, response = [part async for part in create_client(options).stream(request)]
    assert isinstance(response, LLMResponse)
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], response


async def test_text_arrives_in_pieces_and_usage_is_counted(provider: Provider) -> None:
    provider.answers = [HELLO]

    deltas, response = await ask(options(provider.url, temperature=0.5, max_tokens=9))

    assert deltas == ["Hello ", "world"]
    assert response.output_text == "Hello world"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (5, 2)
    assert (provider.requests[0]["temperature"], provider.requests[0]["model"]) == (0.5, "m")


async def test_the_key_and_extra_headers_are_sent(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", "secret")
    provider.answers = [HELLO]

    await ask(options(provider.url, api_key_env="TEST_MODEL_KEY", extra_headers={"x-team": "lanes"}))

    assert provider.headers[0]["authorization"] == "Bearer secret"
    assert provider.headers[0]["x-team"] == "lanes"


async def test_a_tool_call_comes_with_its_arguments(provider: Provider) -> None:
    provider.answers = [CALL]

    deltas, response = await ask(options(provider.url), CALC)

    assert deltas == []
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [
        ("c1", "calc", {"expression": "6*7"})
    ]
    assert provider.requests[0]["tools"][0]["function"]["name"] == "calc"


async def test_a_whole_run_calls_a_tool_and_streams_its_answer(provider: Provider) -> None:
    provider.answers = [CALL, HELLO]
    host = runtime(llm={"provider": "openai_compatible", "model": "m", "api_base": provider.url})

    chunks = [chunk async for chunk in host.run_stream(run_request("what is 6*7?"))]

    result = chunks[-1].result
    assert result is not None
    assert result.final_output == "Hello world"
    texts = [chunk.payload["text"] for chunk in chunks if chunk.kind is RunStreamChunkKind.LLM_DELTA]
    assert texts == ["Hello ", "world"]
    roles = [message["role"] for message in provider.requests[1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert "42" in provider.requests[1]["messages"][-1]["content"]
    assert result.usage.total_tokens == 14


@pytest.mark.parametrize(
    ("status", "expected", "retryable"),
    [
        (429, LLMRateLimitError, True),
        (500, LLMConnectionError, True),
        (503, LLMConnectionError, True),
        (400, LLMResponseError, False),
        (401, LLMResponseError, False),
    ],
)
async def test_http_errors_become_ours(
    provider: Provider, status: int, expected: type[LLMError], retryable: bool
) -> None:
    provider.answers = [status]

    with pytest.raises(expected) as caught:
        await ask(options(provider.url))

    assert type(caught.value) is expected
    assert caught.value.retryable is retryable
    if isinstance(caught.value, LLMRateLimitError | LLMConnectionError):
        assert caught.value.retry_after_ms == 2000
    assert len(provider.requests) == 1, "retries are not made here"


async def test_a_refused_connection_is_retryable_and_fails_the_run_with_its_code() -> None:
    llm = {"provider": "openai_compatible", "model": "m", "api_base": "http://127.0.0.1:1/v1"}
    host = runtime(llm=llm | {"retry": {"max_attempts": 1}})

    result = await host.run_detailed(run_request())

    assert result.stop_reason is StopReason.FAILED
    assert result.error_details is not None
    assert (result.error_details.code, result.error_details.retryable) == ("llm.connection", True)


async def test_the_model_is_told_of_arguments_that_are_no_json_object(provider: Provider) -> None:
    broken = {"index": 0, "id": "c1", "type": "function", "function": {"name": "calc", "arguments": "{oops"}}
    provider.answers = [[{"tool_calls": [broken]}], HELLO]
    host = runtime(llm={"provider": "openai_compatible", "model": "m", "api_base": provider.url})

    result = await host.run_detailed(run_request("what is 6*7?"))

    assert result.final_output == "Hello world"
    assert result.usage.tool_calls == 0
    assert "the arguments of calc are no JSON object" in provider.requests[1]["messages"][-1]["content"]


async def test_a_stream_that_ends_before_its_answer_is_whole_is_a_retryable_error(provider: Provider) -> None:
    provider.finish_reasons = False
    provider.answers = [HELLO]

    with pytest.raises(LLMConnectionError, match="finish_reason"):
        await ask(options(provider.url))


async def test_an_answer_that_is_no_answer_at_all_is_an_error_of_ours() -> None:
    stream = Response(headers={"Content-Type": "text/event-stream"}, body=b"data: [1]\n\n")
    with loopback_server(lambda _: stream) as server, pytest.raises(LLMResponseError, match="cannot be used"):
        await ask(options(f"{server.url}/v1"))


async def test_leaving_a_run_in_the_middle_of_an_answer_closes_the_connection(provider: Provider) -> None:
    provider.answers = [HELLO]
    provider.stalls = True
    host = runtime(llm={"provider": "openai_compatible", "model": "m", "api_base": provider.url})

    async with aclosing(host.run_stream(run_request())) as chunks:
        async for chunk in chunks:
            if chunk.kind is RunStreamChunkKind.LLM_DELTA:
                break

    assert await asyncio.to_thread(provider.left.wait, 10)


async def test_a_model_that_falls_silent_is_a_retryable_error(provider: Provider) -> None:
    provider.answers = [HELLO]
    provider.stalls = True

    with pytest.raises(LLMConnectionError):
        await ask(options(provider.url, timeout_ms=100))


async def test_an_empty_answer_is_an_empty_output(provider: Provider) -> None:
    provider.answers = [[{"content": ""}]]

    assert (await ask(options(provider.url)))[1].output_text == ""


async def test_secrets_that_a_provider_repeats_are_not_shown(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MODEL_KEY", "sk-verysecret")
    provider.answers = [401]
    provider.repeat_headers = True
    section = {"provider": "openai_compatible", "model": "m", "api_base": provider.url}
    section |= {"api_key_env": "TEST_MODEL_KEY", "extra_headers": {"x-team": "team-secret"}}

    chunks = [chunk async for chunk in runtime(llm=section).run_stream(run_request())]

    shown = "".join(chunk.model_dump_json() for chunk in chunks)
    assert "Bearer ***" in shown
    assert "sk-verysecret" not in shown
    assert "team-secret" not in shown


async def test_a_page_of_an_error_is_shortened(provider: Provider) -> None:
    provider.answers = [400]
    provider.message = "x" * 100_000

    with pytest.raises(LLMResponseError) as caught:
        await ask(options(provider.url))

    assert len(ErrorDetails.from_exception(caught.value).model_dump_json()) < 2000


async def test_options_of_the_provider_that_runlane_does_not_know_are_handed_over(provider: Provider) -> None:
    provider.answers = [HELLO]

    await ask(options(provider.url, top_p=0.25))

    assert provider.requests[0]["top_p"] == 0.25


async def test_closing_the_runtime_closes_the_connections_to_providers(provider: Provider) -> None:
    provider.answers = [HELLO]
    client = create_client(options(provider.url))
    request = LLMRequest(messages=[{"role": "user", "content": "hi"}])
    _ = [part async for part in client.stream(request)]
    assert isinstance(client, ModelClient)
    (model,) = client._models.values()

    await client.close()

    assert model.client.is_closed()  # pyright: ignore[reportAttributeAccessIssue]  # of the OpenAI model


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"provider": "anthropic", "model": "m", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"provider": "openai_compatible", "api_base": "http://127.0.0.1:1/v1"}, "llm.model is missing"),
        ({"provider": "groq", "model": "m", "api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set|not installed"),
        ({"provider": "nosuchprovider", "model": "m"}, "nosuchprovider:m cannot be used"),
    ],
)
def test_options_that_cannot_work_are_config_errors(
    section: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    with pytest.raises(ConfigError, match=message):
        create_client(LLMOptions.model_validate(section))


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({}, {"temperature": 0.5, "max_tokens": 9}),
        ({"reasoning_model": True}, {"max_completion_tokens": 9}),
        ({"model": "o3-mini", "reasoning_model": False}, {"temperature": 0.5, "max_tokens": 9}),
    ],
)
async def test_a_reasoning_model_is_asked_in_its_own_way(
    provider: Provider, more: dict[str, Any], sent: dict[str, Any]
) -> None:
    provider.answers = [HELLO]

    await ask(options(provider.url, temperature=0.5, max_tokens=9, **more))

    known = ("temperature", "max_tokens", "max_completion_tokens")
    assert {name: value for name, value in provider.requests[0].items() if name in known} == sent


@pytest.mark.parametrize(
    ("api_base", "more", "base_url", "model_class"),
    [
        ("http://h", {}, "http://h/v1", "OpenAIChatModel"),
        ("http://h/v1/", {}, "http://h/v1", "OpenAIChatModel"),
        ("http://h/api/v4/chat/completions", {}, "http://h/api/v4", "OpenAIChatModel"),
        ("http://h/v1/responses", {}, "http://h/v1", "OpenAIResponsesModel"),
        ("http://h", {"openai_api_style": "responses"}, "http://h/v1", "OpenAIResponsesModel"),
        ("http://h/responses", {"openai_api_style": "chat_completions"}, "http://h", "OpenAIChatModel"),
    ],
)
def test_the_address_and_the_style_say_which_api_is_asked(
    api_base: str, more: dict[str, Any], base_url: str, model_class: str
) -> None:
    model: Any = build_model(options(api_base, **more), "m")

    assert (str(model.client.base_url).rstrip("/"), type(model).__name__) == (base_url, model_class)


def test_litellm_without_a_server_names_the_package_that_it_needs() -> None:
    with pytest.raises(ConfigError, match="needs the package 'litellm'"):
        create_client(LLMOptions(provider="litellm", model="m"))
