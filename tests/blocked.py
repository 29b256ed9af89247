"""Run code in a new interpreter that cannot import some libraries, as if they were missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    *("torch", "torchvision", "timm", "transformers", "accelerate", "datasets", "evaluate"),
    *("safetensors", "tensorboard", "psutil", "peft", "deepspeed", "huggingface_hub"),
)
"""What is installed for training only."""
_BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def run_without(
    code: str,
    *words: str | os.PathLike[str],
    blocked: Iterable[str] = HEAVY,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run code with arguments in an interpreter without the blocked libraries."""
    command = [sys.executable, "-c", f"BLOCKED = {set(blocked)}{_BLOCK}{code}", *words]
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {})
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=variables)
