"""Plain HTTP to a running platform, where the typed client would hide what is tested."""

import base64

import httpx
from platform_kit import Running

from aarlab.core.wire import NewSnapshot, Problem, SnapshotFile


def http(running: Running, token: str = "") -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(running.run.socket), verify=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url="http://platform", transport=transport, headers=headers)


def problem_of(response: httpx.Response) -> Problem:
    assert 400 <= response.status_code < 500, response.text
    assert len(response.content) < 1500
    return Problem.model_validate_json(response.content)


def snapshot_of(
    files: dict[str, bytes | str], name: str = "m", parent: str | None = None
) -> NewSnapshot:
    listed = [
        SnapshotFile(
            path=path,
            content_b64=base64.b64encode(
                content.encode() if isinstance(content, str) else content
            ).decode(),
        )
        for path, content in files.items()
    ]
    return NewSnapshot(name=name, files=listed, parent=parent)
