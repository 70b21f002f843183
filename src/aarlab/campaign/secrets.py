"""Secrets in a spec: refused before any part of the spec is written, and never quoted.

A spec is readable in its campaign's folder, in the export and in the report. Keys come from the
environment of the command that runs the campaign.

Covered: fields whose name suggests a key, token, password or authorization header; values that look
like a provider's key, a token, or a URL with a password.
Not covered: a secret that looks like an ordinary word, in a field whose name does not suggest one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from aarlab.agents.language.redaction import LOOKS_SECRET
from aarlab.campaign.reading import Place, SpecText
from aarlab.core.faults import Fault

_NAME = re.compile(
    r"(?:^|_)(?:api_?keys?|keys?|tokens?|secrets?|passwords?|passwd|pwd|credentials?|authorization|"
    r"auth|bearer|cookies?|headers?|connection_string)$"
)
_VALUE = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\b(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}"
    r"|\bxox[abposr]-[A-Za-z0-9-]{10,}"
    r"|\bey[A-Za-z0-9_-]{10,}\.ey[A-Za-z0-9_-]{10,}\."  # JSON web token
    r"|://[^/\s:@]*:[^/\s@]+@"  # a password in a URL
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?i:\b(?:basic|bearer|token)\s+(?=\S*[0-9])[A-Za-z0-9+/_=.-]{16,})"
    r"|(?i:[?&](?:api_?key|key|token|access_token|sig|signature|secret)=\S{4,})"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{6,}"
)
# Numbers of tokens and the like: fields of the spec itself, by their full names.
_KNOWN = frozenset(("tokens", "context_tokens", "max_output_tokens", "max_tokens", "budget_tokens"))
WHERE = "a spec is published with its campaign; keys belong into the environment of the command"


def secrets_in(text: SpecText) -> list[Fault]:
    """List one fault for each place that holds a secret; no fault contains its value."""
    faults = [
        Fault(text.line(place), f"{_named(place)}: {what}: {WHERE}", quotable=False)
        for place, what in _found(text.value, ())
    ]
    known = {fault.line for fault in faults}
    # Comments are kept with a launched spec, too.
    return faults + [fault for fault in secret_lines(text.text) if fault.line not in known]


def withheld(faults: Iterable[Fault], text: str) -> list[Fault]:
    """Mark faults of unreadable text as not quotable where their line may hold a secret."""
    lines = text.split("\n")
    return [
        replace(fault, quotable=False)
        if fault.line and any(_may_hold(line) for line in lines[fault.line - 1 : fault.line])
        else fault
        for fault in faults
    ]


def secret_lines(text: str) -> list[Fault]:
    """List one fault for each line that looks like it holds a secret; the text need not be YAML."""
    said = f"looks like a key or a password: {WHERE}"
    return [
        Fault(number, said, quotable=False)
        for number, line in enumerate(text.split("\n"), start=1)
        if _looks_secret(line)
    ]


def _may_hold(line: str) -> bool:
    return _looks_secret(line) or any(_names_secret(word) for word in re.findall(r"[\w-]+", line))


def _named(place: Place) -> str:
    """Return the dotted place, with keys that are themselves secrets replaced by `...`."""
    parts = (str(part) for part in place)
    return ".".join("..." if _looks_secret(part) else part for part in parts)


def _found(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            here = (*place, key)
            if _looks_secret(key):
                yield here, "the name looks like a key"
            elif _names_secret(key) and inner not in (None, "", [], {}):
                if not isinstance(inner, int | float):
                    yield here, "holds a secret, by its name"
            else:
                yield from _found(inner, here)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _found(inner, (*place, number))
    elif isinstance(value, str) and _looks_secret(value):
        yield place, "looks like a key or a password"


def _looks_secret(text: str) -> bool:
    return bool(LOOKS_SECRET.search(text) or _VALUE.search(text))


def _names_secret(key: str) -> bool:
    flat = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace("-", "_").lower()
    return flat not in _KNOWN and bool(_NAME.search(flat))
