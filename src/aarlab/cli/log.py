"""`aarlab log`: the hash chain of a campaign."""

from pathlib import Path
from typing import Annotated

import typer

from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput
from aarlab.core.extras import require
from aarlab.core.hashing import LogHead
from aarlab.core.layout import RunDir
from aarlab.core.showing import number_of

app = typer.Typer(no_args_is_help=True, help="The append-only log of submissions and scores.")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    head: Annotated[str | None, typer.Option(help="an exported head, SEQ:HASH")] = None,
    heads: Annotated[
        list[Path] | None, typer.Option(help="files of signed heads; default: the campaign's own")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="a copy of signing.pub; default: the campaign's own")
    ] = None,
) -> None:
    """Check every entry against its hash and against all exported heads and their signatures."""
    require("server")
    from aarlab.store.heads import read_heads, read_public_key

    run = RunDir(folder.absolute())
    files = sorted(run.heads.glob("*.jsonl")) if heads is None else heads
    known = read_heads(files, read_public_key(public_key or run.public_key)) if files else []
    found = _verified_head(run, *known, *_parsed(head))
    Console().print(
        f"intact: {number_of(found.seq, 'entry', 'entries')}, head {found.seq}:{found.hash}; "
        f"passes through {number_of(len(known), 'signed head')}",
        soft_wrap=True,
    )


@app.command("head")
def export_head(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    out: Annotated[Path | None, typer.Option(help="append to this file, not to stdout")] = None,
) -> None:
    """Check the log and sign its head. Keep that line where nobody can change it."""
    require("server")
    from aarlab.store.heads import Signer, append

    run = RunDir(folder.absolute())
    found = _verified_head(run)
    signed = Signer.open(run.signing_key, run.public_key).sign(found)
    if out is not None:
        append(out, signed)
    else:
        typer.echo(signed.model_dump_json())


def _parsed(head: str | None) -> list[LogHead]:
    if head is None:
        return []
    seq, _, digest = head.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(seq) < 16) or len(digest) != 64:
        raise BadInput(f"--head {head!r}: expected SEQ:HASH with 64 hex digits, as exported")
    return [LogHead(int(seq), digest)]


def _verified_head(run: RunDir, *heads: LogHead) -> LogHead:
    """Return the head of the run's log, in the environment's database or else its own file."""
    from aarlab.store.log import verify_log
    from aarlab.store.settings import StoreSettings

    return verify_log(StoreSettings().place(run), *heads)
