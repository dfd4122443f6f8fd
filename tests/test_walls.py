"""The walls between the rooms: who may import whom. `docs/architecture.md` draws the picture."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from jackpot.settings import SETTINGS

ROOT = Path(__file__).parents[1]
PROGRAMS = ("trainer", "explorer", "mlflow_server")
HOUSE = ("jackpot", *PROGRAMS)
# A room of the trainer may import the rooms that it names, and nothing of the others.
WALLS = {
    "jackpot": set(),
    "mlflow_server": {"jackpot"},
    "explorer": {"jackpot"},
    "trainer.keras_internals": set(),
    "trainer.networks": {"jackpot", "trainer.keras_internals"},
    "trainer.datasets": {"jackpot", "trainer.keras_internals"},
    "trainer.pruning": {"jackpot", "trainer.keras_internals"},
    # Names of networks, datasets and pruners are checked when a config is read: it needs the
    # registries, which cost no torch.
    "trainer.study": {"jackpot", "trainer.networks", "trainer.datasets", "trainer.pruning"},
}
WALLS["trainer.training"] = WALLS["trainer.study"] | {"trainer.study", "trainer.keras_internals"}
WALLS["trainer.store"] = WALLS["trainer.study"] | {"trainer.study"}
WALLS["trainer.execution"] = WALLS["trainer.training"] | {"trainer.training", "trainer.store"}
WALLS["trainer.report"] = {"jackpot", "trainer.study", "trainer.execution"}
WALLS["trainer.launch"] = WALLS["trainer.execution"] | {"trainer.execution", "trainer.report"}
WALLS["trainer.cli"] = WALLS["trainer.landscape"] = WALLS["trainer.launch"] | {"trainer.launch"}
WALLS["trainer.export"] = WALLS["trainer.store"] | {"trainer.store", "trainer.keras_internals"}
WALLS["trainer.__main__"] = {"trainer.cli"}
WALLS["trainer"] = set()


def modules() -> dict[str, ast.Module]:
    found = {}
    for package in HOUSE:
        for file in (ROOT / package).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = ast.parse(file.read_text())
    return found


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere: lazily and for type hints too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "trainer" else parts[0]


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES}))
def test_a_room_imports_only_what_its_wall_lets_through(name: str):
    through = {
        other
        for module, tree in MODULES.items()
        if room(module) == name
        for other in map(room, imported(tree))
        if other.split(".")[0] in HOUSE and other != name
    }
    assert through <= WALLS[name]


def test_every_room_has_a_wall_and_every_wall_a_room():
    assert set(WALLS) == {room(module) for module in MODULES}


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        module: {other for other in imported(tree) if other in MODULES and other != module}
        for module, tree in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_library_needs_four_packages():
    found = {
        other.split(".")[0]
        for module, tree in MODULES.items()
        if room(module) == "jackpot" and module not in ("jackpot.stores", "jackpot.schema")
        for other in imported(tree)
    }
    assert found - set(sys.stdlib_module_names) == {
        "jackpot",
        "numpy",
        "polars",
        "safetensors",
        "scipy",
    }


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import jackpot; from jackpot import *",
            ["keras", "torch", "mlflow", "streamlit", "sqlalchemy", "altair"],
        ),
        ("import trainer.study.config_file, trainer.study.plan", ["keras", "torch", "mlflow"]),
        ("import trainer.cli", ["keras", "torch", "mlflow", "polars", "numpy"]),
        ("import explorer.figures.by_learning_rate", ["streamlit", "mlflow", "torch", "keras"]),
    ],
)
def test_what_is_slow_to_import_is_not_imported(code: str, absent: list[str]):
    ask = f"{code}; import sys; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "home"),
    [("keras.src", "trainer.keras_internals"), ("mlflow", "jackpot.schema")],
)
def test_private_names_of_a_library_stand_in_one_module(package: str, home: str):
    public = {"mlflow", "mlflow.entities", "mlflow.exceptions", "mlflow.tracking"}
    for module, tree in MODULES.items():
        found = {
            name
            for name in imported(tree)
            if name == package or name.startswith(f"{package}.") or "._" in name
        }
        assert module == home or not found - public, f"{module} imports {found - public}"


def compared(node: ast.Compare) -> Iterator[str]:
    """Settings that a test for equality names: by a word, or by a row of the table."""
    if not isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
        return
    for side in (node.left, *node.comparators):
        inner = side.value if isinstance(side, ast.Attribute) and side.attr == "name" else side
        if isinstance(inner, ast.Constant) and inner.value in SETTINGS:
            yield inner.value
        elif isinstance(inner, ast.Name | ast.Attribute):
            name = inner.id if isinstance(inner, ast.Name) else inner.attr
            if name.isupper() and name.lower() in SETTINGS:
                yield name


def test_nothing_outside_the_table_asks_which_setting_it_has():
    """Rows say what distinguishes a setting. Frames may be filtered by the rows of one."""
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if module == "jackpot.settings" or not isinstance(node, ast.Compare):
                continue
            is_filter = ast.unparse(node.left) == "pl.col('setting')"
            assert is_filter or not list(compared(node)), f"{module}: {ast.unparse(node)}"
