"""The shape of the source: no import cycle, short chains, folders that can be looked through, a table that is true."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.paths import ROOT

PACKAGES = ("pipeline", "sim", "train", "flows")
MAX_CHAIN = 22
MAX_MODULES_IN_A_FOLDER = 20


@cache
def modules() -> dict[str, Path]:
    """Every module of the source by its dotted name; a package stands for its `__init__`."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(node: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Names that the code below a node imports; those of functions and type checkers only if `lazy`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (name.name for name in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{name.name}" for name in child.names)
        elif lazy or not (
            isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        ):
            yield from imported(child, lazy=lazy)


def graph(*, lazy: bool) -> dict[str, set[str]]:
    """What each module imports of ours."""
    edges = {}
    for name, file in modules().items():
        found = imported(ast.parse(file.read_text()), lazy=lazy)
        owners = (one if one in modules() else one.rpartition(".")[0] for one in found)
        edges[name] = {owner for owner in owners if owner in modules()} - {name}
    return edges


def test_no_import_cycle():
    """None, counting imports inside functions and for type checkers: `graphlib` raises on the first."""
    TopologicalSorter(graph(lazy=True)).prepare()


def test_chains_of_imports_are_short():
    """The longest chain of modules that load each other at import."""
    edges = graph(lazy=False)
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(edges).static_order():
        chains[name] = [name, *max((chains[one] for one in edges[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= MAX_CHAIN, " > ".join(longest)


def test_folders_can_be_looked_through():
    """No folder holds more modules than fit a screen."""
    folders = Counter(file.parent for file in modules().values() if file.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES_IN_A_FOLDER} == {}


def test_the_table_of_changes_names_files_that_exist():
    """docs/architecture.md, "To change X, go to Y": every path in the table is there."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("## To change something")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ") and not row.startswith("| to ")][1:]
    assert len(rows) >= 15
    for row in rows:
        paths = re.findall(r"`([\w./-]+/[\w./-]*)`", row)
        assert paths, row
        assert [path for path in paths if not (ROOT / path).exists()] == []
