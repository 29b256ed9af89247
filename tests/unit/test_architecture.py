"""Test the architecture: directions of imports, names, sizes, documentation and light imports."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    p for p in (ROOT / "captioner").rglob("*.py") if "pretrained" not in p.relative_to(ROOT).parts
)
SCRIPTS = sorted(ROOT.glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_LOOSE_MODULES = 8
LONGEST_FUNCTION = 70
LONGEST_MEDIAN = 10
LONGEST_TEST_MODULE = 400
# The commands `captioner export`, `scale` and `serve`, and the packages with their content.
REPEATED_NAMES = {"export", "scale", "serve"}

LEAVES = {"config", "decoding", "files", "images", "metrics", "model", "text", "tokenizer"}
LEAVES |= {"audio"}
# The parts of the package that each part may import, besides itself, `errors` and `extras`.
ALLOWED: dict[str, set[str]] = {part: set() for part in LEAVES | {"errors", "extras", "sources"}}
ALLOWED |= {
    "audio": {"sources"},
    "images": {"files", "sources"},
    "config": {"text"},
    "model": {"text"},
    "data": {"audio", "checkpoint", "config", "files", "images", "sources", "text", "tokenizer"},
    "checkpoint": LEAVES | {"sources"},
    "build": LEAVES | {"checkpoint"},
    "backends": LEAVES | {"build", "checkpoint", "sources"},
    "export": LEAVES | {"backends", "build", "checkpoint", "data"},
    "generation": {"backends", "config", "decoding", "text", "tokenizer"},
    "predict": LEAVES | {"backends", "build", "checkpoint", "generation"},
    "evaluation": {"config", "data", "build", "checkpoint", "metrics", "predict", "text"},
    "quality": {"data", "files", "images", "metrics", "predict", "sources", "text"},
    "training": LEAVES
    | {"backends", "data", "build", "checkpoint", "evaluation", "export", "generation", "predict"}
    | {"sources"},
    "scale": {"checkpoint", "config", "data", "files", "images", "predict", "sources"},
    "cli": LEAVES
    | {"data", "build", "checkpoint", "evaluation", "export", "predict", "serve", "training"}
    | {"quality", "scale"},
    "serve": {"predict", "audio", "config", "files", "images", "text"},
    "__main__": {"cli"},
    "": {"audio", "images", "predict"},  # captioner/__init__.py, lazily
}
# Parts whose modules do not import torch, with the modules that are exempt.
TORCHLESS = {"config", "tokenizer", "images", "metrics", "text", "files", "errors", "extras"}
TORCHLESS |= {
    "audio",
    "sources",
    "backends",
    "checkpoint",
    "cli",
    "data",
    "evaluation",
    "export",
    "predict",
    "quality",
    "scale",
    "serve",
}
TORCHLESS |= {"audio", "decoding", "generation", "sources", "__main__", ""}
NEEDS_TORCH = {f"captioner.backends.{name}" for name in ("precision", "torch_backend")}
NEEDS_TORCH |= {"captioner.backends.torch_members", "captioner.checkpoint.weights"}
NEEDS_TORCH |= {"captioner.data.collate", "captioner.data.dataset", "captioner.data.sample_texts"}
NEEDS_TORCH |= {"captioner.decoding.torch_arrays"}
NEEDS_TORCH |= {
    f"captioner.export.{name}" for name in ("decoder_graphs", "graph_modules", "onnx_graphs")
}
NEEDS_TORCH |= {f"captioner.export.{name}" for name in ("importance", "pruning")}
# The models of transformers.
NEEDS_TORCH |= {
    f"captioner.backends.public.{path.stem}"
    for path in (ROOT / "captioner" / "backends" / "public").glob("*.py")
} - {
    f"captioner.backends.public.{name}"
    for name in (
        "__init__",
        "answer_vocabulary",
        "chat_template",
        "family_registry",
        "family_settings",
        "generation_settings",
        "public_vocabulary",
    )
}
# Imports transformers for the tokenizer of a Hugging Face question encoder.
NEEDS_TORCH |= {"captioner.backends.checkpoint_tokenizer"}
# Only these modules, which belong to the command line, may call `print`.
PRINTS = {f"captioner.cli.{name}" for name in ("output", "process", "question_runs")}
PRINTS |= {
    f"captioner.cli.{name}"
    for name in ("check", "export", "generate", "push", "scale", "score", "train")
}


def name_of(path: Path) -> str:
    """Return the dotted name of the module in a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Return the first component below the package: "model" for `captioner.model.decoder`."""
    return module.split(".")[1] if "." in module else ""


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the parsed source of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports(path: Path, *, typed: bool = True) -> set[str]:
    """Return the dotted names that a file imports anywhere; `from a import b` gives a and a.b.

    Without `typed`, imports that only a type checker executes are left out.
    """
    found, nodes = set(), ast.walk(tree_of(path))
    if not typed:
        blocks = (n for n in ast.walk(tree_of(path)) if isinstance(n, ast.If))
        checked = [n for n in blocks if ast.unparse(n.test) == "TYPE_CHECKING"]
        skipped = {id(node) for block in checked for node in ast.walk(block)}
        nodes = (node for node in nodes if id(node) not in skipped)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def in_house(path: Path) -> set[str]:
    """Return the parts of the package that a file imports."""
    modules = {name_of(p) for p in MODULES}
    return {part_of(name) for name in imports(path) & modules} - {""}


def test_every_part_of_the_package_has_an_import_rule() -> None:
    parts = {part_of(name_of(p)) for p in MODULES}
    assert parts <= set(ALLOWED), "add the new part to ALLOWED"
    assert parts >= LEAVES | {"data", "build", "generation", "training", "predict"}


def test_a_module_imports_only_the_allowed_parts() -> None:
    wrong = set()
    for path in MODULES:
        part = part_of(name_of(path))
        others = in_house(path) - {part, "errors", "extras"} - ALLOWED[part]
        wrong |= {(name_of(path), other) for other in others}
    assert wrong == set()


def test_the_import_rules_are_acyclic() -> None:
    order, left = [], dict(ALLOWED)
    while left:
        free = [part for part, uses in left.items() if not uses & set(left) - {part}]
        assert free, f"circular imports among {sorted(left)}"
        order += free
        left = {part: uses for part, uses in left.items() if part not in free}
    assert order.index("data") > order.index("images")


def test_modules_without_tensors_do_not_import_torch() -> None:
    heavy = {"torch", "torchvision", "timm", "transformers", "accelerate", "safetensors"}
    light = [path for path in MODULES if part_of(name_of(path)) in TORCHLESS]
    importing = {
        name_of(path)
        for path in light
        if heavy & {name.split(".")[0] for name in imports(path, typed=False)}
    }
    assert importing == NEEDS_TORCH


def test_scripts_import_the_package_and_not_vice_versa() -> None:
    names = {path.stem for path in SCRIPTS}
    assert not any(imports(path) & names for path in MODULES)
    for path in SCRIPTS:
        assert any(name.split(".")[0] == "captioner" for name in imports(path)), path


def test_only_the_command_line_prints() -> None:
    printing = set()
    for path in MODULES:
        calls = (node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
        called = {function.id for function in calls if isinstance(function, ast.Name)}
        if called & {"print", "breakpoint"}:
            printing.add(name_of(path))
    assert printing == PRINTS


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the dotted name and the node of every function in a file, nested ones included."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            name = f"{prefix}.{child.name}" if named else prefix
            if named and not isinstance(child, ast.ClassDef):
                yield name, child
            yield from visit(child, name)

    return visit(tree_of(path), name_of(path))


def line_count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.end_lineno - node.lineno + 1


def test_few_modules_lie_directly_in_the_package() -> None:
    loose = [p.name for p in (ROOT / "captioner").glob("*.py") if p.name != "__init__.py"]
    assert len(loose) <= MOST_LOOSE_MODULES


def test_functions_are_short() -> None:
    counts = {name: line_count(node) for path in MODULES for name, node in functions(path)}
    assert [name for name, count in counts.items() if count > LONGEST_FUNCTION] == []
    assert statistics.median(counts.values()) <= LONGEST_MEDIAN


def test_no_two_modules_or_packages_share_a_name() -> None:
    names = Counter(name_of(p).rpartition(".")[2] for p in MODULES if "." in name_of(p))
    # The folders of metrics are no packages: `evaluate` loads the module NAME/NAME.py by its path.
    repeated = {name for name, count in names.items() if count > 1}
    assert repeated == REPEATED_NAMES


def test_test_modules_have_unique_names() -> None:
    names = Counter(p.name for p in TESTS if p.name not in ("__init__.py", "conftest.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_test_modules_are_short() -> None:
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS}
    assert [path for path, count in counts.items() if count > LONGEST_TEST_MODULE] == []


def test_only_the_command_line_imports_argparse() -> None:
    importing = {part_of(name_of(path)) for path in MODULES if "argparse" in imports(path)}
    assert importing == {"cli"}


def test_public_functions_list_their_parameters() -> None:
    """Without `**kwargs`, editors show the parameters, and misspelled ones are errors."""
    wrong = []
    for path in MODULES:
        if part_of(name_of(path)) in ("predict", ""):
            named = dict(functions(path))
            public = [name for name in named if not re.search(r"\._", name)]
            top = [name for name in public if name.rpartition(".")[0] not in named]
            wrong += [name for name in top if named[name].args.kwarg is not None]
    assert wrong == []


def undocumented(path: Path) -> list[str]:
    """Return the public modules, classes, functions and methods that lack a docstring.

    Methods named `forward` are exempt, because their class documents them, and so are the
    methods of private classes.
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


def test_public_names_have_docstrings() -> None:
    missing = {path: names for path in [*MODULES, *SCRIPTS] if (names := undocumented(path))}
    assert missing == {}


def test_annotations_are_postponed_and_imports_are_explicit() -> None:
    for path in [*MODULES, *SCRIPTS]:
        nodes = ast.walk(tree_of(path))
        is_annotated = any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in nodes)
        # `evaluate` copies and executes the modules that import it.
        if is_annotated and "evaluate" not in imports(path):
            assert "__future__.annotations" in imports(path), path
        assert not any(name.endswith(".*") for name in imports(path)), path


def loaded(*statements: str) -> list[set[str]]:
    """Return the top-level modules in a new interpreter after each statement."""
    show = "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    code = "\n".join(["import sys", *(f"{statement}; {show}" for statement in statements)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_importing_the_package_imports_no_heavy_library() -> None:
    modules = ("audio", "config", "errors", "images", "tokenizer")
    light, predict, found = loaded(
        "import captioner, " + ", ".join(f"captioner.{name}" for name in modules),
        "from captioner.predict import Captioner, load",
        "import captioner.backends.torch_members",
    )
    assert "captioner" in light
    assert not light & {
        *("torch", "torchvision", "timm", "transformers", "datasets", "accelerate", "evaluate"),
        *("sentencepiece", "safetensors", "pandas", "scipy", "soundfile"),
    }
    # Each training library takes longer to import than captioning one photograph takes.
    assert "torch" not in predict
    assert "torch" in found
    assert not found & {
        *("timm", "torchvision", "transformers", "datasets", "accelerate", "evaluate"),
        *("pandas", "matplotlib", "tensorboard", "scipy"),
    }


@pytest.mark.slow
def test_only_the_model_processes_of_a_server_import_torch() -> None:
    pytest.importorskip("gradio")
    (found,) = loaded(
        "import captioner.serve.app, captioner.serve.page.layout, captioner.serve.model_process"
    )
    assert "gradio" in found
    assert not found & {"torch", "transformers", "timm"}


def test_lazy_attributes_of_the_package_are_those_of_predict() -> None:
    import captioner
    from captioner import predict

    assert captioner.load is predict.load
    assert captioner.Captioner is predict.Captioner
    assert all(hasattr(captioner, name) for name in captioner.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = captioner.nothing
