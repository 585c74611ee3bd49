"""Holds the layout: who may import whom, and how large a file and a function may be."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[2] / "ridges_proxy"
ROOT = PACKAGE.parent

LAYERS = [
    {"errors", "pricing", "pauses", "readiness", "kept_json", "content_length", "file_limit", "upgrade"},
    {
        "parsing",
        "env_file",
        "ledger_url",
        "run_tokens",
        "model_prices",
        "price_list",
        "rate_windows",
        "setting",
    },
    {"contradictions"},
    {"config"},
    {"ledger", "upstream", "telemetry", "reload"},
    {
        "chat",
        "embedding",
        "terms",
        "settlement",
        "estimate",
        "admission",
        "rate_limits",
        "bad_keys",
        "relay",
        "circuits",
    },
    {"calls", "gauges", "upkeep", "closing"},
    {"web"},
    {"cli", "demo", "__init__"},
]
"""Bottom to top. A module imports from its own layer and from those below."""

MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 40
LONGER_FILES = {
    "ridges_proxy/errors.py": 450,  # one tree, drawn and declared in one place: a table of short classes
    "ridges_proxy/config.py": 420,  # one table of settings, and the reading of it
}
"""The few that may be longer, and up to what; whoever gets short again leaves this table."""

MUTABLE_CALLS = {"dict", "list", "set", "bytearray", "Counter", "OrderedDict", "defaultdict", "deque"}
MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)

STAND_IN = "ridges_proxy.stand_in"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
SERVICE = [name for name in MODULES if not (name + ".").startswith(STAND_IN + ".")]
SERVER_FILES = [*MODULES.values(), ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"]


def source_of(name: str, node: ast.ImportFrom) -> str:
    """The module that an import takes its names from; dots lead up from the module that holds it."""
    if not node.level:
        return str(node.module)
    is_package = MODULES[name].name == "__init__.py"
    parents = name.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports_of(name: str) -> Iterator[str]:
    """All modules that a module names in its imports, those for type checking included."""
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = source_of(name, node)
            for alias in node.names:
                # `from package import module` names the module, `from package import name` the package.
                full = f"{source}.{alias.name}"
                yield full if full in MODULES else source


def own_imports_of(name: str) -> set[str]:
    return {target for target in imports_of(name) if target.split(".")[0] == PACKAGE.name}


def component_of(name: str) -> str:
    """The part of the service that a module belongs to: `ledger` for `ridges_proxy.ledger.memory`."""
    return name.split(".")[1] if "." in name else "__init__"


def layer_of(name: str) -> int:
    found = [index for index, layer in enumerate(LAYERS) if component_of(name) in layer]
    assert found, f"{name} has no place in LAYERS: give it one"
    return found[0]


# --- who imports whom --------------------------------------------------------------------------------------


def test_the_service_is_all_here() -> None:
    assert {component for layer in LAYERS for component in layer} <= {component_of(name) for name in SERVICE}
    assert "requests" in set(imports_of("ridges_proxy.upstream.transport"))
    assert "flask" in set(imports_of("ridges_proxy"))


@pytest.mark.parametrize("name", SERVICE)
def test_a_module_imports_only_from_its_layer_and_below(name: str) -> None:
    upwards = [target for target in own_imports_of(name) if layer_of(target) > layer_of(name)]

    assert upwards == []


@pytest.mark.parametrize("name", SERVICE)
def test_every_own_import_is_of_a_module_that_exists(name: str) -> None:
    assert own_imports_of(name) <= MODULES.keys()


@pytest.mark.parametrize("name", SERVICE)
def test_the_service_does_not_import_the_stand_in(name: str) -> None:
    assert [target for target in own_imports_of(name) if target.startswith(STAND_IN)] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name not in SERVICE])
def test_the_stand_in_imports_nothing_of_the_service(name: str) -> None:
    assert [target for target in own_imports_of(name) if not target.startswith(STAND_IN)] == []


def test_no_imports_go_in_a_circle() -> None:
    graph = {name: own_imports_of(name) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' < '.join(error.args[1])}")


@pytest.mark.parametrize("name", SERVICE)
def test_only_the_upstream_knows_requests(name: str) -> None:
    libraries = {target.split(".")[0] for target in imports_of(name)} & {"requests", "urllib3"}

    assert not libraries or component_of(name) == "upstream"


@pytest.mark.parametrize("name", SERVICE)
def test_only_the_web_the_command_line_and_the_factory_know_flask(name: str) -> None:
    libraries = {target.split(".")[0] for target in imports_of(name)} & {"flask", "werkzeug", "flask_cors"}

    assert not libraries or component_of(name) in {"web", "cli", "__init__"}


@pytest.mark.parametrize("name", SERVICE)
def test_only_the_settings_read_the_environment(name: str) -> None:
    reads = {
        node.attr
        for node in ast.walk(tree_of(MODULES[name]))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    assert not reads or component_of(name) in {"config", "demo"}, "the demo hands it on to what it starts"


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


@pytest.mark.parametrize("path", MODULES.values(), ids=module_of)
def test_a_module_keeps_no_state(path: Path) -> None:
    assert mutable_names(tree_of(path)) == []


@pytest.mark.parametrize("path", MODULES.values(), ids=module_of)
def test_no_function_rebinds_a_name_of_its_module(path: Path) -> None:
    assert [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Global)] == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("runs = {}", ["runs"]),
        ("_runs: dict[str, int] = {}", ["_runs"]),
        ("a = b = []", ["a", "b"]),
        ("seen = {1}", ["seen"]),
        ("counts = collections.Counter()", ["counts"]),
        ("books = OrderedDict()", ["books"]),
        ("squares = [n * n for n in x]", ["squares"]),
        ("if x:\n    cache = dict()", ["cache"]),
        ("try:\n    pass\nexcept E:\n    cache = set()", ["cache"]),
        ("RUNS = {}\n_BY_STATUS: dict = {}\n__all__ = ['a']", []),
        ("logger = getLogger()\npair = (1, 2)\nwords = frozenset({1})", []),
        ("def f():\n    found = []\nclass C:\n    x = []", []),
    ],
)
def test_the_search_for_state_finds_it(source: str, names: list[str]) -> None:
    assert mutable_names(ast.parse(source)) == names


# --- size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SERVER_FILES, ids=lambda path: path.name)
def test_a_file_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= LONGER_FILES.get(str(path.relative_to(ROOT)), MAX_FILE_LINES)


@pytest.mark.parametrize("name", LONGER_FILES)
def test_a_file_that_may_be_longer_is(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES


@pytest.mark.parametrize("path", SERVER_FILES, ids=lambda path: path.name)
def test_a_function_is_below_a_screen(path: Path) -> None:
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert long == []
