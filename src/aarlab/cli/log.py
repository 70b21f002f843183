"""`aarlab log`: the hash chain of a campaign."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.core.chain import LogHead
from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir

app = typer.Typer(no_args_is_help=True, help="The append-only log of submissions and scores.")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    head: Annotated[str | None, typer.Option(help="an exported head, SEQ:HASH")] = None,
) -> None:
    """Check every entry against its hash and, with --head, that nothing was cut off."""
    from aarlab.cli.operator import verified_head

    found = verified_head(RunDir(folder.absolute()), _parsed(head))
    Console().print(f"intact: {found.seq} entries, head {found.seq}:{found.hash}", soft_wrap=True)


def _parsed(head: str | None) -> LogHead | None:
    if head is None:
        return None
    seq, _, digest = head.partition(":")
    if not seq.isdigit() or len(digest) != 64:
        raise BadInput(f"--head {head!r}: expected SEQ:HASH with 64 hex digits, as exported")
    return LogHead(int(seq), digest)
