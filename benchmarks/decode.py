#!/usr/bin/env python
"""Compare the torch decoder with transformers and CTranslate2: `python benchmarks/decode.py`.

All three use the same weights and memory: those of the bundled checkpoint, and random weights of
width 512 and 4 layers. A search makes a fixed number of steps and is measured from memory to
hypotheses; the measurements alternate. The script prints medians in milliseconds per step, and the
speed relative to the peer. CTranslate2 also runs its encoder in the same call, so its time is
computed as the difference between a long and a short search.

    pip install -e ".[all,bench]"
    python benchmarks/decode.py --images FOLDER   # compares the tokens of these images
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from caption import describe_machine, draw_photograph, medians  # noqa: E402
from torch import Tensor  # noqa: E402

import captioner  # noqa: E402
from captioner.backends.encoder_outputs import EncoderOutputs  # noqa: E402
from captioner.backends.model_inputs import Prepared  # noqa: E402
from captioner.backends.torch_backend import TorchBackend  # noqa: E402
from captioner.build import load_checkpoint  # noqa: E402
from captioner.config import Config  # noqa: E402
from captioner.decoding import beam_search, min_length  # noqa: E402
from captioner.decoding.torch_arrays import arrays_on  # noqa: E402
from captioner.generation.text_scores import score_texts  # noqa: E402
from captioner.model.cpu.packed import pack_linear_layers  # noqa: E402
from captioner.model.seq2seq import Seq2Seq  # noqa: E402
from captioner.model.transformer_decoder import TransformerDecoder  # noqa: E402
from captioner.predict.reading import read_image  # noqa: E402
from captioner.tokenizer import BOS, EOS, PAD, SPECIAL, UNK  # noqa: E402

BEAMS, STEPS, MEMORY = 5, 20, 144
OURS = ("float32", "bfloat16", "int8")
THEIRS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder."""

    vocab: int
    width: int
    heads: int
    ffn: int
    layers: int
    length: int

    @classmethod
    def of(cls, config: Config, vocab: int) -> Sizes:
        """Return the sizes of a checkpoint."""
        m = config.model
        return cls(vocab, m.width, m.heads, m.ffn, m.decoder_layers, m.max_length)

    def decoder(self) -> TransformerDecoder:
        """Return a decoder with random weights."""
        torch.manual_seed(0)
        sizes = {"width": self.width, "heads": self.heads, "ffn": self.ffn, "layers": self.layers}
        return TransformerDecoder(self.vocab, max_length=self.length, pad=PAD, **sizes).eval()


LARGE = Sizes(vocab=8000, width=512, heads=8, ffn=2048, layers=4, length=32)


def main() -> None:
    """Measure all parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", metavar="DIR", help="folder of photographs; default: drawn")
    parser.add_argument("--count", type=int, default=1000, help="number of images")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("equal", "speed", "folder"), help="one of the parts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(describe_machine(), end=f", {args.threads} threads\n\n")
    if args.only in (None, "speed"):
        model, tokenizer, config = load_checkpoint("bundled")
        speed("bundled", model.decoder, Sizes.of(config, len(tokenizer)), args)
        speed("512 x 4", LARGE.decoder(), LARGE, args)
    paths = photographs(args)
    if args.only in (None, "equal"):
        equal(paths)
    if args.only in (None, "folder"):
        folder(paths)


def speed(name: str, decoder: TransformerDecoder, sizes: Sizes, args: argparse.Namespace) -> None:
    """Print the times for sixteen images and for one."""
    ours = {dtype: in_type(decoder, dtype) for dtype in OURS}
    mbart = to_mbart(decoder, sizes)
    theirs = {d: copy.deepcopy(mbart).to(getattr(torch, d)) for d in THEIRS}
    print(f"{name}: ms per step, beam {BEAMS}, {STEPS} steps")
    titles = [*OURS, *(f"peer {d}" for d in THEIRS), "fp32 x", "bf16 x", "fastest x"]
    print(f"{'images':>8}" + "".join(f"{title:>14}" for title in titles))
    for images in (16, 1):
        memory = torch.randn(images, MEMORY, sizes.width)
        runs = {f"ours {d}": runner(search, ours[d], memory, d) for d in OURS}
        runs |= {f"theirs {d}": runner(generate, theirs[d], memory, d) for d in THEIRS}
        with CTranslate(mbart, sizes) as peers:
            for kind, translate in peers.items():
                runs[f"{kind} long"] = lambda t=translate, n=images: t(n, STEPS)
                runs[f"{kind} short"] = lambda t=translate, n=images: t(n, 1)
            times = {k: 1000 * v for k, v in medians(runs, args.repeats).items()}
        ours_ms = {d: times[f"ours {d}"] / STEPS for d in OURS}
        peer = {d: times[f"theirs {d}"] / STEPS for d in THEIRS}
        ratios = [peer[d] / ours_ms[d] for d in THEIRS] + [
            min(peer.values()) / min(ours_ms.values())
        ]
        values = [*ours_ms.values(), *peer.values(), *ratios]
        print(f"{images:8}" + "".join(f"{value:14.2f}" for value in values))
        for kind in peers:
            each = (times[f"{kind} long"] - times[f"{kind} short"]) / (STEPS - 1)
            print(f"{'':8}CTranslate2 {kind}: {each:.2f}; ratio {each / ours_ms[kind]:.2f}")
    print()


def in_type(decoder: TransformerDecoder, dtype: str) -> TransformerDecoder:
    """Return a copy of the decoder as `captioner.load(dtype=...)` prepares it on a CPU."""
    copied = copy.deepcopy(decoder)
    if dtype == "bfloat16":
        copied = copied.bfloat16()
    pack_linear_layers(copied, int8=dtype == "int8")
    return copied


def runner(run: Callable, model: Any, memory: Tensor, dtype: str) -> Callable[[], Any]:
    """Return the call to measure."""
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    return lambda: run(model, memory.to(kind), steps=STEPS, least=STEPS)


@torch.inference_mode()
def search(
    decoder: TransformerDecoder, memory: Tensor, *, steps: int, least: int = 0
) -> list[list[int]]:
    """Return the best tokens of the project's beam search for each image."""
    cache = decoder.start(memory, len(memory) * BEAMS, steps)

    def step(tokens: Tensor) -> Tensor:
        logits = decoder.step(tokens, cache).float()
        logits[..., SPECIAL] = float("-inf")
        return logits

    hypotheses = beam_search(
        step,
        cache.reorder,
        images=len(memory),
        beams=BEAMS,
        bos=BOS,
        eos=EOS,
        max_length=steps,
        arrays=arrays_on(memory.device),
        rules=[min_length(least, eos=EOS)] if least else (),
    )
    return [rows[0].tokens for rows in hypotheses]


@torch.inference_mode()
def generate(model: Any, memory: Tensor, *, steps: int, least: int = 0) -> list[list[int]]:
    """Return the best tokens of the beam search of transformers for each image."""
    from transformers.modeling_outputs import BaseModelOutput

    outputs = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=memory),
        num_beams=BEAMS,
        max_new_tokens=steps,
        min_new_tokens=least,
        do_sample=False,
        length_penalty=1.0,
        early_stopping=False,
    )
    rows = outputs[:, 1:].tolist()
    return [row[: row.index(EOS) + 1] if EOS in row else row for row in rows]


def to_mbart(decoder: TransformerDecoder, sizes: Sizes) -> Any:
    """Return a transformers model with the weights of the decoder and without special tokens."""
    from transformers import MBartConfig, MBartForConditionalGeneration

    config = MBartConfig(
        vocab_size=sizes.vocab,
        max_position_embeddings=max(sizes.length, MEMORY),
        d_model=sizes.width,
        encoder_layers=1,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.ffn,
        decoder_ffn_dim=sizes.ffn,
        scale_embedding=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    model = MBartForConditionalGeneration(config).eval()
    state = decoder.state_dict()
    theirs = model.model.decoder.state_dict()
    positions = theirs["embed_positions.weight"].clone()
    positions[2 : 2 + sizes.length] = state["embed_positions.weight"]
    model.model.decoder.load_state_dict(state | {"embed_positions.weight": positions})
    model.model.shared.weight.data.copy_(state["embed_tokens.weight"])
    model.lm_head.weight = model.model.decoder.embed_tokens.weight
    model.final_logits_bias[:, [PAD, UNK, BOS]] = float("-inf")
    model.generation_config.forced_eos_token_id = None
    return model


class CTranslate:
    """Return CTranslate2's `translate(images, steps)` by data type; empty if not installed."""

    def __init__(self, mbart: Any, sizes: Sizes) -> None:
        self.mbart, self.sizes = mbart, sizes
        self.folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> dict[str, Callable[[int, int], Any]]:
        try:
            import ctranslate2
            from ctranslate2.converters.transformers import MBartLoader
        except ImportError:
            return {}
        translators = {}
        plain = copy.deepcopy(self.mbart)
        plain.final_logits_bias.zero_()
        # The converter needs these fields, which transformers 5 does not keep.
        plain.config.normalize_before = plain.config.normalize_embedding = True
        words = ["<pad>", "<unk>", "<s>", "</s>", *(f"w{i}" for i in range(4, self.sizes.vocab))]
        for kind in ("float32", "int8"):
            spec = MBartLoader().get_model_spec(plain)
            spec.register_source_vocabulary(words)
            spec.register_target_vocabulary(words)
            spec.config.bos_token, spec.config.eos_token = "<s>", "</s>"
            spec.config.unk_token, spec.config.decoder_start_token = "<unk>", "<s>"
            spec.validate()
            spec.optimize(quantization=None if kind == "float32" else kind)
            place = Path(self.folder.name) / kind
            place.mkdir()
            spec.save(str(place))
            translator = ctranslate2.Translator(
                str(place), compute_type=kind, intra_threads=torch.get_num_threads()
            )
            translators[kind] = lambda n, steps, t=translator: t.translate_batch(
                [words[4 : 4 + MEMORY]] * n,
                beam_size=BEAMS,
                max_decoding_length=steps,
                min_decoding_length=steps,
            )
        return translators

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def photographs(args: argparse.Namespace) -> list[Path]:
    """Return the images of the folder, or drawn images."""
    if args.images:
        return sorted(Path(args.images).glob("*.jpg"))[: args.count]
    folder = Path(tempfile.mkdtemp())
    paths = [folder / f"{i:04}.jpg" for i in range(args.count)]
    for i, path in enumerate(paths):
        draw_photograph(i).save(path, quality=90)
    return paths


def equal(paths: Sequence[Path]) -> None:
    """Count the captions whose tokens equal those of transformers in float32."""
    model, tokenizer, config = load_checkpoint("bundled")
    mbart = to_mbart(model.decoder, Sizes.of(config, len(tokenizer)))
    reader = captioner.load(backend="torch", device="cpu").backend
    length, same, ties, lengths = config.decoding.max_length, 0, 0, []
    packed, spent = in_type(model.decoder, "float32"), [0.0, 0.0]
    for batch in in_batches(paths, 16):
        with torch.inference_mode():
            memory = model.encode(pixels_of(reader, batch))
        at = [time.perf_counter()]
        mine = search(packed, memory, steps=length)
        at.append(time.perf_counter())
        others = generate(mbart, memory, steps=length)
        at.append(time.perf_counter())
        spent = [spent[0] + at[1] - at[0], spent[1] + at[2] - at[1]]
        for i, (one, two) in enumerate(zip(mine, others, strict=True)):
            lengths.append(len(one))
            same += one == two
            if one != two:
                scores = [score(model, memory[i : i + 1], x) for x in (one, two)]
                ties += abs(scores[0] - scores[1]) < 1e-5
                print(f"  {batch[i].name}: scores {scores[0]:.7f} and {scores[1]:.7f}")
    print(
        f"equal tokens: {same} of {len(lengths)} captions, {ties} ties among the others;"
        f" lengths {min(lengths)} to {max(lengths)};"
        f" {spent[1] / spent[0]:.2f} times as fast\n"
    )


def score(model: Seq2Seq, memory: Tensor, tokens: list[int]) -> float:
    """Return the score by which a beam search ranks hypotheses."""
    backend = TorchBackend.of_model(model, device=memory.device)
    (total,) = score_texts(backend, EncoderOutputs((memory,)), [tokens])
    return total / len(tokens)


def folder(paths: Sequence[Path]) -> None:
    """Compare captioning a folder of files with encoding alone, from pixels in memory."""
    for dtype in OURS:
        model = captioner.load(backend="torch", device="cpu", dtype=dtype)
        model.caption(paths[:32])
        alone = encoding(model, paths)
        started = time.perf_counter()
        for number, _ in enumerate(model.caption_stream(paths)):
            if number == len(paths) // 4:
                early = peak()
        rate = len(paths) / (time.perf_counter() - started)
        alone = (alone + encoding(model, paths)) / 2
        print(
            f"folder, {dtype}: {rate:.1f} images/s from files to captions; the encoder alone"
            f" {alone:.1f}; ratio {rate / alone:.2f}; peak memory {early:.0f} MB after a quarter,"
            f" {peak():.0f} MB at the end"
        )


def encoding(model: captioner.Captioner, paths: Sequence[Path]) -> float:
    """Return the images per second of the encoder alone."""
    spent = 0.0
    for batch in in_batches(paths, 16):
        pixels = pixels_of(model.backend, batch)
        started = time.perf_counter()
        with torch.inference_mode():
            model.model.encode(pixels)
        spent += time.perf_counter() - started
    return len(paths) / spent


def pixels_of(backend: TorchBackend, paths: Sequence[Path]) -> Tensor:
    """Return the pixels (B, 3, H, W) of the images that can be read."""
    read = (read_image(backend, path) for path in paths)
    return backend.stack([x for x in read if isinstance(x, Prepared)])[0]


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield batches of a size."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


def peak() -> float:
    """Return the peak memory of this process in megabytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
