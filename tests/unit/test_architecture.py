"""The house stays as it was drawn: imports point one way, libraries are quiet and documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    p for p in (ROOT / "captioner").rglob("*.py") if "pretrained" not in p.relative_to(ROOT).parts
)
SCRIPTS = sorted(ROOT.glob("*.py"))

LEAVES = {"config", "decoding", "files", "images", "metrics", "model", "text", "tokenizer"}
# What each part may import besides itself and `errors`.
ALLOWED: dict[str, set[str]] = {part: set() for part in LEAVES | {"errors"}}
ALLOWED |= {
    "config": {"text"},
    "files": {"text"},
    "data": {"config", "files", "images", "text", "tokenizer"},
    "build": LEAVES,
    "generation": {"config", "decoding", "model", "text", "tokenizer"},
    "training": LEAVES | {"data", "build", "generation"},
    "predict": LEAVES | {"build", "generation"},
    "evaluation": {"config", "data", "build", "metrics", "predict", "text"},
    "cli": LEAVES | {"data", "build", "evaluation", "predict", "serve", "training"},
    "serve": {"predict", "config", "images"},
    "__main__": {"cli"},
    "": {"predict"},  # captioner/__init__.py, lazily
}
# Modules of these parts do not import torch when they are imported.
TORCHLESS = {"config", "tokenizer", "images", "metrics", "text", "files", "errors", "evaluation"}
TORCHLESS |= {"cli", "serve", "__main__", ""}
NEEDS_TORCH = {"captioner.images.transforms", "captioner.cli.train"}
# Only the programs print.
PRINTS = {f"captioner.cli.{name}" for name in ("main", "process", "generate", "score", "train")}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`captioner.model.decoder` is of `model`."""
    return module.split(".")[1] if "." in module else ""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; `from a import b` is both a and a.b."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def in_house(path: Path) -> set[str]:
    """Parts of the package that a file imports."""
    modules = {name_of(p) for p in MODULES}
    return {part_of(name) for name in imports(path) & modules} - {""}


def test_every_module_has_its_place_here() -> None:
    parts = {part_of(name_of(p)) for p in MODULES}
    assert parts <= set(ALLOWED), "a new part of the package must say what it may import"
    assert parts >= LEAVES | {"data", "build", "generation", "training", "predict"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(name_of(path))
    assert in_house(path) - {part, "errors"} <= ALLOWED[part]


def test_the_rules_allow_no_circle() -> None:
    order, left = [], dict(ALLOWED)
    while left:
        free = [part for part, uses in left.items() if not uses & set(left) - {part}]
        assert free, f"a circle among {sorted(left)}"
        order += free
        left = {part: uses for part, uses in left.items() if part not in free}
    assert order.index("data") > order.index("images")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_needs_no_tensor_imports_no_torch(path: Path) -> None:
    if part_of(name_of(path)) in TORCHLESS and name_of(path) not in NEEDS_TORCH:
        heavy = {name.split(".")[0] for name in imports(path)}
        assert not heavy & {"torch", "torchvision", "timm", "transformers", "accelerate"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_stand_on_the_package_and_not_the_other_way(path: Path) -> None:
    names = {p.stem for p in SCRIPTS}
    assert not any(imports(module) & names for module in MODULES)
    assert any(name.split(".")[0] == "captioner" for name in imports(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_library_does_not_print(path: Path) -> None:
    if name_of(path) in PRINTS:
        return
    calls = [n.func for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call)]
    assert not any(isinstance(f, ast.Name) and f.id in ("print", "breakpoint") for f in calls)


def undocumented(path: Path) -> list[str]:
    """Public modules, classes, functions and methods of a file without a docstring.

    `forward` is PyTorch's, and its class tells; a method within a private class is private.
    """
    tree, found = tree_of(path), []
    if ast.get_docstring(tree) is None:
        found.append("the module")

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if node.name.startswith("_") or node.name == "forward":
                continue
            if ast.get_docstring(node) is None:
                found.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{node.name}.")

    visit(tree.body, "")
    return found


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: p.name)
def test_what_is_public_is_documented(path: Path) -> None:
    assert undocumented(path) == []


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda p: p.name)
def test_annotations_are_postponed_and_no_import_is_a_star(path: Path) -> None:
    tree = tree_of(path)
    annotated = any(isinstance(n, (ast.FunctionDef, ast.AnnAssign)) for n in ast.walk(tree))
    if annotated and "evaluate" not in imports(path):  # those are modules of `evaluate`'s making
        assert "__future__.annotations" in imports(path)
    assert not any(name.endswith(".*") for name in imports(path))


def loaded(*statements: str) -> list[set[str]]:
    """Return the top-level modules that a fresh interpreter holds after each statement."""
    show = "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    code = "\n".join(["import sys", *(f"{statement}; {show}" for statement in statements)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_importing_and_using_the_package_imports_nothing_heavy() -> None:
    modules = ("config", "errors", "images", "tokenizer")
    light, predict, found = loaded(
        "import captioner, " + ", ".join(f"captioner.{name}" for name in modules),
        "import captioner.predict",
        "from captioner.predict import Captioner",
    )
    assert "captioner" in light
    assert not light & {
        *("torch", "torchvision", "timm", "transformers", "datasets", "accelerate", "evaluate"),
        *("sentencepiece", "safetensors", "pandas", "scipy"),
    }
    # Each library of training takes longer to import than a photograph takes to caption.
    assert "torch" not in predict
    assert "torch" in found
    assert not found & {
        *("timm", "torchvision", "transformers", "datasets", "accelerate", "evaluate"),
        *("pandas", "matplotlib", "tensorboard", "scipy"),
    }


@pytest.mark.slow
def test_a_server_imports_no_torch_but_in_its_lanes() -> None:
    pytest.importorskip("gradio")
    (found,) = loaded(
        "import captioner.serve.app, captioner.serve.page.layout, captioner.serve.model_process"
    )
    assert "gradio" in found
    assert not found & {"torch", "transformers", "timm"}


def test_asking_for_the_lazy_names_gives_those_of_predict() -> None:
    import captioner
    from captioner import predict

    assert captioner.load is predict.load
    assert captioner.Captioner is predict.Captioner
    assert all(hasattr(captioner, name) for name in captioner.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = captioner.nothing
