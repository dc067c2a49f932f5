"""From an agent's ``llm`` options to a model of pydantic-ai."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from runtime_core.errors import ConfigError

if TYPE_CHECKING:
    from runtime_core.config.schema import LLMOptions


def build_model(options: LLMOptions, name: str) -> Model:
    """Raises ConfigError for a missing key, a missing package, and an unknown provider."""
    try:
        match options.provider:
            case "openai_compatible" | "litellm":
                return _openai(options, name)
            case "anthropic":
                from anthropic import AsyncAnthropic
                from pydantic_ai.models.anthropic import AnthropicModel
                from pydantic_ai.providers.anthropic import AnthropicProvider

                key = _api_key(options) or _environment("ANTHROPIC_API_KEY")
                client = AsyncAnthropic(api_key=key, base_url=options.api_base, max_retries=0)
                return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
            case provider:
                return _infer(options, provider, name)
    except ImportError as error:
        raise ConfigError(
            f"the provider {options.provider!r} needs a package that is not installed: {error}",
            hint=f"pip install 'pydantic-ai-slim[{options.provider}]'",
        ) from error


def _openai(options: LLMOptions, name: str) -> Model:
    """A model behind OpenAI's chat or responses API, whoever serves it."""
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile, openai_model_profile
    from pydantic_ai.providers.openai import OpenAIProvider

    if options.api_base is None:  # of openai_compatible the schema refuses it
        raise ConfigError(
            f"the provider {options.provider!r} without llm.api_base needs the package 'litellm' and is not in this "
            "version",
            hint="name the URL of a LiteLLM server in llm.api_base, for example http://localhost:4000/v1, or use the "
            "provider itself: any that pydantic-ai knows",
        )
    base_url, style = _server(options.api_base)
    # Local servers want no key but the client insists on one; retries belong to the runtime.
    client = AsyncOpenAI(base_url=base_url, api_key=_api_key(options) or "unset", max_retries=0)
    provider = OpenAIProvider(openai_client=client)
    reasoning = options.reasoning_model
    if reasoning is None:
        reasoning = bool(openai_model_profile(name).get("openai_supports_reasoning"))
    # A stream that just ends, as a proxy's does when its upstream dies, is no whole answer. The newer name of the
    # limit is what reasoning models want, and what many other servers do not know.
    profile = OpenAIModelProfile(
        openai_chat_streaming_requires_finish_reason=True, openai_chat_supports_max_completion_tokens=reasoning
    )
    if options.reasoning_model is not None:
        profile["openai_supports_reasoning"] = options.reasoning_model
    if (options.openai_api_style or style) == "responses":
        return OpenAIResponsesModel(name, provider=provider, profile=profile)
    return OpenAIChatModel(name, provider=provider, profile=profile)


def _server(api_base: str) -> tuple[str, str]:
    """(base URL, API style): ``api_base`` may be a server without a path, or name the endpoint itself."""
    url = api_base.rstrip("/")
    for endpoint, style in (("/responses", "responses"), ("/chat/completions", "chat_completions")):
        if url.endswith(endpoint):
            return url.removesuffix(endpoint), style
    return (url if urlsplit(url).path else f"{url}/v1"), "chat_completions"


def _infer(options: LLMOptions, provider: str, name: str) -> Model:
    if options.api_base is not None:
        raise ConfigError(
            f"llm.api_base does not apply to the provider {provider!r}",
            hint="use the provider openai_compatible for a server of your own",
        )
    from pydantic_ai.providers import infer_provider_class

    def build(provider_name: str) -> Any:
        factory: Any = infer_provider_class(provider_name)
        key = _api_key(options)
        return factory(api_key=key) if key else factory()

    try:
        return infer_model(f"{provider}:{name}", build)
    except (UserError, ValueError) as error:
        raise ConfigError(
            f"the model {provider}:{name} cannot be used: {error}",
            hint="check llm.provider and llm.model, and name the variable that holds the key in llm.api_key_env",
        ) from error


def _api_key(options: LLMOptions) -> str | None:
    return None if options.api_key_env is None else _environment(options.api_key_env)


def _environment(variable: str) -> str:
    if not (value := os.environ.get(variable)):
        raise ConfigError(
            f"the environment variable {variable} is not set",
            hint=f"set {variable} to the provider's API key, or name another variable in llm.api_key_env",
        )
    return value
