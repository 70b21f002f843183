"""TLS to the platform: a real server with a CA of its own, and every way to get it wrong."""

import shutil
import signal
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from platform_kit import Running, TinyTask, spawn, stop

from aarlab.campaign import certificates as made
from aarlab.campaign.certificates import Certificates, certificates
from aarlab.campaign.executing import listens
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address, health
from aarlab.core.errors import BadInput, Damaged, Unreachable
from aarlab.core.layout import RunDir
from aarlab.core.wire import Spend
from aarlab.executors.local import LocalExecutor
from aarlab.server.__main__ import main


class Elsewhere(LocalExecutor):
    """An executor whose jobs reach the platform over TCP."""

    @property
    def platform_host(self) -> str:
        return "127.0.0.1"


def _options(certificate: Certificates, port: int, host: str = "127.0.0.1") -> list[str]:
    words = ["--host", host, "--port", str(port)]
    words += ["--certificate", str(certificate.certificate)]
    return [*words, "--certificate-key", str(certificate.key)]


@pytest.fixture(scope="module")
def secure(
    tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, Address]]:
    """A server on a unix socket and on TCP with TLS."""
    run = RunDir(tmp_path_factory.mktemp("tls") / "run")
    files, place = certificates(run, "127.0.0.1"), listens(Elsewhere())
    assert place is not None
    process = spawn(tiny, run, "--task", "tiny", *_options(files, place.port, "0.0.0.0"))
    address = Address(place.url, files.ca)
    health(Address(run.socket), deadline_s=60)
    health(address, deadline_s=20)
    running = Running(tiny, run, process)
    try:
        yield running, address
    finally:
        assert stop(process) == 0
    assert running.log_text() == "" and not run.socket.exists()


def test_both_listeners_are_one_platform(secure: tuple[Running, Address]) -> None:
    running, address = secure
    token = running.token("far")
    with PlatformClient(address, token, 20) as far, running.with_token(token) as near:
        far.spend(Spend(kind="device_s", amount=2), key="k")
        assert near.spend(Spend(kind="device_s", amount=2), key="k").spend == {"device_s": 2}
        assert [task.name for task in far.tasks()] == ["tiny"]


def test_another_ca_is_refused_at_once(secure: tuple[Running, Address], tmp_path: Path) -> None:
    _, address = secure
    other = certificates(RunDir(tmp_path / "other"), "127.0.0.1").ca
    for place in (Address(address.place, other), Address(address.place)):
        with pytest.raises(Unreachable, match=r"is refused: .*certificate"):
            health(place, deadline_s=3600)  # no try after the first


def test_another_name_is_refused(secure: tuple[Running, Address]) -> None:
    """The certificate is one of the CA, but of another host."""
    _, address = secure
    elsewhere = str(address.place).replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(Unreachable, match="is refused: IP address mismatch"):
        health(Address(elsewhere, address.ca), deadline_s=3600)


def test_what_speaks_no_tls_is_not_answered(secure: tuple[Running, Address]) -> None:
    _, address = secure
    plain = str(address.place).replace("https", "http")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{plain}/health", trust_env=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_both(tiny: TinyTask, tmp_path: Path, number: signal.Signals) -> None:
    run = RunDir(tmp_path / "run")
    files, place = certificates(run, "127.0.0.1"), listens(Elsewhere())
    assert place is not None
    process = spawn(tiny, run, "--task", "tiny", *_options(files, place.port))
    running = Running(tiny, run, process)
    health(Address(place.url, files.ca), deadline_s=60)
    with PlatformClient(Address(place.url, files.ca), running.token("open"), 20) as aar:
        aar.me()  # a connection that stays open
        process.send_signal(number)
        assert process.wait(30) == 0
    assert running.log_text() == "" and not run.socket.exists()


@pytest.mark.parametrize(
    "given",
    ["http://10.0.0.5:8321", "http://lab.example:8321", "http://0.0.0.0:1", "http://[fe80::1]:1"],
)
def test_http_beyond_this_machine_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="readable through the network"):
        Address(given)


@pytest.mark.parametrize(
    "given", ["", "lab:8321", "/run/platform.sock", "ftp://lab", "https://", "http://[::1"]
)
def test_what_is_no_url_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="is not a URL"):
        Address(given)


@pytest.mark.parametrize("given", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_http_on_this_machine_is_not(given: str) -> None:
    assert Address(given).place == given


def test_a_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(BadInput, match=f"{name} cannot be read as the certificate of a CA"):
            health(Address("https://127.0.0.1:1", tmp_path / name), deadline_s=0)


def test_keys_are_the_operators_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    found = certificates(run, "10.0.0.5", "lab.example")
    assert stat.S_IMODE(run.tls.stat().st_mode) == 0o700
    for path in run.tls.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    kept = x509.load_pem_x509_certificate(found.certificate.read_bytes())
    names = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "lab.example" in names.get_values_for_type(x509.DNSName)
    assert {"10.0.0.5", "127.0.0.1"} <= {
        str(ip) for ip in names.get_values_for_type(x509.IPAddress)
    }


def test_certificates_stay_and_are_renewed_under_the_same_ca(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in run.tls.iterdir()}

    certificates(run, "127.0.0.1")
    first = files()
    certificates(run, "127.0.0.1")
    assert files() == first
    certificates(run, "10.0.0.5")  # the campaign goes on at another address
    second = files()
    assert second["ca.pem"] == first["ca.pem"] and second["server.pem"] != first["server.pem"]
    later = datetime.now(UTC) + timedelta(days=made.SERVER_DAYS - 30)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return later

    monkeypatch.setattr(made, "datetime", Clock)
    certificates(run, "10.0.0.5")  # it would end while the campaign works
    assert files()["server.pem"] != second["server.pem"] and files()["ca.pem"] == first["ca.pem"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name in ("ca.pem", "ca.key", "server.pem"):
        run = RunDir(tmp_path / name)
        certificates(run, "127.0.0.1")
        (run.tls / name).write_text("no PEM\n")
        with pytest.raises(Damaged, match=f"{name}.*remove"):
            certificates(run, "10.0.0.1")


def test_a_server_refuses_what_it_cannot_use(
    tiny: TinyTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = certificates(RunDir(tmp_path / "made"), "127.0.0.1")
    words = ["--run", str(tmp_path / "run"), "--root", str(tiny.data.path)]

    def refused(*options: str) -> str:
        assert main([*words, *options]) == 1
        return capsys.readouterr().err

    certificate, key = (
        ("--certificate", str(files.certificate)),
        ("--certificate-key", str(files.key)),
    )
    assert "three things" in refused(*certificate, "--port", "0")
    assert "three things" in refused(*certificate, *key)
    loose = tmp_path / "loose.key"
    shutil.copy(files.key, loose)
    loose.chmod(0o640)
    assert "chmod 600" in refused(*certificate, "--certificate-key", str(loose), "--port", "0")
    foreign = certificates(RunDir(tmp_path / "foreign"), "127.0.0.1").key
    said = refused(*certificate, "--certificate-key", str(foreign), "--port", "0")
    assert "cannot be used for TLS" in said and "PRIVATE" not in said
    assert not (tmp_path / "run").exists(), "nothing is made"
