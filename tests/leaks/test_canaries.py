"""Every vault file carries a canary; after a campaign none is found anywhere else.

The needle is shown to work: the same search finds the canaries in the vault itself.
"""

import gzip
import json
import zipfile
import zlib
from pathlib import Path

from aarlab.client.operator import OperatorClient
from aarlab.client.platform import PlatformClient
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.verdicts import is_ranking_run
from aarlab.core.wire import CampaignExport

Toy = tuple[RunDir, CampaignExport]
HIDDEN = ("selection", "certify", "teacher", "train_hidden")


def canaries_of(root: DataRoot) -> set[str]:
    found: set[str] = set()
    for path in root.vault.glob("*/canaries.json"):
        found |= set(json.loads(path.read_text()).values())
    assert len(found) >= 10
    return found


def contents(path: Path) -> list[bytes]:
    """A file as it is and unpacked: zip members (npz), zlib and gzip streams (git objects)."""
    raw = path.read_bytes()
    found = [raw]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    for unpack in (zlib.decompress, gzip.decompress):
        try:
            found.append(unpack(raw))
        except (OSError, EOFError, zlib.error):
            continue
    return found


def hits(folder: Path, needles: set[str]) -> dict[str, set[str]]:
    """Needles by the file that holds them, also as UTF-32, in which numpy keeps text."""
    forms = {n: (n.encode(), n.encode("utf-32-le"), n.encode("utf-16-le")) for n in needles}
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        for content in contents(path):
            held = {n for n, ways in forms.items() if any(way in content for way in ways)}
            if held:
                found.setdefault(str(path), set()).update(held)
    return found


def test_the_search_finds_every_canary_in_the_vault(toy_root: DataRoot) -> None:
    needles = canaries_of(toy_root)
    files = {p for p in hits(toy_root.vault, needles) if not p.endswith("canaries.json")}
    found = set().union(*hits(toy_root.vault, needles).values())
    assert found == needles and len(files) >= len(needles) - 1


def test_no_canary_outside_the_vault(toy_root: DataRoot, toy_run: Toy) -> None:
    needles = canaries_of(toy_root)
    assert hits(toy_run[0].path, needles) == {}
    assert hits(toy_root.public, needles) == {}


def test_rows_in_another_style_stay_in_the_vault(toy_root: DataRoot, toy_run: Toy) -> None:
    names = {f"twins/{name}" for name in ("inputs.jsonl", "features.npz", "reference.json")}
    assert names <= json.loads((toy_root.vault_task("gauss") / "canaries.json").read_text()).keys()
    needle = {"by the other hand"}
    assert hits(toy_root.vault, needle).keys() == {
        str(toy_root.vault_task("gauss") / "twins" / "inputs.jsonl")
    }
    assert hits(toy_root.public, needle) == {} == hits(toy_run[0].path, needle)
    probed = [v for v in toy_run[1].verifications if is_ranking_run(v)]
    assert probed and all(v.evidence and v.evidence.style for v in probed)


def test_hidden_train_rows_stay_in_the_vault(toy_root: DataRoot, toy_run: Toy) -> None:
    vault = toy_root.vault_task("gauss")
    names = {f"{part}/train_hidden.jsonl" for part in ("inputs", "truth")}
    names |= {"features/train_hidden.npz", "hidden_weak_labels.npz"}
    assert names <= json.loads((vault / "canaries.json").read_text()).keys()
    texts = {"question train_hidden", "train_hidden 7 first"}
    assert hits(toy_root.vault, texts) == {str(vault / "inputs" / "train_hidden.jsonl"): texts}
    assert hits(toy_root.public, texts) == {} == hits(toy_run[0].path, texts)
    ids = {"train_hidden-7", "train_hidden-g3"}  # of a row, of its problem
    assert hits(toy_root.public, ids) == {} == hits(toy_run[0].path, ids)


def test_no_canary_and_no_truth_in_any_answer_of_the_server(
    toy_root: DataRoot, toy_run: Toy, served
) -> None:
    run, export = toy_run
    bodies = []
    with PlatformClient.over_socket(run.socket, (run.tokens / "rowan").read_text().strip()) as aar:
        bodies += [
            aar.me(),
            aar.tasks(),
            aar.submissions(),
            aar.snapshots(),
            aar.verified_methods(),
        ]
        bodies += [list(aar.findings()), aar.snapshot(export.snapshots[0].id)]
    token = (run.tokens / "operator").read_text().strip()
    with OperatorClient.over_socket(run.socket, token) as operator:
        bodies += [operator.export(), operator.log(), operator.aars(), operator.verifications()]
    text = repr(bodies)
    assert not [needle for needle in canaries_of(toy_root) if needle in text]
    hidden = [f"{split}-{i}" for split in HIDDEN for i in range(50)]
    assert not [row for row in hidden if f"'{row}'" in text], "ids of hidden rows are served"
    assert "question train_hidden" not in text
