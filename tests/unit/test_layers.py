"""The structure of the repository: who may import whom, where state may live, how long code may be."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ridges_proxy"

LAYERS = [
    {"errors"},
    {"runtime"},
    {"billing", "telemetry"},
    {"config", "auth"},
    {"ledger", "upstream"},
    {"calls", "server"},
    {"web"},
    {"cli"},
    {"__init__", "__main__"},
]
"""Bottom to top. A module imports from its own wing and from the layers below it."""

FAKE = "fake_chutes"
"""Imitates the upstream for the demo, the tests and the benchmarks. The service never imports it."""


IN_THE_ROOT = {"__init__.py", "__main__.py", "errors.py", "py.typed"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
LONGER_FILES = {
    "ridges_proxy/errors.py": 560,  # one tree, drawn and declared in one place: a table of short classes
}
"""The only files that may be longer, with their limit in lines."""

MUTABLE_CALLS = {"dict", "list", "set", "bytearray", "Counter", "OrderedDict", "defaultdict", "deque"}
MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_in(*folders: str) -> dict[str, Path]:
    paths = [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)  # bench/.peers
    ]
    return {module_of(path): path for path in paths}


MODULES = modules_in("ridges_proxy")
SERVICE = [name for name in MODULES if name.split(".")[1:2] != [FAKE]]
SERVER_FILES = [*MODULES.values(), ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"]


def source_of(path: Path, node: ast.ImportFrom) -> str:
    """The module that an import names; leading dots count folders upwards from the importing file."""
    if not node.level:
        return str(node.module)
    folder = path.parents[node.level - 1].relative_to(ROOT).parts
    return ".".join([*folder, *([node.module] if node.module else [])])


def imports_of(path: Path, known: Iterable[str]) -> Iterator[str]:
    """All modules that a file imports, those under TYPE_CHECKING included."""
    for source, name in import_names_of(path):
        # `from package import module` names the module, `from package import name` the package.
        full = f"{source}.{name}"
        yield full if full in known else source


@cache
def import_names_of(path: Path) -> tuple[tuple[str, str], ...]:
    """All imports of a file: the module that each names, and the name that it imports from there."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(source_of(path, node), alias.name) for alias in node.names]
    return tuple(found)


def own_imports_of(name: str) -> set[str]:
    found = set(imports_of(MODULES[name], MODULES))
    return {target for target in found if target.split(".")[0] == PACKAGE.name}


def libraries_of(name: str) -> set[str]:
    return {target.split(".")[0] for target in imports_of(MODULES[name], MODULES)}


def wing_of(name: str) -> str:
    """The part of the package that a module belongs to: `ledger` for `ridges_proxy.ledger.memory`."""
    inside = name.partition(".")[2]
    return inside.split(".")[0] or "__init__"


def layer_of(wing: str) -> int:
    found = [index for index, layer in enumerate(LAYERS) if wing in layer]
    assert found, f"{wing} has no place in LAYERS"
    return found[0]


def may_import(name: str, target: str) -> bool:
    wing, other = wing_of(name), wing_of(target)
    return wing == other or layer_of(other) < layer_of(wing)


# --- who imports whom --------------------------------------------------------------------------------------


def test_the_root_of_the_package_has_the_wings_and_four_files_only() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    wings = {wing_of(name) for name in SERVICE} - {"__init__", "__main__", "errors"}

    assert files == IN_THE_ROOT
    assert wings == {wing for layer in LAYERS for wing in layer} - {"__init__", "__main__", "errors"}


def test_a_module_imports_only_from_its_wing_and_the_layers_below() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in SERVICE
        for target in own_imports_of(name)
        if wing_of(target) != FAKE and not may_import(name, target)
    ]

    assert wrong == []


def test_every_own_import_is_of_a_module_that_exists() -> None:
    missing = {name: found for name in MODULES if (found := own_imports_of(name) - MODULES.keys())}

    assert missing == {}


def test_the_service_and_the_fake_chutes_do_not_import_each_other() -> None:
    mixed = [
        f"{name} imports {target}"
        for name in MODULES
        for target in own_imports_of(name)
        if (wing_of(name) == FAKE) != (wing_of(target) == FAKE)
    ]

    assert mixed == []


@pytest.mark.parametrize(
    "folders", [("ridges_proxy",), ("bench",), ("tests",), ("bench", "tests")], ids="-".join
)
def test_no_imports_go_in_a_circle(folders: tuple[str, ...]) -> None:
    modules = modules_in(*folders)
    graph = {
        name: {target for target in imports_of(path, modules) if target in modules} - {name}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' < '.join(error.args[1])}")


def test_only_the_named_wings_know_a_library() -> None:
    allowed = {
        "requests": {"upstream"},
        "urllib3": {"upstream"},
        "flask": {"web", "cli", "__init__"},  # __init__ names Flask in a type only
        "flask_cors": {"web", "cli"},
        "werkzeug": {"web", "cli"},
    }
    users = {
        library: {wing_of(name) for name in SERVICE if library in libraries_of(name)} for library in allowed
    }

    outside = {library: found for library, wings in users.items() if (found := wings - allowed[library])}

    assert outside == {}
    assert users["requests"], "the search finds what is there"
    assert users["flask"]


def test_only_the_settings_read_the_environment() -> None:
    readers = {
        wing_of(name)
        for name in SERVICE
        for node in ast.walk(tree_of(MODULES[name]))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    assert readers <= MAY_READ_THE_ENVIRONMENT.keys()


MAY_READ_THE_ENVIRONMENT = {
    "config": "reads the settings",
    "cli": "the demo hands its environment on to the processes that it starts",
    "server": "prometheus-client and gunicorn take values from the environment only",
}


# --- state -------------------------------------------------------------------------------------------------


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import, outside functions and classes."""
    for statement in body:
        yield statement
        for block in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from module_level(getattr(statement, block, []))


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name in MUTABLE_CALLS
    return isinstance(value, MUTABLE_DISPLAYS)


def mutable_names(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for statement in module_level(tree.body):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign | ast.AugAssign):
            targets = [statement.target]
        if targets and is_mutable(getattr(statement, "value", None)):
            found += [ast.unparse(target) for target in targets]
    return [name for name in found if name != "__all__" and name != name.upper()]


def rebound_names(tree: ast.Module) -> list[str]:
    """Names of the module that its functions rebind."""
    return [name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]


@pytest.mark.parametrize("search", [mutable_names, rebound_names])
def test_a_module_keeps_no_state(search: Callable[[ast.Module], list[str]]) -> None:
    found = {name: names for name, path in MODULES.items() if (names := search(tree_of(path)))}

    assert found == {}


def test_the_search_for_state_finds_it() -> None:
    table = {
        "runs = {}": ["runs"],
        "_runs: dict[str, int] = {}": ["_runs"],
        "a = b = []": ["a", "b"],
        "seen = {1}": ["seen"],
        "counts = collections.Counter()": ["counts"],
        "books = OrderedDict()": ["books"],
        "squares = [n * n for n in x]": ["squares"],
        "if x:\n    cache = dict()": ["cache"],
        "try:\n    pass\nexcept E:\n    cache = set()": ["cache"],
        "RUNS = {}\n_BY_STATUS: dict = {}\n__all__ = ['a']": [],
        "logger = getLogger()\npair = (1, 2)\nwords = frozenset({1})": [],
        "def f():\n    found = []\nclass C:\n    x = []": [],
    }

    assert {source: mutable_names(ast.parse(source)) for source in table} == table


# --- size --------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_file_is_short() -> None:
    limits = {path: LONGER_FILES.get(str(path.relative_to(ROOT)), MAX_FILE_LINES) for path in SERVER_FILES}
    long = {path.name: lines_of(path) for path, limit in limits.items() if lines_of(path) > limit}

    assert long == {}
    assert [name for name in LONGER_FILES if lines_of(ROOT / name) <= MAX_FILE_LINES] == []


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{path.name}:{node.lineno} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in SERVER_FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert long == []
