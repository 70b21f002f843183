"""The same secret in every test's data root: what a verified run draws is the same each time."""

from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot


def fix_secret(root: DataRoot) -> None:
    """Write the file that the first verifier would draw; for tests that assert figures."""
    path = root.path / "private" / "verify.secret"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, b"a secret of the tests alone 32 by", 0o600)
