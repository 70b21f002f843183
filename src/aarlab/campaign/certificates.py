"""A CA of one campaign and the certificate of its server, for AARs on other machines.

Both are made here and renewed when a campaign starts. Clients of the campaign trust this CA and no
other, so nothing has to be bought, and a certificate of another CA opens nothing.

Covered: private keys have mode 600, in a folder of mode 700 below `platform/`. The CA may sign
server certificates only. Not covered: whoever reads the operator's files can pose as the server.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aarlab.core.errors import Damaged
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir

CA_DAYS, SERVER_DAYS = 3650, 397
SKEW = timedelta(days=1)  # clocks of other machines
RENEW_BEFORE = timedelta(days=60)
ALWAYS = ("localhost", "127.0.0.1", "::1")


class Certificates(NamedTuple):
    """The files of a campaign: what clients trust, and what the server shows them."""

    ca: Path
    certificate: Path
    key: Path


def certificates(run: RunDir, *names: str) -> Certificates:
    """Return the certificates of a campaign whose server is reached under these names.

    A name may be an address. The CA stays the same as long as the campaign's folder, so that
    AARs which know it go on when the server starts again. Raises Damaged for files that are none.
    """
    for folder in (run.platform, run.tls):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    found = Certificates(run.tls / "ca.pem", run.tls / "server.pem", run.tls / "server.key")
    ca_key_file = run.tls / "ca.key"
    if not (found.ca.exists() and ca_key_file.exists()):
        key, made = _new_ca(run.path.name)
        _write_key(ca_key_file, key)
        _write(found.ca, made)
        found.certificate.unlink(missing_ok=True)
    hosts = tuple(dict.fromkeys((*names, *ALWAYS)))
    if not (found.key.exists() and _serves(found.certificate, hosts)):
        key = ec.generate_private_key(ec.SECP256R1())
        made = _signed(key, hosts, _read(found.ca), _read_key(ca_key_file))
        _write_key(found.key, key)
        _write(found.certificate, made)
    return found


def _new_ca(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"aarlab campaign {name}"[:64])
    made = _begun(key, issuer, issuer, CA_DAYS)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(_usage(signs_certificates=True), critical=True)
    return key, made.sign(key, hashes.SHA256())


def _signed(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    made = _begun(key, _name(hosts[0][:64]), ca.subject, SERVER_DAYS)
    for extension, critical in (
        (x509.SubjectAlternativeName([_general(host) for host in hosts]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False),
    ):
        made = made.add_extension(extension, critical=critical)
    return made.sign(ca_key, hashes.SHA256())


def _begun(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _serves(path: Path, hosts: Sequence[str]) -> bool:
    """Return whether there is a certificate for these hosts that will last for a while."""
    if not path.exists():
        return False
    kept = _read(path)
    names = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    lasts = kept.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)
    return lasts and {_general(host) for host in hosts} <= set(names)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise Damaged(f"{path} is not a certificate: remove {path.parent} ({error})") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise Damaged(f"{path} is not a private key: remove {path.parent} ({error})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Damaged(f"{path} is a key of another kind: remove {path.parent}")
    return key


def _write(path: Path, certificate: x509.Certificate) -> None:
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    write_atomic(path, pem, 0o600)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomic(path, pem.decode(), 0o600)
