"""The package: the `captioner` command, its dependencies, and the contents of a wheel."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from tiny import make_checkpoint, picture

import captioner
from captioner.cli import main, process
from captioner.cli.recipes import RECIPES, config_path
from captioner.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[2]


def pyproject() -> dict:
    # tomllib came with Python 3.11; pytest brings tomli where it is not there.
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    module = importlib.import_module(name)
    return module.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared() -> dict[str, list[str]]:
    """Return the requirements of the package without an extra, under "", and of each extra."""
    project = pyproject()["project"]
    return {"": project["dependencies"]} | project["optional-dependencies"]


def distribution(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()


def distributions(extra: str) -> set[str]:
    return {distribution(line) for line in declared()[extra]}


def modules(paths: Iterable[Path]) -> set[str]:
    """Return the top-level modules that files import, without standard ones and the package."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    # _typeshed exists for type checkers only.
    return found - sys.stdlib_module_names - {"captioner", "_typeshed"}


def test_requirements_files_install_extras():
    """No other file than pyproject.toml declares a dependency."""
    names = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/requirements*.txt")}
    lines = {name: (ROOT / name).read_text(encoding="utf-8").splitlines() for name in names}
    kept = {name: [x for x in text if not x.startswith("#")] for name, text in lines.items()}
    assert kept == {"requirements.txt": ["-e .[all]"], "requirements-dev.txt": ["-e .[all,dev]"]}


def test_all_installs_what_users_of_the_package_need():
    (line,) = declared()["all"]
    extras = set(declared()) - {"", "all", "dev", "docs", "bench", "deepspeed"}
    assert set(re.fullmatch(r"captioner\[(.*)\]", line)[1].split(",")) == extras


def test_what_is_imported_is_required():
    """Every import of the package and scripts is a standard module, a requirement or an extra."""
    names = {"yaml": "pyyaml", "PIL": "pillow"}
    found = modules([*(ROOT / "captioner").rglob("*.py"), *ROOT.glob("*.py")])
    base = {names.get(name, name) for name in found - set().union(*EXTRAS.values())}
    assert base <= distributions("")
    assert distributions("") - base <= {"onnxruntime"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_modules_of_an_extra_are_installed_by_it(extra):
    required = distributions(extra)
    names = {name.replace("_", "-") for name in EXTRAS[extra]}
    assert names - required <= {"fastapi", "pydantic", "starlette", "uvicorn"}  # through gradio
    assert required <= names


def test_installed_versions_are_within_the_ranges():
    from importlib.metadata import version

    from packaging.requirements import Requirement

    for extra in ("", "train", "serve", "hub", "lora", "heif"):
        for line in declared()[extra]:
            requirement = Requirement(line)
            installed = version(requirement.name)
            assert requirement.specifier.contains(installed, prereleases=True), line


@pytest.mark.parametrize("command", main.COMMANDS)
def test_command_is_the_script(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main([command, "--help"])
    shown = capsys.readouterr().out
    script = importlib.import_module(f"captioner.cli.{main.COMMANDS[command][0]}")
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    # The help is the same except for the program's name, which changes the line breaks.
    own = capsys.readouterr().out.replace(f"{main.COMMANDS[command][0]}.py", "")
    shown = shown.replace(f"captioner {command}", "")
    options = set(re.findall(r"--[a-z-]+", own))
    assert "--help" in options
    assert options == set(re.findall(r"--[a-z-]+", shown))


def test_score_is_called_by_its_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(["score"])
    assert "usage: captioner score" in capsys.readouterr().err


CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("form", ["{}", "{}.yaml", "configs/{}", "./configs/{}.yaml"])
def test_a_configuration_is_known_by_its_name_from_anywhere(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    for name in CONFIGS:
        assert Path(config_path(form.format(name))) == RECIPES / f"{name}.yaml"
    (tmp_path / "smoke").mkdir()  # a folder of that name is no configuration
    assert Path(config_path("smoke")).parent == RECIPES


def test_a_local_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke.yaml").write_text("train: {seed: 3}")
    assert config_path("smoke") == "smoke.yaml"
    assert config_path("smoke.yaml") == "smoke.yaml"
    (tmp_path / "smoke").write_text("train: {seed: 4}")
    assert config_path("smoke") == "smoke"
    assert config_path(str(tmp_path / "smoke.yaml")) == str(tmp_path / "smoke.yaml")


def test_an_unknown_configuration_lists_the_known_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "--config", "finetun"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"the nearest is finetune, of {', '.join(CONFIGS)}" in err
    assert main.main(["train", "--config", "accelerate/ddp"]) == 1
    assert f"--config_file {RECIPES / 'accelerate/ddp.yaml'}" in capsys.readouterr().err
    for removed in ("vqa", "configs/flickr8k.yaml"):
        assert main.main(["train", "--config", removed]) == 1
        err = capsys.readouterr().err
        assert f"{removed}: this configuration was removed" in err
        assert re.search(r"docs/\w+\.md", err)
    for missing in ("runs/none.yaml", ""):
        assert main.main(["train", "--config", missing]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    # The configuration is read; the error is about the missing data.
    assert main.main(["train", "--config", "finetune"]) == 1
    assert "data.root is not set" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("unknown",), ("--checkpoint", "x")])
def test_usage_errors(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main.main(list(words))
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: captioner" in err


def test_arguments_and_status_pass_through(tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "best")
    picture(0).save(tmp_path / "0.png")
    words = [str(tmp_path / "0.png"), "--checkpoint", str(checkpoint)]
    assert main.main(["caption", *words]) == 0
    assert capsys.readouterr().out.strip()
    assert main.main(["caption", *words, str(tmp_path / "none.png")]) == 3


FAULTS = """
import resource, sys
from captioner.cli import process
if "keep" in sys.argv: process.keep_freed_memory()
import torch
for _ in range(50): torch.zeros(8 << 20).sum()  # 32 MiB each
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(*words: str, **variables: str) -> int:
    """Return the page faults of a process that repeatedly allocates and frees a large block."""
    unset = {*process.MALLOPT, "GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM_ALLOC_ENABLE"}
    environment = {k: v for k, v in os.environ.items() if k not in unset} | variables
    command = [sys.executable, "-c", FAULTS, *words]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_unless_the_user_has_decided():
    block = 32 << 20
    pages = 50 * block // os.sysconf("SC_PAGE_SIZE")
    plain = faults()
    assert faults("keep") < plain - pages / 2
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="1") > plain - pages / 2


def test_help_and_version_cost_no_torch():
    code = (
        "import sys\nfrom captioner.cli import main\n"
        "for word in ('--help', '--version'):\n"
        "    try: main.main([word])\n"
        "    except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'yaml', 'tqdm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in main.COMMANDS)
    assert done.stdout.endswith(f"captioner {captioner.__version__}\n")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the project's wheel is installed."""
    pytest.importorskip("hatchling", reason="needs hatchling")
    target = tmp_path_factory.mktemp("installed")
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*pip, "wheel", ROOT, *words, "--wheel-dir", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", wheel, *words[::2], "--quiet", "--target", target], check=True)
    with zipfile.ZipFile(wheel) as archive:
        (target / "names.json").write_text(json.dumps(archive.namelist()))
    return target


@pytest.mark.slow
def test_wheel_carries_everything(installed):
    names = set(json.loads((installed / "names.json").read_text()))
    ours = {p.relative_to(ROOT).as_posix() for p in (ROOT / "captioner").rglob("*.py")}
    ours |= {p.relative_to(ROOT).as_posix() for p in RECIPES.rglob("*.yaml")}
    ours |= {
        "captioner/serve/page/page.css",
        "captioner/py.typed",
        "captioner/export/card_template.md",
    }
    bundled = (ROOT / "captioner" / "pretrained").iterdir()
    ours |= {p.relative_to(ROOT).as_posix() for p in bundled if p.is_file()}
    assert ours <= names
    others = {name for name in names - ours if ".dist-info/" not in name}
    assert not others
    (metadata,) = installed.glob("captioner-*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    assert f"\nVersion: {captioner.__version__}\n" in text
    required = re.findall("\nRequires-Dist: (.*)", text)
    plain = [line for line in required if "extra ==" not in line]
    assert len(plain) == len(declared()[""])


@pytest.mark.slow
def test_installed_command_captions_and_scores(installed, tmp_path):
    """In a folder outside the checkout, the command runs only the code of the wheel."""
    checkpoint = make_checkpoint(tmp_path / "best")
    picture(0).save(tmp_path / "0.png")
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def run(*words: str) -> str:
        command = [sys.executable, installed / "bin" / "captioner", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    caption = run("caption", "0.png", "--checkpoint", str(checkpoint)).strip()
    assert caption
    (tmp_path / "data.jsonl").write_text(json.dumps({"image": "0.png", "caption": caption}))
    scores = run("score", "--checkpoint", str(checkpoint), "--references", "data.jsonl", "--json")
    assert json.loads(scores)["BLEU-1"] == pytest.approx(1)
    assert str(installed / "captioner" / "config" / "recipes") in run("--help")
    assert "--resume" in run("train", "--help")
    words = ["train", "--config", "smoke", "data.root=none"]
    command = [sys.executable, installed / "bin" / "captioner", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "captioner train: none: no such file or folder" in done.stderr
