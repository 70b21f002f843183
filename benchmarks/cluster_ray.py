"""The Ray of `cluster.py`: a head and three nodes on this machine, and the package that uses it.

It needs `pip install ray`. Only a raylet is killed: that all processes of its node end with it is
the executor's part.
"""

import os
from contextlib import AbstractContextManager, ExitStack
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from extension_kit import EXAMPLES, distribution_of, installed
from ray_cluster import RayCluster


class RayEngine(AbstractContextManager["RayEngine"]):
    """Ray gives a node up when it has missed three health checks, a second apart."""

    name = "ray"

    def __enter__(self) -> "RayEngine":
        self.cluster = RayCluster(nodes=3)
        with ExitStack() as stack:
            site, source = Path(stack.enter_context(TemporaryDirectory())), EXAMPLES / "ray" / "src"
            distribution_of(site, EXAMPLES / "ray")
            stack.enter_context(installed(site, source))
            stack.enter_context(patch.dict(os.environ, PYTHONPATH=f"{site}:{source}"))
            stack.callback(self.cluster.remove)
            self.cluster.start()
            os.environ["RAY_ADDRESS"] = self.cluster.address
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def version(self) -> str:
        return f"Ray {metadata.version('ray')}"

    def executor(self, keys: Path) -> dict[str, Any]:
        options = {"host": "127.0.0.1", "env_file": str(keys), "poll_s": 1.0}
        return {"name": "ray", "options": options, "cpus": 1}

    def where(self) -> dict[str, str]:
        return self.cluster.where()

    def lose(self, node: str) -> None:
        self.cluster.lose(node)
