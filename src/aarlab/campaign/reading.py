"""A strict reader of campaign specs in YAML; faults name the spec's fields and line numbers.

A spec is readable in its campaign's folder, in the export and in the report. Values that look like
secrets are therefore refused before any part of the spec is written, and never quoted. Keys come
from the environment of the command that runs the campaign.

Covered: duplicate keys; YAML's readings of plain words (`on`, `no`, `12:30` and `2026-01-31` stay
text, and a number with a leading zero is refused); tags, sets and other types; keys that are not
text; text whose aliases expand to far more than its size. Fields whose name suggests a key, token,
password or authorization header; values that look like a provider's key, a token, or a URL with a
password; webhook addresses whose path or query is the secret.
Not covered: a secret that looks like an ordinary word, in a field whose name does not suggest one.
"""

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from aarlab.agents.language.redaction import LOOKS_SECRET
from aarlab.core.errors import Fault

MAX_TEXT = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 60
MAX_DIGITS = 100
LONG_PART = 16
SHOWN = 60
WRONG = "aarlab_wrong"
Place = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """A loader that resolves plain words as YAML 1.2 does and reads everything else as text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the name is the base class's


def _plain(name: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + name, re.compile(pattern), list(first))


_plain("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_plain("int", r"^[-+]?(?:[0-9](?:_?[0-9])*|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789")
_plain(
    "float",
    r"^[-+]?(?:(?:[0-9](?:_?[0-9])*)?\.[0-9]+|[0-9](?:_?[0-9])*\.?)(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
    "-+0123456789.",
)
_plain("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append((_TAG + "null", re.compile(r"^$")))
_plain("merge", r"^<<$", "<")


@dataclass(frozen=True, slots=True)
class SpecText:
    """The value of a spec and its source text. `node` is the YAML tree, None if there is none."""

    value: Any
    node: yaml.Node | None = None
    text: str = ""

    def line(self, place: Sequence[str | int]) -> int:
        return line_of(self.node, place)


def read_yaml(raw: bytes | str) -> SpecText | list[Fault]:
    """Parse a spec into its value and YAML tree, or return the faults of the text."""
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1 if isinstance(raw, bytes) else 0
        return [Fault(line, "not UTF-8: save the file as UTF-8", quotable=False)]
    if len(text) > MAX_TEXT:
        return [Fault(0, f"a spec has at most {MAX_TEXT:,} characters")]
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:  # its own text quotes the line
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "it cannot be parsed"
        return [Fault(mark.line + 1 if mark else 0, f"not YAML: {said}")]
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        return [Fault(line, f"not YAML: the character {error.character!r} is not allowed")]
    except RecursionError:
        return [Fault(0, f"not YAML: nested more than {MAX_DEPTH} deep")]
    reader = _Reader()
    value = None if node is None else reader.value(node, 0)
    return reader.faults or SpecText(value, node, text)


class _Reader:
    """Converter of a YAML tree into plain values that collects faults for unsupported nodes."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._nodes = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            if not self.faults:
                self._fault(node, "this expands to too much: nested too deep, or too many aliases")
            return None
        if not node.tag.startswith(_TAG) or node.tag.removeprefix(_TAG) not in _KNOWN_TAGS:
            tag = node.tag.removeprefix(_TAG)
            return self._fault(
                node,
                f"the YAML type {tag!r} is not allowed: write text, numbers, lists or mappings",
            )
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, depth + 1) for each in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge" and isinstance(key, yaml.ScalarNode):
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in parts:
                    if isinstance(part, yaml.MappingNode):
                        merged = {**self.value(part, depth + 1), **merged}
                    else:
                        self._fault(key, "`<<` merges mappings, and this is not one")
            elif not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                said = "a list or mapping"
                if isinstance(key, yaml.ScalarNode):
                    said = f"{key.value[:SHOWN]!r}; put it in quotes if it is a name"
                self._fault(key, f"keys are text, and this is {said}")
            elif key.value in own:
                self._fault(key, f"`{key.value[:SHOWN]}` is given twice; keep one")
            else:
                own[key.value] = self.value(value, depth + 1)
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        try:
            if kind == "bool":
                return text.lower() == "true"
            if kind == "null":
                return None
            if kind == "float":
                shown = text.lower().replace("_", "")
                return float(shown.replace(".inf", "inf").replace(".nan", "nan"))
            if kind == "int":
                return self._integer(node, text.replace("_", ""))
        except ValueError:  # `!!int word`
            return self._fault(node, f"{text[:SHOWN]!r} is not of the YAML type {kind}")
        return text

    def _integer(self, node: yaml.Node, text: str) -> int | None:
        digits = text.lstrip("+-")
        if len(digits) > MAX_DIGITS:
            self._fault(node, f"a number has at most {MAX_DIGITS} digits")
            return None
        if re.fullmatch(r"0[0-9]+", digits):
            fixed = digits.lstrip("0") or "0"
            said = f"a leading zero makes it octal for some programs; write {fixed}, or 0o... "
            self._fault(node, f"{text} is not clear: {said}for octal")
            return None
        return int(text, 0)

    def _fault(self, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(node.start_mark.line + 1, message))


_KNOWN_TAGS = ("str", "int", "float", "bool", "null", "seq", "map")


def line_of(node: yaml.Node | None, place: Sequence[str | int]) -> int:
    """Return the 1-based line of the deepest part of `place` in the text, or 0 if there is none."""
    line = 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


# ---------------------------------------------------------------- words for what does not fit
def wrong(said: str, *place: str | int) -> PydanticCustomError:
    """Return an error for a validator to raise, with a place below the model being validated."""
    return PydanticCustomError(WRONG, "{said}", {"said": said, "place": place})


def faults_of(
    error: ValidationError, model: type[BaseModel], text: SpecText, below: Place = ()
) -> list[Fault]:
    """List the faults of a validation error in the spec's own terms, without duplicates.

    `below` is the place of the model in the spec.
    """
    found: dict[tuple[Place, str], Fault] = {}
    for item in error.errors(include_url=False):
        place = below + item["loc"] + tuple(item.get("ctx", {}).get("place", ()))
        named = ".".join(str(part) for part in place if not _is_internal(part))
        message = _message(dict(item), model)
        line = text.line(place)
        found.setdefault((place, message), Fault(line, f"{named}: {message}" if named else message))
    return list(found.values())


def _is_internal(part: str | int) -> bool:
    """Return whether pydantic added this part for a branch of a union (`function-before[...]`)."""
    return isinstance(part, str) and "[" in part


def _message(item: dict[str, Any], model: type[BaseModel]) -> str:
    kind, context, given = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "extra_forbidden":
        return _unknown_field(item["loc"], model)
    if kind == "missing":
        return "is missing"
    if kind == WRONG:
        return str(context["said"])
    if kind == "value_error":
        return str(item["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        known = [str(one) for one in _literals(item["loc"], model)] or [context["expected"]]
        return f"is {_shown(given)}; there are {', '.join(known)}{nearest(str(given), known)}"
    wanted = _wanted(kind, context)
    return f"must be {wanted}" if given is None else f"must be {wanted}, and is {_shown(given)}"


def _wanted(kind: str, context: dict[str, Any]) -> str:
    """Describe the values that a field accepts."""
    numbers = {
        "greater_than": ("above", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("below", "lt"),
        "less_than_equal": ("at most", "le"),
    }
    if kind in numbers:
        words, key = numbers[kind]
        return f"{words} {context[key]:,}"
    if kind == "string_pattern_mismatch":
        if "a-z0-9" in context.get("pattern", ""):
            return "made of a-z, 0-9, `_`, `.` and `-`, start with a letter or digit, and be short"
        return f"of the form {context.get('pattern')}"
    if kind in ("too_short", "string_too_short"):
        return f"at least {context.get('min_length', 1)} long"
    if kind in ("too_long", "string_too_long"):
        return f"at most {context.get('max_length')} long"
    return _KINDS.get(kind, f"something else ({kind.replace('_', ' ')})")


_KINDS = {
    "finite_number": "a finite number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number, and a smaller one",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (`name: value`)",
    "model_type": "a mapping (`name: value`)",
    "model_attributes_type": "a mapping (`name: value`)",
}


def _shown(given: Any) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, dict | list):
        return "a mapping" if isinstance(given, dict) else "a list"
    text = repr(given) if isinstance(given, str) else str(given)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def nearest(given: str, known: Sequence[str]) -> str:
    """Return `; did you mean NAME?` if one of the known names is similar, else an empty string."""
    found = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else ""


def _unknown_field(place: Sequence[str | int], model: type[BaseModel]) -> str:
    fields = [
        name
        for each in _types_at(place[:-1], model)
        if isinstance(each, type) and issubclass(each, BaseModel)
        for name in each.model_fields
    ]
    near = nearest(str(place[-1]), fields)
    known = "" if near or not fields else f"; there are {', '.join(fields)}"
    return f"is not a field{near}{known}"


def _literals(place: Sequence[str | int], model: type[BaseModel]) -> list[Any]:
    return [
        one
        for each in _types_at(place, model)
        if get_origin(each) is Literal
        for one in get_args(each)
    ]


def _types_at(place: Sequence[str | int], model: Any) -> list[Any]:
    """List the types that the schema allows at a place: models, literals and others."""
    at = [model]
    for part in place:
        if _is_internal(part):
            continue
        at = [inner for each in at for inner in _inside(each, part)]
    return at


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if isinstance(part, str) and part in kind.model_fields:
            yield from _bare(kind.model_fields[part].annotation)
    elif get_origin(kind) in (list, tuple, dict):
        yield from _bare(get_args(kind)[-1 if get_origin(kind) is dict else 0])


def _bare(annotation: Any) -> Iterator[Any]:
    """Yield the type without `Annotated`, and each branch of a union separately."""
    if hasattr(annotation, "__metadata__"):
        yield from _bare(annotation.__origin__)
    elif get_origin(annotation) in (Union, types.UnionType):
        for branch in get_args(annotation):
            yield from _bare(branch)
    else:
        yield annotation


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
    r"|\bhooks\.slack\.com/(?:services|workflows|triggers)/\S+"
    r"|\bdiscord(?:app)?\.com/api/webhooks/\S+"
    r"|\bwebhook\.office\.com/\S+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(?i:\b(?:basic|bearer|token)\s+(?=\S*[0-9])[A-Za-z0-9+/_=.-]{16,})"
    r"|(?i:[?&](?:api_?key|key|token|access_token|sig|signature|secret)=\S{4,})"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{6,}"
)
# Numbers of tokens and the like: fields of the spec itself, by their full names.
_KNOWN = frozenset(("tokens", "context_tokens", "max_output_tokens", "max_tokens", "budget_tokens"))
WHERE = "a spec is published with its campaign; keys belong in the environment of the command"


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
    elif isinstance(value, str) and place == ("notify", "url") and _has_secret_part(value):
        yield place, "has a secret part; set AARLAB_NOTIFY_URL instead"


def _looks_secret(text: str) -> bool:
    return bool(LOOKS_SECRET.search(text) or _VALUE.search(text))


def _has_secret_part(url: str) -> bool:
    """Return whether an address holds what may be a secret.

    That is a user, a query, a fragment, or a long part of the path with letters and digits.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    if "@" in parts.netloc or parts.query or parts.fragment:
        return True
    return any(
        len(part) >= LONG_PART and re.search("[0-9]", part) and re.search("[A-Za-z]", part)
        for part in parts.path.split("/")
    )


def is_local(host: str) -> bool:
    """Return whether a host's name is one of this machine's own."""
    return host in ("localhost", "127.0.0.1", "::1")


def address_fault(url: str) -> str | None:
    """Return why nothing can be sent to an address, without quoting it; None if it can be used."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is not an address"
    if not host or not url.isprintable() or " " in url:
        return "is not an address of the form https://HOST/PATH"
    if parts.scheme == "https" or (parts.scheme == "http" and is_local(host)):
        return None
    return "must begin with https:// (http:// only for this machine)"


def _names_secret(key: str) -> bool:
    flat = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).replace("-", "_").lower()
    return flat not in _KNOWN and bool(_NAME.search(flat))
