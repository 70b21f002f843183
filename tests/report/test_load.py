"""A bad export is refused with the file, the field and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.wire import CampaignExport
from aarlab.report import load_export


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_round_trip(export: CampaignExport, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(export.model_dump_json())
    assert load_export(path) == export


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json.*aarlab campaign export"):
        load_export(tmp_path / "none.json")


@pytest.mark.parametrize("raw", [b"", b'{"format": ', b"\xff\xfe\x00", b"not json"])
def test_cut_off_or_foreign_bytes_are_damage(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(raw)
    with pytest.raises(Damaged, match=r"export\.json is not JSON"):
        load_export(path)


def changed(export: CampaignExport, where: list[str | int], value: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(export.model_dump_json())
    target: Any = data
    for step in where[:-1]:
        target = target[step]
    target[where[-1]] = value
    return data


@pytest.mark.parametrize(
    ("where", "value", "field"),
    [
        (["submissions", 3, "exact", "value"], "high", r"submissions\.3\.exact\.value"),
        (["submissions", 3, "exact", "value"], float("nan"), r"submissions\.3\.exact\.value"),
        (["format"], "aarlab-export-9", "field format"),
        (["aars", 0, "name"], "../etc", r"aars\.0\.name"),
        (["extra"], 1, "field extra"),
    ],
)
def test_wrong_field_is_named(
    export: CampaignExport, tmp_path: Path, where: list[str | int], value: Any, field: str
) -> None:
    path = written(tmp_path / "export.json", changed(export, where, value))
    with pytest.raises(BadInput, match=rf"export\.json.*{field}"):
        load_export(path)


def test_parts_that_contradict_each_other_are_damage(
    export: CampaignExport, tmp_path: Path
) -> None:
    cases: list[tuple[list[str | int], Any, str]] = [
        (["submissions", 9, "aar"], "nobody", r"submissions\.9\.aar"),
        (["submissions", 9, "task"], "cooking", r"submissions\.9\.task"),
        (["submissions", 9, "id"], export.submissions[8].id, r"submissions\.9\.id"),
        (["verifications", 0, "aar"], "nobody", r"verifications\.0\.aar"),
    ]
    for where, value, field in cases:
        path = written(tmp_path / "export.json", changed(export, where, value))
        with pytest.raises(Damaged, match=field):
            load_export(path)
