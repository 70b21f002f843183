"""The variables and packages that each model provider of Inspect needs. Uses no network.

The table repeats what Inspect's providers look for when they are opened. A test compares the two.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from aarlab.agents.language.personalities import PERSONALITIES, personality
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.settings import any_set
from aarlab.core.errors import AarlabError
from aarlab.core.extras import installed

AGENTS = "pip install 'aarlab[agents]'"


@dataclass(frozen=True, slots=True)
class Provider:
    """The requirements of one provider.

    One of the variables `keys` must be set, and one of `also`, such as an account. The provider's
    client imports `module`, which the command `install` installs.
    """

    keys: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    module: str = "inspect_ai"
    install: str = AGENTS


def _openai_like(*keys: str) -> Provider:
    return Provider(keys, module="openai")


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), module="anthropic"),
    "openai": Provider(
        ("OPENAI_API_KEY", "AZUREAI_OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"), module="openai"
    ),
    "openai-api": _openai_like(),  # by the service in the model's name
    "openai-api-completions": _openai_like(),
    "google": Provider(
        ("GOOGLE_API_KEY", "GEMINI_API_KEY", "VERTEX_API_KEY"),
        module="google.genai",
        install="pip install google-genai",
    ),
    "groq": Provider(("GROQ_API_KEY",), module="groq", install="pip install groq"),
    "mistral": Provider(
        ("MISTRAL_API_KEY", "AZUREAI_MISTRAL_API_KEY", "AZURE_MISTRAL_API_KEY"),
        module="mistralai",
        install="pip install mistralai",
    ),
    "grok": Provider(
        ("XAI_API_KEY", "GROK_API_KEY"), module="xai_sdk", install="pip install xai-sdk"
    ),
    "azureai": Provider(
        ("AZUREAI_API_KEY", "AZURE_API_KEY"),
        module="azure.ai.inference",
        install="pip install azure-ai-inference",
    ),
    "bedrock": Provider(module="aiobotocore", install="pip install aiobotocore"),
    "sagemaker": Provider(module="aiobotocore", install="pip install aiobotocore"),
    "cloudflare": Provider(
        ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"), ("CLOUDFLARE_ACCOUNT_ID",), "openai"
    ),
    "together": _openai_like("TOGETHER_API_KEY"),
    "fireworks": _openai_like("FIREWORKS_API_KEY"),
    "moonshot": _openai_like("MOONSHOT_API_KEY"),
    "meta": _openai_like("META_API_KEY", "MODEL_API_KEY"),
    "litellm-proxy": Provider(
        (),
        ("LITELLM_PROXY_BASE_URL", "LITELLM_PROXY_API_BASE", "LITELLM_BASE_URL"),
        "openai",
    ),
    "deepseek": _openai_like("DEEPSEEK_API_KEY"),
    "sambanova": _openai_like("SAMBANOVA_API_KEY"),
    "openrouter": _openai_like("OPENROUTER_API_KEY"),
    "perplexity": _openai_like("PERPLEXITY_API_KEY"),
    "hf-inference-providers": _openai_like("HF_TOKEN"),
    "ollama": _openai_like(),
    "hf": Provider(module="transformers", install="pip install 'aarlab[testbed]'"),
    "vllm": Provider(module="vllm", install="pip install 'aarlab[vllm]'"),
    "vllm-completions": Provider(module="vllm", install="pip install 'aarlab[vllm]'"),
    "sglang": Provider(module="sglang", install="pip install sglang"),
    "llama-cpp-python": _openai_like(),
    "transformer_lens": Provider(module="transformer_lens", install="pip install transformer-lens"),
    "nnterp": Provider(module="nnterp", install="pip install nnterp"),
    "mockllm": Provider(),
    "none": Provider(),
    "scripted": Provider(),
}
# What a bare model name most likely means.
_FAMILIES = (
    (r"gpt|chatgpt|o[0-9]|codex", "openai"),
    (r"claude|opus|sonnet|haiku", "anthropic"),
    (r"gemini|gemma", "google"),
    (r"grok", "grok"),
    (r"mistral|magistral|ministral|codestral|devstral", "mistral"),
    (r"deepseek", "deepseek"),
    (r"kimi|moonshot", "moonshot"),
    (r"sonar", "perplexity"),
)


@dataclass(frozen=True, slots=True)
class Lack:
    """A reason why a model cannot be called.

    With `in_spec` the spec is wrong wherever it runs. Otherwise this machine lacks something.
    """

    in_spec: bool
    text: str


def lacks(
    model: str,
    base_url: str | None = None,
    args: Mapping[str, Any] | None = None,
    given: Collection[str] = (),
) -> list[Lack]:
    """List the known reasons why an AAR could not call this model on this machine.

    `args` are the model's `model_args`. `given` are variables that the AAR has besides those of
    this process.
    """
    name, slash, inner = model.partition("/")
    if not slash or not inner or name not in PROVIDERS:
        return [Lack(True, _misnamed(model))]
    if name == "scripted":
        return _of_script(inner, args or {})
    found, provider = [], PROVIDERS[name]
    if not installed("inspect_ai"):
        found.append(Lack(False, f"language models need Inspect: {AGENTS}"))
    if not installed(provider.module):
        found.append(Lack(False, f"{name} needs the package {provider.module}: {provider.install}"))
    keys, also = provider.keys, provider.also
    if name.startswith("openai-api"):
        service, _, rest = inner.partition("/")
        if not rest:
            return [Lack(True, f"model {model!r} names no service: {name}/SERVICE/MODEL")]
        begin = service.upper().replace("-", "_")
        keys, also = (f"{begin}_API_KEY",), (f"{begin}_BASE_URL",)
    for names in (keys, () if base_url and name != "cloudflare" else also):
        if names and not any_set(names) and not set(names) & set(given):
            text = f"{' or '.join(names)} is not set: {model} cannot be called without it"
            found.append(Lack(False, text))
    return found


def _misnamed(model: str) -> str:
    name, slash, inner = model.partition("/")
    if not slash:
        return f"model {model!r} has no provider; {_likely(model)}"
    if not inner:
        return f"model {model!r} names a provider and no model: {name}/MODEL"
    near = get_close_matches(name, PROVIDERS, n=1)
    said = f"did you mean {near[0]}/{inner}?" if near else f"there are {', '.join(PROVIDERS)}"
    return f"model {model!r}: no provider {name!r}; {said}"


def _likely(model: str) -> str:
    for pattern, provider in _FAMILIES:
        if re.match(pattern, model, re.IGNORECASE):
            return f"write {provider}/{model}"
    return f"write PROVIDER/{model}, e.g. openai/{model} or hf/{model}"


def _of_script(name: str, args: Mapping[str, Any]) -> list[Lack]:
    known = sorted(PERSONALITIES)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean scripted/{near[0]}?" if near else ""
        return [Lack(True, f"no script {name!r}; there are {', '.join(known)}{hint}")]
    found = [] if installed("inspect_ai") else [Lack(False, f"scripts need Inspect: {AGENTS}")]
    own = {key: value for key, value in args.items() if key != "think_s"}
    try:
        personality(name, **own)
        if not 0 <= float(args.get("think_s", 0.0)) < 1e6:
            raise ValueError("think_s is a number of seconds")
    except (AarlabError, TypeError, ValueError) as error:
        found.append(Lack(True, f"model_args of scripted/{name}: {cleaner([])(str(error))}"))
    return found
