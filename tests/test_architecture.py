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
    "files": set(),
    "problems": {"errors"},
    "manifest": set(),
    "batches": set(),
    "batch_queue": {"batches", "errors"},
    "batch_runs": {"batch_queue", "batches", "errors"},
    "batching": {"batch_queue", "batch_runs", "batches", "errors"},
    "in_flight": {"errors"},
    "heartbeat": set(),
    "timings": set(),
    "reply": {"timings"},
    "static_files": set(),
    "version": set(),
    "logs": set(),
    "metrics": {"batches"},
    "observation": {"logs", "metrics", "timings"},
    "bodies": {"errors"},
    "heap": {"bodies"},
    "keys": {"errors", "files"},
    "answer_transport": set(),
    "unread_answers": set(),
    "answer_reader": {"answer_transport", "unread_answers"},
    "lingering": set(),
    "request_heads": set(),
    "request_parser": set(),
    "standard_streams": set(),
    "connections": {
        "answer_reader",
        "answer_transport",
        "errors",
        "lingering",
        "problems",
        "request_heads",
        "request_parser",
        "unread_answers",
    },
    "uploads": {"bodies", "errors"},
    "workers": {"errors"},
    "images": {"errors", "manifest"},
    "settings": {"errors", "images", "manifest"},
    "schemas": {"manifest"},
    "checksums": {"errors", "files"},
    "protobuf": set(),
    "artifacts": {"checksums", "errors", "files", "manifest", "protobuf"},
    "cuda_driver": set(),
    "engine_thread": {"errors"},
    "bindings": set(),
    "cores": set(),
    "providers": {"cores", "cuda_driver", "errors", "manifest"},
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
    "answers": {"images", "manifest", "pipeline", "reply"},
    "open_inference": {
        "admission",
        "bodies",
        "graph",
        "errors",
        "manifest",
        "models",
        "pipeline",
        "reply",
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
        "reply",
        "schemas",
        "static_files",
        "timings",
        "uploads",
    },
    "app": {
        "admission",
        "bodies",
        "cores",
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
    "server": {
        "app",
        "bodies",
        "connections",
        "errors",
        "heartbeat",
        "listeners",
        "logs",
        "metrics",
        "pipeline",
        "settings",
        "unread_answers",
        "standard_streams",
    },
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


# What reads the environment, the arguments or a file, or opens a model.
READING_CALLS = {"open", "read_text", "read_bytes", "getenv", "parse_args"}
READING_CALLS |= {"Settings", "read_settings", "InferenceSession"}
READING_NAMES = {"os.environ", "os.environb", "sys.argv"}


def read_at_import(source: str) -> list[str]:
    """What a module reads while it is imported: each as its line and its words."""
    found = []
    at_import: list[ast.AST] = list(ast.parse(source).body)
    while at_import:
        node = at_import.pop()
        if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            continue
        if reads(node):
            found.append(f"{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")
        at_import.extend(run_at_import(node))
    return found


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs with a node: all that is in it; of a function everything but its body, which runs when it is called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from node.decorator_list
        yield node.args  # the defaults and the annotations
        if node.returns is not None:
            yield node.returns
    elif isinstance(node, ast.Lambda):
        yield node.args
    else:
        yield from ast.iter_child_nodes(node)


def reads(node: ast.AST) -> bool:
    """Whether this very node reads, or imports something to read under a name that would not be recognised here."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" or (
            node.module == "sys" and any(alias.name in {"argv", "*"} for alias in node.names)
        )
    if isinstance(node, ast.Import):
        return any(alias.name in {"os", "sys"} and alias.asname is not None for alias in node.names)
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in READING_NAMES
    return isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in READING_CALLS


@pytest.mark.parametrize("path", sources("service") + sources("training"), ids=str)
def test_nothing_is_read_at_import(path: Path) -> None:
    """No module reads the environment, parses arguments or opens a file while it is imported."""
    found = read_at_import(path.read_text(encoding="utf-8"))
    assert not found, f"{path}:{found[0]}"


@pytest.mark.parametrize(
    "source",
    [
        "import os\nHOME = os.environ['HOME']",
        "import os\nHOME = os.getenv('HOME')",
        "import os as system",
        "from os import environ",
        "from os import getenv as ask",
        "from sys import argv",
        "import sys\nNAME = sys.argv[0]",
        "options = parser.parse_args()",
        "TEXT = Path('a').read_text()",
        "with open('a') as file: pass",
        "class A:\n    text = Path('a').read_bytes()",
        "if debug:\n    open('a')",
        "settings = Settings()",
        "settings = service.settings.read_settings()",
        "session = ort.InferenceSession('a')",
        "def f(home=os.environ['HOME']): pass",
        "def f(*, settings=Settings()): pass",
        "async def f(settings=read_settings()): pass",
        "f = lambda settings=Settings(): settings",
        "@limited(Settings().max_pixels)\ndef f(): pass",
        "@limited(os.getenv('LIMIT'))\nclass A: pass",
        "class A:\n    @limited(Settings())\n    def f(self): pass",
        "def f(a: Annotated[int, Settings()]) -> None: pass",
        "def f() -> Annotated[int, Settings()]: pass",
    ],
)
def test_what_is_read_at_import_is_found(source: str) -> None:
    assert read_at_import(source)


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef home(): return os.environ['HOME']",
        "async def f(settings=None): return settings or Settings()",
        "f = lambda: open('a')",
        "class A:\n    def f(self): return Path('a').read_text()",
        "def f(session: ort.InferenceSession, settings: Settings) -> Settings: pass",
        "if __name__ == '__main__':\n    main(sys.argv)",
        "from sys import stdout",
    ],
)
def test_what_is_read_later_may_be(source: str) -> None:
    assert not read_at_import(source)
