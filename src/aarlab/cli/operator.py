"""What only an operator's commands may do: read the vault, verify the log. The vault's second door.

Covered: commands that show figures made from labels run as the user who owns the vault.
Not covered: a user who owns the vault can read it; AARs run under another uid or in a sandbox.
"""

from aarlab.core.chain import LogHead
from aarlab.core.layout import DataRoot, RunDir
from aarlab.store.log import verify_log
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


def open_scorer(root: DataRoot) -> Scorer:
    """Exact scores for an operator's own tables; raises on loose modes of the vault."""
    return Scorer(Vault(root))


def verified_head(run: RunDir, head: LogHead | None) -> LogHead:
    return verify_log(run.database, head)
