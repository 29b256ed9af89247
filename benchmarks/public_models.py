#!/usr/bin/env python
"""Compare a public model on this package's search with its own `generate` in transformers.

BLIP in its base size has random weights, which do not affect the speed. Both sides begin with the
same pixels, encode them, and search with five beams for exactly 20 tokens; the end token is
forbidden. The measurements alternate. The script prints a table of medians, with the ratio of the
processor time, which other processes affect less, and whether the tokens are equal.

    python benchmarks/public_models.py --repeats 3 --threads 2 --batch 1 8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from caption import describe_machine, draw_photograph  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402
from transformers import (  # noqa: E402
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    PreTrainedTokenizerFast,
)

from captioner.backends.model_inputs import Prepared  # noqa: E402
from captioner.backends.public.families import load_family  # noqa: E402
from captioner.backends.public.public_backend import PublicBackend  # noqa: E402
from captioner.decoding import beam_search, min_length  # noqa: E402

BEAMS, TOKENS, SIZE, VOCABULARY = 5, 20, 384, 30524
TIE = 1e-4
"""Texts whose scores differ by less are equal: their order depends on rounding."""


def main() -> None:
    """Measure each batch size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="numbers of images")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(describe_machine(), end=f", {args.threads} threads\n\n")
    with tempfile.TemporaryDirectory() as folder:
        build_blip_base(Path(folder))
        backend = PublicBackend(load_family(folder, torch.float32))
    titles = ("images", "captioner", "`generate`", "ratio", "processor time", "equal tokens")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for count in args.batch:
        inputs = [backend.read(draw_photograph(seed)) for seed in range(count)]
        sides = {"ours": lambda x=inputs: search(backend, x)}
        sides |= {"theirs": lambda x=inputs: generate(backend, x)}
        equal = count_equal(backend, inputs, sides["ours"](), sides["theirs"]())
        (ours, our_cpu), (theirs, their_cpu) = measure(sides, args.repeats)
        ratios = f"{theirs / ours:.2f} | {their_cpu / our_cpu:.2f}"
        row = f"{count} | {ours:.2f} s | {theirs:.2f} s | {ratios} | {equal} of {count}"
        print(f"| {row} |", flush=True)


def build_blip_base(folder: Path) -> None:
    """Write a transformers folder with the sizes of `blip-image-captioning-base`."""
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w100"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    BlipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    torch.manual_seed(0)
    text = {"vocab_size": VOCABULARY, "num_attention_heads": 12, "encoder_hidden_size": 768}
    vision = {"image_size": SIZE, "patch_size": 16}
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():  # so that texts depend on the image and their words differ
        for name, weight in model.text_decoder.named_parameters():
            if weight.ndim == 2:
                weight.mul_(10 if "position" in name else 2)
    model.save_pretrained(folder)


def search(backend: PublicBackend, inputs: list[Prepared]) -> list[list[int]]:
    """Return the tokens of the best caption of each image."""
    with torch.inference_mode():
        memories = backend.encode(inputs)
        state = backend.start(memories, rows=BEAMS, room=TOKENS)
        end = backend.tokenizer.ends[0]
        results = beam_search(
            state.step,
            state.reorder,
            images=len(inputs),
            beams=BEAMS,
            bos=backend.tokenizer.bos,
            eos=end,
            max_length=TOKENS,
            rules=[min_length(TOKENS, eos=end)],
            arrays=backend.arrays,
        )
    return [hypotheses[0].tokens for hypotheses in results]


def generate(backend: PublicBackend, inputs: list[Prepared]) -> list[list[int]]:
    """Return the tokens that transformers generates."""
    pixels = torch.from_numpy(np.concatenate([prepared.arrays[0] for prepared in inputs]))
    options = {"num_beams": BEAMS, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    with torch.inference_mode():
        output = backend.family.model.generate(pixel_values=pixels, do_sample=False, **options)
    tokens: list[list[int]] = output[:, 1:].tolist()
    return tokens


def measure(sides: dict[str, Callable[[], Any]], repeats: int) -> list[tuple[float, float]]:
    """Return the median seconds and processor seconds of functions that are run alternately."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    columns = (zip(*values, strict=True) for values in times.values())
    return [(median(wall), median(cpu)) for wall, cpu in columns]


def count_equal(
    backend: PublicBackend,
    inputs: list[Prepared],
    ours: list[list[int]],
    theirs: list[list[int]],
) -> int:
    """Return how many texts are equal, or have equal scores but for rounding."""
    memories, count = backend.encode(inputs), 0
    for memory, *texts in zip(memories, ours, theirs, strict=True):
        scores = backend.score([memory], np.array(texts)[None]).mean(-1)[0]
        count += texts[0] == texts[1] or abs(float(scores[0] - scores[1])) < TIE
    return count


if __name__ == "__main__":
    main()
