"""Who may import whom, read from the source: nothing here is executed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module of the service → the others it may import. `manifest` and `errors` lean on nothing; arrows only point up
# this table, so there are no circles.
SERVICE: dict[str, set[str]] = {
    "errors": set(),
    "problems": {"errors"},
    "manifest": set(),
    "batches": set(),
    "batch_queue": {"batches", "errors"},
    "averages": set(),
    "batch_runs": {"averages", "batch_queue", "batches", "errors"},
    "batching": {"batch_queue", "batch_runs", "batches", "errors"},
    "in_flight": {"errors"},
    "heartbeat": set(),
    "timings": set(),
    "static_files": set(),
    "version": set(),
    "logs": set(),
    "metrics": {"batches"},
    "observation": {"logs", "metrics", "timings"},
    "bodies": {"errors"},
    "heap": {"bodies"},
    "keys": {"errors"},
    "connections": set(),
    "uploads": {"bodies", "errors"},
    "workers": {"averages", "errors"},
    "images": {"errors", "manifest"},
    "settings": {"errors", "images", "manifest"},
    "schemas": {"manifest"},
    "checksums": {"errors"},
    "artifacts": {"checksums", "errors", "manifest"},
    "cuda_driver": set(),
    "engine_thread": {"errors"},
    "bindings": set(),
    "providers": {"cuda_driver", "errors", "manifest"},
    "graph": {"artifacts", "errors", "manifest"},
    "engine": {"artifacts", "bindings", "engine_thread", "errors", "graph", "manifest", "providers"},
    "preparing": {"errors", "images", "manifest", "uploads", "workers"},
    "models": {"artifacts", "batching", "engine", "errors", "manifest", "metrics", "providers", "settings"},
    "admission": {"batch_queue", "bodies", "errors", "in_flight", "models", "settings", "timings", "workers"},
    "pipeline": {
        "admission",
        "batch_queue",
        "batches",
        "errors",
        "images",
        "manifest",
        "models",
        "preparing",
        "settings",
        "timings",
        "uploads",
        "workers",
    },
    "answers": {"images", "manifest", "pipeline"},
    "open_inference": {
        "admission",
        "bodies",
        "graph",
        "errors",
        "manifest",
        "models",
        "pipeline",
        "schemas",
        "timings",
        "uploads",
        "version",
    },
    "routes": {
        "admission",
        "answers",
        "errors",
        "metrics",
        "open_inference",
        "pipeline",
        "problems",
        "schemas",
        "static_files",
        "timings",
        "uploads",
    },
    "app": {
        "admission",
        "bodies",
        "errors",
        "heap",
        "keys",
        "logs",
        "metrics",
        "models",
        "observation",
        "pipeline",
        "problems",
        "providers",
        "routes",
        "settings",
        "static_files",
        "timings",
        "version",
        "workers",
    },
    "listeners": {"errors", "settings"},
    "server": {"app", "connections", "errors", "heartbeat", "listeners", "logs", "metrics", "pipeline", "settings"},
    "__main__": {"server"},
}

# What a module may not know of, to stay what it is.
FOREIGN: dict[str, set[str]] = {
    "errors": {"fastapi", "starlette", "numpy", "onnxruntime"},
    "manifest": {"fastapi", "starlette", "numpy", "onnxruntime", "onnx"},
    "batches": {"asyncio", "fastapi", "starlette", "numpy", "onnxruntime", "uvicorn"},
    "batch_queue": {"fastapi", "starlette", "numpy", "onnxruntime", "uvicorn"},
    "batch_runs": {"fastapi", "starlette", "numpy", "onnxruntime", "uvicorn"},
    "batching": {"fastapi", "starlette", "numpy", "onnxruntime", "uvicorn"},
    "engine": {"fastapi", "starlette", "PIL", "uvicorn"},
    "images": {"fastapi", "starlette", "onnxruntime", "asyncio"},
    "open_inference": {"fastapi", "onnxruntime", "PIL", "uvicorn"},
    "routes": {"onnxruntime", "numpy", "PIL"},
}

NEVER_SERVED = {"torch", "torchvision", "onnx", "onnxscript", "training", "tests"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path: Path) -> str:
    """`engine` for service/engine.py, `images` for anything in service/images/."""
    return path.relative_to(ROOT / "service").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources("service"), ids=str)
def test_the_service_never_reaches_training(path: Path) -> None:
    assert not {name for name in imports(path) if name.partition(".")[0] in NEVER_SERVED}


@pytest.mark.parametrize("path", sources("training"), ids=str)
def test_training_never_reaches_the_service(path: Path) -> None:
    assert not {name for name in imports(path) if name.partition(".")[0] in {"service", "tests"}}


@pytest.mark.parametrize("path", [p for p in sources("service") if p != ROOT / "service/__init__.py"], ids=str)
def test_the_service_leans_one_way(path: Path) -> None:
    module = module_of(path)
    assert module in SERVICE, f"say in this file what service.{module} may import"
    own = {name.split(".")[1] for name in imports(path) if name.startswith("service.")} - {module}
    assert own <= SERVICE[module], f"service.{module} imports {sorted(own - SERVICE[module])}"
    foreign = {name.partition(".")[0] for name in imports(path)} & FOREIGN.get(module, set())
    assert not foreign, f"service.{module} imports {sorted(foreign)}"


def test_the_table_has_no_circles_and_no_ghosts() -> None:
    seen: set[str] = set()
    for module, others in SERVICE.items():
        assert others <= seen, f"{module} leans on what stands below it"
        seen.add(module)
    assert seen == {module_of(path) for path in sources("service")} - {"__init__"}


@pytest.mark.parametrize("path", sources("service") + sources("training"), ids=str)
def test_nothing_is_read_at_import(path: Path) -> None:
    """No module reads the environment, parses arguments or opens a file while it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_import: list[ast.AST] = list(tree.body)
    while at_import:
        node = at_import.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"os.environ", "sys.argv"}, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            assert called not in {"open", "getenv", "read_text", "read_bytes", "parse_args"}, f"{path}:{node.lineno}"
        at_import.extend(ast.iter_child_nodes(node))
