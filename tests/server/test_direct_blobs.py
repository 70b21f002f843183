"""Kept blobs past the server: bound links, whose they are, what is refused, a link that is cut."""

import http.server
import logging
import os
import re
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import httpx
import pytest
from kept_aar import Cable
from platform_kit import Running, TinyTask, platform
from swift_store import SECRET

from aarlab.client import bucket
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BudgetExhausted,
    Forbidden,
    NotFound,
    Superseded,
    Unreachable,
)
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import RunDir
from aarlab.core.links import CHECKSUM, SIGNED, check_link, checksum
from aarlab.core.supervision import supervisor_key
from aarlab.core.wire_kept import FILE_BYTES, Links, LinksAsked, Manifest
from aarlab.server.__main__ import main as server
from aarlab.store import blobs as stored
from aarlab.store.blobs import Blobs, Folder
from aarlab.store.direct import check_store

ONE, TWO = b"one", b"two"
ONE_SHA, TWO_SHA = sha256_hex(ONE), sha256_hex(TWO)


@pytest.fixture(scope="module")
def direct(tiny: TinyTask, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform whose AARs use the bucket themselves."""
    run = RunDir(tmp_path_factory.mktemp("direct"))
    options = ("--task", "tiny", "--blobs", f"{s3}/{run.path.name}", "--blobs-direct")
    with platform(tiny, run, *options) as started:
        yield started
    log = started.log_text()
    assert SIGNED not in log and SECRET not in log
    assert log == "", "the platform logged a crash"


def supervisor(platform: Running, name: str) -> PlatformClient:
    key = supervisor_key(platform.operator_token, name)
    made = PlatformClient(platform.address, platform.token(name), 20, key)
    made.open_session()
    return made


def in_bucket(platform: Running, name: str) -> set[bytes]:
    files = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    found = files.find(f"aarlab/{platform.run.path.name}/kept/{name}")
    return {files.cat(path) for path in found}


def put(url: str, body: bytes, sha: str) -> int:
    return httpx.put(url, content=body, headers={CHECKSUM: checksum(sha)}).status_code


def links(aar: PlatformClient, **asked: object) -> Links:
    return aar._links(LinksAsked.model_validate(asked))


# ---------------------------------------------------------------- an AAR and its blobs
def test_blobs_go_past_the_server(direct: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    through: list[str] = []
    monkeypatch.setattr(PlatformClient, "put_blob", lambda self, sha, data: through.append(sha))
    monkeypatch.setattr(PlatformClient, "get_blob", lambda self, sha: through.append(sha))
    monkeypatch.setattr(bucket, "MOST_LINKS", 5)
    many = {sha256_hex(data): data for data in (b"%d" % n for n in range(12))}
    with supervisor(direct, "past") as aar:
        assert aar.kept().direct
        aar.put_blobs({ONE_SHA: ONE, **many})
        assert in_bucket(direct, "past") == {ONE, *many.values()}
        with pytest.raises(NotFound, match=TWO_SHA[2:]):
            aar.put_manifest(Manifest(home={"state.json": TWO_SHA}))
        aar.put_manifest(Manifest(home={"state.json": ONE_SHA}))
        assert list(aar.get_blobs([ONE_SHA, ONE_SHA])) == [(ONE_SHA, ONE)] * 2
        with pytest.raises(NotFound, match=TWO_SHA):
            list(aar.get_blobs([TWO_SHA]))
        aar.kept()
        assert in_bucket(direct, "past") == {ONE}, "what belongs to no manifest is swept"
    assert through == []
    assert (direct.run.aar("past") / "state.json").read_bytes() == ONE
    assert not (direct.run.platform / "kept").exists()


def test_a_link_takes_what_it_names_and_nothing_else(direct: Running) -> None:
    with supervisor(direct, "bound") as aar:
        url = links(aar, put={ONE_SHA: 3}).put[ONE_SHA]
        assert put(url, TWO, ONE_SHA) == 400, "other bytes"
        assert put(url, TWO, TWO_SHA) == 403, "other bytes, said to be so"
        assert put(url, b"one more", ONE_SHA) >= 400, "another length"
        assert httpx.put(url, content=ONE).status_code == 403, "without the hash"
        assert httpx.get(url).status_code == httpx.delete(url).status_code == 403
        assert put(url.replace(ONE_SHA[2:], TWO_SHA[2:]), ONE, ONE_SHA) == 403
        assert put(url.replace("/kept/bound/", "/kept/other/"), ONE, ONE_SHA) == 403
        assert in_bucket(direct, "bound") == set()
        assert put(url, ONE, ONE_SHA) == 200
        assert httpx.get(url.partition("?")[0]).status_code >= 400, "without a signature"
        with pytest.raises(ValueError, match="less than or equal"):
            LinksAsked(put={ONE_SHA: FILE_BYTES + 1})


def test_a_digest_opens_nothing_of_another_aar(direct: Running) -> None:
    with supervisor(direct, "owner") as mine, supervisor(direct, "knows") as yours:
        for aar in (mine, yours):
            aar.kept()
        mine.put_blobs({ONE_SHA: ONE})
        mine.put_manifest(Manifest(home={"state.json": ONE_SHA}))
        url = links(yours, get=[ONE_SHA]).get[ONE_SHA]
        assert "/kept/knows/" in url and httpx.get(url).status_code == 404
        assert httpx.get(url.replace("/kept/knows/", "/kept/owner/")).status_code == 403
        with pytest.raises(NotFound):
            list(yours.get_blobs([ONE_SHA]))
        with pytest.raises(NotFound):
            yours.put_manifest(Manifest(home={"state.json": ONE_SHA}))
        with pytest.raises(ValueError, match="put"):
            LinksAsked.model_validate({"put": {f"../owner/{ONE_SHA}": 3}})


def test_who_gets_links(direct: Running) -> None:
    with direct.aar("inside") as inside, pytest.raises(Forbidden, match="only the process"):
        links(inside, get=[ONE_SHA])
    with (
        supervisor(direct, "twice") as old,
        supervisor(direct, "twice"),
        pytest.raises(Superseded),
    ):
        links(old, put={ONE_SHA: 3})
    with supervisor(direct, "greedy") as aar:
        for number in range(32):
            links(aar, put={f"{number:064x}": FILE_BYTES})
        links(aar, put={f"{0:064x}": FILE_BYTES})  # once more is not once more to keep
        with pytest.raises(BudgetExhausted, match="without a manifest"):
            links(aar, put={f"{99:064x}": 1})


def test_by_default_there_are_no_links(running: Running) -> None:
    with supervisor(running, "no-links") as aar:
        assert not aar.kept().direct
        with pytest.raises(BadInput, match="go through this server"):
            links(aar, get=[ONE_SHA])


@pytest.mark.gate
def test_a_link_that_is_too_old_is_asked_for_again(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Blobs(Folder(f"{s3}/{tmp_path.name}"))
    monkeypatch.setattr(stored, "LINK_S", 1)
    asked: list[str] = []

    def ask(wanted: LinksAsked) -> Links:
        put = {sha: folder.link_to_put(sha, n) for sha, n in wanted.put.items()}
        if not asked:
            time.sleep(2.5)
        asked.extend(put.values())
        return Links(put=put)

    client = bucket.Bucket(ask, 20)
    client.put({ONE_SHA: ONE})
    client.close()
    assert folder.get(ONE_SHA) == ONE and len(asked) == 2
    time.sleep(2.5)
    assert put(asked[1], ONE, ONE_SHA) == 403


# ---------------------------------------------------------------- a link is cut
@pytest.mark.gate
def test_a_link_is_cut_within_a_blob(
    tiny: TinyTask,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The platform reaches the store, and sends its AARs there, through a cable."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # commands that run in this process quieten it
    large = bytes(range(256)) * 4096 * 8
    sha, port = sha256_hex(large), httpx.URL(os.environ["AWS_ENDPOINT_URL"]).port or 0
    options = ("--task", "tiny", "--blobs", f"{s3}/{tmp_path.name}", "--blobs-direct")
    with Cable(("127.0.0.1", 0), ("127.0.0.1", port)) as cable:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{cable.port}")
        with (
            platform(tiny, RunDir(tmp_path / "run"), *options) as running,
            supervisor(running, "cut") as aar,
        ):
            aar.kept()
            cable.snap(after=len(large) // 2)
            aar.put_blobs({sha: large})
            assert cable.snapped == 1
            aar.put_manifest(Manifest(workspace={"large": (sha, 0o644)}))
            assert dict(aar.get_blobs([sha])) == {sha: large}
            assert aar._bucket is not None
            aar._bucket._deadline_s = 0.5
            cable.cut()
            with pytest.raises(Unreachable, match="the store of blobs does not answer") as caught:
                aar.put_blobs({ONE_SHA: ONE})
            cable.mend()
            aar.put_blobs({ONE_SHA: ONE})
    assert SIGNED not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "httpx" in {record.name for record in caplog.records}, "it logs requests to the platform"
    assert SIGNED in repr(Links(get={"0" * 64: f"?{SIGNED}=x"}).get)
    assert SIGNED not in repr(Links(get={"0" * 64: f"?{SIGNED}=x"}))


# ---------------------------------------------------------------- a server starts
def started(tiny: TinyTask, tmp_path: Path, *options: str) -> int:
    given = ["--run", str(tmp_path / "run"), "--root", str(tiny.data.path), "--task", "tiny"]
    return server([*given, *options])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_ACCESS_KEY_ID", "test:another", "refuses a link (HTTP 403 SignatureDoesNot"),
        ("AWS_SECRET_ACCESS_KEY", "wr0ng-secret", "(HTTP 403 SignatureDoesNotMatch)"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "does not answer: ConnectError"),
        ("AWS_ENDPOINT_URL", "http://10.0.0.9:9", "without TLS its links would be readable"),
        ("AARLAB_SERVER_BLOBS", "s3://aarlab-2/x", "(HTTP 404 NoSuchBucket)"),
        ("AARLAB_SERVER_BLOBS", "memory://x", "needs a bucket: AARLAB_SERVER_BLOBS=s3://"),
        ("AARLAB_SERVER_BLOBS_DIRECT", "wr0ng", "AARLAB_SERVER_BLOBS_DIRECT: Input should be"),
    ],
)
def test_a_server_says_what_is_wrong_with_its_bucket(
    tiny: TinyTask,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv("AARLAB_SERVER_BLOBS", f"{s3}/{tmp_path.name}")
    monkeypatch.setenv("AARLAB_SERVER_BLOBS_DIRECT", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv(name, value)
    assert started(tiny, tmp_path) == 1
    said = capfd.readouterr().err
    assert told in said and SIGNED not in said and SECRET not in said and "wr0ng" not in said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wr0ng", "refuses its credentials (PermissionError)"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "does not answer: EndpointConnectionError"),
        ("AARLAB_SERVER_BLOBS", "s3://aarlab-2/x", "its bucket does not exist: make it first"),
    ],
)
def test_a_bucket_that_is_not_used_directly(
    tiny: TinyTask,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv("AARLAB_SERVER_BLOBS", f"{s3}/{tmp_path.name}")
    check_store(Folder(f"{s3}/{tmp_path.name}"), direct=False)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv(name, value)
    assert started(tiny, tmp_path) == 1
    assert told in capfd.readouterr().err
    with pytest.raises(AarlabError, match=re.escape(told)):
        check_store(Folder(os.environ["AARLAB_SERVER_BLOBS"]), direct=False)


class Careless(http.server.BaseHTTPRequestHandler):
    """A store that looks at no hash; an open one also at no signature."""

    files: ClassVar[dict[str, bytes]] = {}
    is_open = False

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = checksum(sha256_hex(body)) == self.headers[CHECKSUM]
        if right or not self.is_open:
            self.files[self.path.partition("?")[0]] = body
        self._answer(200 if right or not self.is_open else 400)

    def do_GET(self) -> None:
        known = SIGNED in self.path or self.is_open
        self._answer(200 if known else 403, self.files[self.path.partition("?")[0]])

    def do_DELETE(self) -> None:
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.gate
@pytest.mark.parametrize(
    ("is_open", "told"), [(False, "takes other bytes than a link is"), (True, "to anybody")]
)
def test_a_careless_store_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch, is_open: bool, told: str
) -> None:
    monkeypatch.setattr(Careless, "is_open", is_open)
    careless = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    thread = threading.Thread(target=careless.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{careless.server_address[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(BadInput, match=told):
            check_store(Folder("s3://aarlab/x"), direct=True)
    finally:
        careless.shutdown()
        thread.join()
        careless.server_close()


def test_http_is_for_this_machine_alone() -> None:
    for good in ("https://s3.example/x", "http://127.0.0.1:1/x", "http://[::1]:1/x"):
        check_link(good)
    for bad in ("http://10.0.0.5/x", "http://store/x", "ftp://store/x"):
        with pytest.raises(BadInput, match="without TLS"):
            check_link(bad)
