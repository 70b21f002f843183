"""How the source is cut, and how many files one change touches: one or more versions side by side.

    python benchmarks/house.py 219c02c HEAD --suite 219c02c=740 --suite HEAD=459

Each version is a commit of this repository. Everything is counted from the source by its syntax
trees, nothing is run. Seconds of the default test suite are measured by hand on one machine and
given with `--suite`. Figures: benchmarks/house.md.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

HERE = Path(__file__).resolve().parent
PACKAGE = "src/aarlab/"
SHORT = 6  # lines of a helper that is called once and may say no more than its body
MOST_INPUTS = 6


@dataclass
class Tree:
    """The Python files of one version, by path from the root of the repository."""

    texts: dict[str, str]
    trees: dict[str, ast.Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trees = {path: ast.parse(text) for path, text in self.source()}

    def source(self) -> Iterator[tuple[str, str]]:
        """Yield the modules of the package; a file without a statement is not one."""
        for path, text in self.texts.items():
            if path.startswith(PACKAGE) and path.endswith(".py") and text.strip():
                yield path, text

    def naming(self, pattern: str, outside: str = "") -> list[str]:
        """Return the modules in which `pattern` stands, but for those under `outside`."""
        found = re.compile(pattern)
        return [
            path
            for path, text in self.source()
            if found.search(text) and not (outside and re.search(outside, path))
        ]


def tree_of(version: str) -> Tree:
    archive = subprocess.run(
        ["git", "archive", version, "src"], cwd=HERE.parent, check=True, capture_output=True
    ).stdout
    texts = {}
    with tarfile.TarFile(fileobj=io.BytesIO(archive)) as files:
        for entry in files:
            if entry.isfile() and entry.name.endswith(".py"):
                content = files.extractfile(entry)
                assert content is not None
                texts[entry.name] = content.read().decode("utf-8")
    return Tree(texts)


def functions(tree: Tree) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the functions of modules, not methods."""
    for path, module in tree.trees.items():
        for node in module.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def names_used(tree: Tree) -> Counter[str]:
    """Count how often each name is read, as a name or as an attribute, in the whole package."""
    used: Counter[str] = Counter()
    for module in tree.trees.values():
        for node in ast.walk(module):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used[node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[node.attr] += 1
    return used


def lengths(tree: Tree) -> list[int]:
    return [text.count("\n") for _, text in tree.source()]


def used_once(tree: Tree) -> float:
    """Return the share of module functions, decorated ones left out, that are read once."""
    used = names_used(tree)
    counts = [used[node.name] for _, node in functions(tree) if not node.decorator_list]
    return sum(count == 1 for count in counts) / len(counts)


def short_helpers(tree: Tree) -> int:
    """Count private module functions of at most SHORT lines that are read once."""
    used = names_used(tree)
    return sum(
        node.name.startswith("_")
        and used[node.name] == 1
        and (node.end_lineno or node.lineno) - node.lineno + 1 <= SHORT
        for _, node in functions(tree)
        if not node.decorator_list
    )


def many_inputs(tree: Tree) -> int:
    """Count functions and methods with more than MOST_INPUTS parameters, commands left out."""
    return sum(
        len(node.args.args) + len(node.args.kwonlyargs) > MOST_INPUTS
        for path, module in tree.trees.items()
        if "/cli/" not in path
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def tuples(tree: Tree) -> int:
    """Count parameters whose type is a tuple of different things."""
    return sum(
        _is_mixed(argument.annotation)
        for module in tree.trees.values()
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.args, *node.args.kwonlyargs)
    )


def _is_mixed(annotation: ast.expr | None) -> bool:
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Tuple):
        return False
    parts = [ast.unparse(part) for part in annotation.slice.elts]
    named = isinstance(annotation.value, ast.Name) and annotation.value.id == "tuple"
    return named and "..." not in parts and len(set(parts)) > 1


def circles(tree: Tree) -> int:
    """Count groups of modules that import each other, directly or through others."""
    names = {_dotted(path): path for path in tree.trees}
    order = {name: at for at, name in enumerate(names)}
    edges = [
        (order[name], order[target])
        for name, path in names.items()
        for target in _imports(tree.trees[path], names) - {name}
    ]
    graph = coo_matrix(([True] * len(edges), tuple(zip(*edges, strict=True))), [len(names)] * 2)
    _, group_of = connected_components(graph, connection="strong")
    return sum(size > 1 for size in Counter(group_of.tolist()).values())


def _dotted(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(module: ast.Module, names: dict[str, str]) -> set[str]:
    """Return what a module imports as it is loaded: not in functions, not for type checks alone."""
    found: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                full if (full := f"{node.module}.{alias.name}") in names else node.module
                for alias in node.names
            }
    return found & names.keys()


COUNTS: dict[str, Callable[[Tree], str]] = {
    "modules": lambda tree: f"{len(tree.trees)}",
    "lines": lambda tree: f"{sum(lengths(tree)):,}",
    "lines a module, mean": lambda tree: f"{sum(lengths(tree)) / len(lengths(tree)):.0f}",
    "module functions read once": lambda tree: f"{used_once(tree):.0%}",
    f"private helpers of at most {SHORT} lines read once": lambda tree: f"{short_helpers(tree)}",
    f"functions with more than {MOST_INPUTS} parameters": lambda tree: f"{many_inputs(tree)}",
    "parameters that are tuples of different things": lambda tree: f"{tuples(tree)}",
    "`# fmt: skip`": lambda tree: f"{sum(text.count('# fmt: skip') for _, text in tree.source())}",
    "circles of imports": lambda tree: f"{circles(tree)}",
}
# A built-in thing of each kind: the modules that name it are those a sibling of it would touch.
CHANGES: dict[str, tuple[str, str]] = {
    "a research problem (`pgr`, `ceiling`, outside the test bed)": (
        r"\bpgr\b|\bceiling\b",
        r"/testbed/",
    ),
    "an executor (`setpriv`, `bubblewrap`)": (r"\bsetpriv\b|\"bubblewrap\"|'bubblewrap'", ""),
    "a platform tool (`search_findings`)": (r"\bsearch_findings\b", ""),
    "an adaptation (`top_blocks`)": (r"\btop_blocks\b", ""),
    "a generated task (`chat`)": (r"[\"']chat[\"']|\bchat_", ""),
    "an audit (`fingerprint`)": (r"[\"']fingerprint[\"']", ""),
    "a method (`overlap_density`)": (r"\boverlap_density\b", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="+", help="commits of this repository")
    parser.add_argument("--suite", action="append", default=[], help="VERSION=SECONDS")
    given = parser.parse_args()
    trees = {version: tree_of(version) for version in given.versions}
    seconds = dict(one.rsplit("=", 1) for one in given.suite)
    rows = [[name, *(count(tree) for tree in trees.values())] for name, count in COUNTS.items()]
    rows.append(["default test suite, seconds", *(seconds.get(version, "-") for version in trees)])
    rows += [
        [f"modules that name {name}", *(f"{len(tree.naming(*where))}" for tree in trees.values())]
        for name, where in CHANGES.items()
    ]
    out = [f"| | {' | '.join(trees)} |", f"|---|{'---:|' * len(trees)}"]
    out += [f"| {' | '.join(row)} |" for row in rows]
    sys.stdout.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
