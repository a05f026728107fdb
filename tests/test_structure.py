"""The shape of the source: rooms that stand on each other, each name in one place, nothing asked for its class."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.paths import ROOT

PACKAGES = ("pipeline", "sim", "train", "flows", "splatyard")
MAX_CHAIN = 30
"""Modules that need each other in turn, at import or later."""
LINES_OF_THE_LOOP = 250
LINES_OF_A_FUNCTION = 60
LINES_OF_A_MODULE, MAX_LONG_MODULES = 400, 8
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


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax of every module."""
    return {name: ast.parse(file.read_text()) for name, file in modules().items()}


@cache
def nodes() -> dict[str, tuple[ast.AST, ...]]:
    """Every node of the syntax of every module."""
    return {name: tuple(ast.walk(tree)) for name, tree in trees().items()}


@cache
def graph(*, lazy: bool) -> dict[str, set[str]]:
    """What each module imports of ours."""
    edges = {}
    for name, tree in trees().items():
        found = imported(tree, lazy=lazy)
        owners = (one if one in modules() else one.rpartition(".")[0] for one in found)
        edges[name] = {owner for owner in owners if owner in modules()} - {name}
    return edges


def test_no_import_cycle():
    """None, counting imports inside functions and for type checkers: `graphlib` raises on the first."""
    TopologicalSorter(graph(lazy=True)).prepare()


def test_chains_of_imports_are_short():
    """The longest chain of modules that need each other, counting imports inside functions."""
    edges = graph(lazy=True)
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(edges).static_order():
        chains[name] = [name, *max((chains[one] for one in edges[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= MAX_CHAIN, " > ".join(longest)


def test_rooms_stand_on_each_other():
    """No folder or loose file of a package imports one that needs it, directly or by others; at import or later.

    A package's face, its `__init__`, only hands names on.
    """
    rooms: dict[str, set[str]] = {}
    for name, others in graph(lazy=True).items():
        own = ".".join(name.split(".")[:2])
        found = {".".join(other.split(".")[:2]) for other in others}
        rooms.setdefault(own, set()).update(room for room in found - {own} if "." in room and "." in own)
    TopologicalSorter(rooms).prepare()


FAMILIES = (
    "Controller",
    "Scenario",
    "Learner",
    "ObservationGroup",
    "PhysicsEngine",
    "SimScene",
    "Saved",
    "Distribution",
)


def members() -> set[str]:
    """Names of the classes of our families: their subclasses, and these classes' own."""
    bases = {
        node.name: {base.id for base in map(unsubscripted, node.bases) if isinstance(base, ast.Name)}
        for found in nodes().values()
        for node in found
        if isinstance(node, ast.ClassDef)
    }
    family = set[str](FAMILIES)
    while more := {name for name, others in bases.items() if others & family} - family:
        family |= more
    return family - {"Distribution"}  # rsl-rl's


def unsubscripted(node: ast.expr) -> ast.expr:
    """`Scenario` of `Scenario[WalkState]`."""
    return node.value if isinstance(node, ast.Subscript) else node


def test_nothing_of_a_family_is_asked_which_one_it_is():
    """Not by isinstance; what differs is a method or an attribute. An argument that may be open already is no case."""
    asked = list[str]()
    family = members() - {"SimScene"}
    assert {"TrotController", "WalkScenario", "TD3", "FrozenFeatures", "SapienEngine", "CameraRig"} <= family
    for module, found in nodes().items():
        for node in found:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                kinds = {one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)}
                asked += [f"{module}:{node.lineno} {kind}" for kind in kinds & family]
    assert asked == []


LISTS = ("algorithm", "encoder", "engine", "robot", "task")


def test_no_name_of_a_list_is_compared_with():
    """Whoever wants to know what an algorithm or an encoder can do asks its entry."""
    compared = []
    for module, found in nodes().items():
        for node in found:
            if isinstance(node, ast.Compare):
                parts = [node.left, *node.comparators]
                texts = [part for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                names = {part.attr for part in parts if isinstance(part, ast.Attribute)}
                if names & set(LISTS) and texts and texts[0].value:
                    compared.append(f"{module}:{node.lineno}")
    assert compared == []


def test_algorithms_and_encoders_have_one_place():
    """Their names are in their list and nowhere else; some encoders have the name of what they read."""
    from train.settings.algorithms import ALGORITHMS
    from train.settings.encoders import ENCODERS

    names = {*ALGORITHMS, *ENCODERS} - {"gaussians", "none", "points", "truth", "voxels"}
    assert len(names) >= 10
    elsewhere = [
        f"{module}:{node.lineno} {node.value}"
        for module, found in nodes().items()
        for node in found
        if isinstance(node, ast.Constant) and node.value in names and not module.startswith("train.settings.")
    ]
    assert elsewhere == []


def test_the_environment_is_a_loop():
    """What is special has rooms of its own."""
    assert len((ROOT / "sim" / "env.py").read_text().splitlines()) <= LINES_OF_THE_LOOP


def test_functions_and_modules_are_short():
    """Kernels, which numba compiles whole, may have longer functions; a few modules are longer."""
    long, modules_ = list[str](), list[str]()
    for name, file in modules().items():
        if file.read_text().count("\n") > LINES_OF_A_MODULE:
            modules_.append(name)
        for node in nodes()[name]:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                kernel = re.search(r"njit|_compile|_inline", " ".join(map(ast.unparse, node.decorator_list)))
                if not kernel and (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION:
                    long.append(f"{name}.{node.name}")
    assert long == []
    assert len(modules_) <= MAX_LONG_MODULES, modules_


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
