"""`methods: [folder]` of a spec: a person's own method folders as entries of a campaign.

A folder is read when the spec is loaded. The frozen spec holds its files, so later edits have no
effect. All own methods are run by one fixed researcher, as hand-tuned baselines are. Each becomes
a snapshot, is verified on the hidden split and is shown under the folder's name.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aarlab.campaign.aars import AarSpec
from aarlab.core.errors import BadInput
from aarlab.testbed.frozen_method import FrozenMethod, freeze_all

AAR = "own"
MAX_METHODS = 20
Files = dict[str, str]  # base64 by relative path


def with_own_methods(raw: Any, folder: Path) -> Any:
    """Replace method folders, given as paths relative to the spec's folder, by their files.

    Raises BadInput for more than MAX_METHODS folders.
    """
    given = raw.get("methods") if isinstance(raw, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return raw  # the validation says what is wrong
    if len(given) > MAX_METHODS:
        raise BadInput(f"{len(given)} method folders; a campaign has at most {MAX_METHODS}")
    frozen = freeze_all([folder / Path(one).expanduser() for one in given])
    return {**raw, "methods": {one.name: packed(one) for one in frozen}}


def packed(method: FrozenMethod) -> Files:
    return {path: base64.b64encode(data).decode() for path, data in method.files.items()}


def unpacked(name: str, files: Mapping[str, str]) -> FrozenMethod:
    """Decode the files of a method; raises ValueError for content that is not base64."""
    try:
        made = {path: base64.b64decode(text, validate=True) for path, text in files.items()}
    except binascii.Error as error:
        raise ValueError(f"method {name}: a file that is not base64 ({error})") from error
    return FrozenMethod(name, made)


def own_aar(names: list[str]) -> AarSpec:
    """Return the fixed researcher that runs each own method once on every task."""
    return AarSpec(name=AAR, researcher="fixed", role="human", arm="human", own=names)
