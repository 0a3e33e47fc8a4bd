"""Imports run downwards only, without circles, at the top of each module."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the bottom up; docs/design.md draws the same picture.
LAYERS = (
    *(
        "errors",
        "parameters",
        "console",
        "interruption",
        "machine",
        "workers",
        "files",
        "checksums",
        "settings",
        "records",
    ),
    *("corpus", "engine", "models", "benchmarks", "objectives", "training"),
    *("evaluation", "report", "compression", "publish", "inference", "reproduce", "bench", "cli"),
)
# A bench worker loads what it measures and nothing else; compiled loops do without a numba that cannot be imported.
MAY_DELAY = ("compact_biomed.cli", "compact_biomed.bench.inference_worker", "compact_biomed.engine.compiled")
# Packages that are imported where they are used: optional ones, and those that may fail or must come late.
DELAYED = {
    "numba",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pandas",
    "pubmed_parser",
    "scipy",
    "textbrewer",
    "threadpoolctl",
    "torch",
}


def modules() -> dict[str, ast.Module]:
    files = [path for path in (ROOT / "compact_biomed").rglob("*.py") if "standalone" not in path.parts]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files)
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in zip(names, files, strict=True)}


MODULES = modules()


def imported(tree: ast.Module) -> set[str]:
    """Modules of the package that a module imports, at its top or anywhere in it."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(node.module and not node.level for node in nodes), "imports name the whole module"
    names |= {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} & set(MODULES)


def layer(module: str) -> int:
    room = module.split(".")[1] if "." in module else ""
    return LAYERS.index(room) if room in LAYERS else -1  # the package's own face: version and public names


def test_every_module_is_in_a_layer() -> None:
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms - {"__main__"} == set(LAYERS)


def test_imports_run_downwards() -> None:
    upwards = [(a, b) for a, tree in MODULES.items() for b in imported(tree) if layer(b) > layer(a) and "." in a]
    assert [arrow for arrow in upwards if arrow[0] != "compact_biomed.__main__"] == []


def test_there_is_no_circle() -> None:
    below = {name: imported(tree) - {name, "compact_biomed"} for name, tree in MODULES.items()}
    while free := [name for name, arrows in below.items() if not arrows & below.keys()]:
        for name in free:
            del below[name]
    assert sorted(below) == []


def test_imports_are_delayed_in_the_command_line_only() -> None:
    late = []
    for name, tree in MODULES.items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in (node for function in functions for node in ast.walk(function)):
            if isinstance(node, ast.Import | ast.ImportFrom) and not name.startswith(MAY_DELAY):
                package = (getattr(node, "module", None) or node.names[0].name).partition(".")[0]
                if package not in DELAYED:
                    late.append((name, node.lineno, package))
    assert late == []


def test_no_block_for_types_alone_outside_the_command_line() -> None:
    blocks = [
        name
        for name, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    assert [name for name in blocks if not name.startswith("compact_biomed.cli")] == []
