#!/usr/bin/env python
"""Compare data types on this processor: `python benchmarks/processor.py`.

The script measures captioning with the bundled model in float32, bfloat16 and int8 by torch, in
float32 and int8 by ONNX Runtime, and a training step in float32 and with bfloat16 autocast. It does
so on this processor and, for torch, restricted to older instruction sets; ONNX Runtime cannot be
restricted. `dtype=auto` and `train.precision=auto` are based on this table. The measurements of all
types are interleaved. The script prints medians in milliseconds, and ratios to torch in float32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

KINDS = {
    "this processor": {},
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
DTYPES = {"torch": ("float32", "bfloat16", "int8"), "onnx": ("float32", "int8")}
IMAGES, CAPTIONS, LENGTH, REPEATS = 2, 5, 16, 5


def main() -> None:
    """Measure in one process per kind of processor, and print the table."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure(sys.argv[2:])))
        return
    from caption import describe_machine

    print(describe_machine())
    for kind, variables in KINDS.items():
        run = subprocess.run(
            [sys.executable, __file__, "--child", *(["torch"] if variables else DTYPES)],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result = json.loads(run.stdout)
        print(f"\n{kind}: auto is {result['auto']}, training in {result['precision']}")
        for name, times in result["times"].items():
            base = times["torch float32"]
            cells = "  ".join(f"{d} {t:.1f} ms ({t / base:.2f})" for d, t in times.items())
            print(f"  {name}: {cells}")


def measure(backends: Sequence[str]) -> dict[str, object]:
    """Return the medians of all types on this processor, in milliseconds, and torch's choices."""
    import torch
    from caption import draw_photograph, medians

    import captioner
    from captioner.backends.precision import fastest_dtype
    from captioner.training.distributed import choose_precision

    torch.set_num_threads(2)
    models = {
        f"{backend} {dtype}": captioner.load(backend=backend, device="cpu", dtype=dtype)
        for backend in backends
        for dtype in DTYPES[backend]
    }
    photographs = [draw_photograph(seed) for seed in range(8)]
    times = {}
    for name, images in (("one photograph", photographs[:1]), ("8 photographs", photographs)):
        runs: dict[str, Callable[[], object]] = {
            kind: lambda m=model, i=images: m.caption(i) for kind, model in models.items()
        }
        times[name] = {k: 1000 * v for k, v in medians(runs, REPEATS).items()}
    times["a training step"] = {k: 1000 * v for k, v in medians(steps(), 3).items()}
    auto = fastest_dtype(torch.device("cpu"), compile=False)
    return {"auto": auto, "precision": choose_precision("auto"), "times": times}


def steps() -> dict[str, Callable[[], None]]:
    """Return a training step of the whole bundled model in both types."""
    import torch

    from captioner.build import load_checkpoint
    from captioner.tokenizer import BOS

    model, _, _ = load_checkpoint("bundled", for_training=True)
    model.to(memory_format=torch.channels_last)
    images, tokens = (
        torch.randn(IMAGES, 3, 384, 384),
        torch.randint(4, 999, (IMAGES, CAPTIONS, LENGTH)),
    )
    tokens[..., 0] = BOS

    def step(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model(images, tokens).float().logsumexp(-1).mean()
        loss.backward()
        model.zero_grad()

    types = (torch.float32, torch.bfloat16)
    return {str(dtype).replace(".", " "): lambda d=dtype: step(d) for dtype in types}


if __name__ == "__main__":
    main()
