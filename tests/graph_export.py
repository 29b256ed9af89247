"""Tiny checkpoints of any architecture, and single graphs of them in ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from safetensors.torch import load_file
from small_models import train_small_tokenizer

from captioner.build import build_backbone, build_model, feature_shape, load_checkpoint
from captioner.checkpoint import WEIGHTS
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.checkpoint.weights import save_best
from captioner.config import (
    BackboneConfig,
    Config,
    GraphConfig,
    ImageConfig,
    ModelConfig,
    QuestionConfig,
    TrainConfig,
)
from captioner.export import onnx_graphs
from captioner.model.seq2seq import Seq2Seq

RESNET = BackboneConfig("test_resnet", "none")
VIT = BackboneConfig("test_vit", "none", (), {"img_size": 64})
SWIN = BackboneConfig(
    "swin_tiny_patch4_window7_224",
    "none",
    (),
    {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (2, 1), "num_heads": (1, 2)},
)
SIZE = 64
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and torch in float32."""


def make_model(
    folder: Path,
    *backbones: BackboneConfig,
    question: QuestionConfig | None = None,
    graph: GraphConfig | None = None,
    blind: bool = False,
    save_dtype: str = "float32",
    decoder: str = "transformer",
    seed: int = 0,
) -> Seq2Seq:
    """Write a checkpoint with random weights; return its model as it is exported."""
    sizes = ModelConfig(
        backbones or (RESNET,), width=16, heads=2, ffn=24, decoder_layers=2, max_length=12,
        graph=graph, question=question, blind=blind, decoder=decoder,
    )  # fmt: skip
    config = Config(
        image=ImageConfig(size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3),
        model=sizes,
        train=TrainConfig(save_dtype=save_dtype),
        decoding=dataclasses.replace(Config().decoding, max_length=8),
        answers=dataclasses.replace(Config().answers, max_length=6),
    )
    tokenizer = train_small_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone, config = build_backbone(config, load_weights=False)
        positions, channels = feature_shape(backbone, pixel_spec(config))
        parts = {"tokenizer": tokenizer, "channels": channels, "positions": positions}
        model = build_model(config.model, backbone, **parts)
    save_best(folder, config, tokenizer, model, {"val": {}})
    return load_checkpoint(folder, for_training=True)[0]


class Graph:
    """One graph of a checkpoint, in a file and in a session."""

    def __init__(self, model: Seq2Seq, folder: Path, name: str) -> None:
        parts = onnx_graphs.model_parts(model, (3, SIZE, SIZE))
        self.part = next(part for found, part in parts if found == name)
        self.stored = onnx_graphs._stored_tensors(model, folder / WEIGHTS)
        self.proto = onnx_graphs.trace(name, self.part, self.stored)
        path = folder / f"{name}.onnx"
        onnx.save(self.proto, path)
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.folder = folder

    def run(self, **inputs: torch.Tensor) -> list[np.ndarray]:
        """Return the outputs of the graph."""
        return self.session.run(None, {name: x.numpy() for name, x in inputs.items()})

    def check_outputs(self, **inputs: torch.Tensor) -> None:
        """Assert that the outputs equal those of the traced module."""
        with torch.no_grad():
            expected = self.part.module.eval()(*inputs.values())
        expected = [expected] if isinstance(expected, torch.Tensor) else expected
        for found, output in zip(self.run(**inputs), expected, strict=True):
            assert found.shape == output.shape
            np.testing.assert_allclose(found, output, atol=TOLERANCE)

    def check_weights(self, *, constants: int = 1500) -> set[str]:
        """Assert that the weights are in the weights file, at the right place and type.

        Args:
            constants: Bytes of shapes and numbers that the graph may contain at most.

        Returns:
            The parameters that the graph does not use.
        """
        buffers = dict(self.part.module.named_buffers())
        learned = dict(self.part.module.named_parameters())
        named = learned | buffers
        pointers = [x for x in self.proto.graph.initializer if x.external_data]
        inside = [x for x in self.proto.graph.initializer if not x.external_data]
        # Constants, and what is in no weights file; a matrix of weights would be larger.
        allowed = sum(x.nbytes for x in buffers.values() if id(x) not in self.stored)
        assert sum(len(x.SerializeToString()) for x in inside) < constants + 2 * allowed
        content = (self.folder / WEIGHTS).read_bytes()
        for pointer in pointers:
            place = {entry.key: entry.value for entry in pointer.external_data}
            begin, size = int(place["offset"]), int(place["length"])
            raw = torch.frombuffer(bytearray(content[begin : begin + size]), dtype=torch.uint8)
            own = named[pointer.name.removesuffix(".stored")]
            tensor = raw.view(_TYPES[pointer.data_type]).reshape(tuple(pointer.dims))
            assert place["location"] == WEIGHTS
            assert torch.equal(tensor.float(), own.detach())
        used = {x.name.removesuffix(".stored") for x in pointers}
        return learned.keys() - used


_TYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
}


def stored_types(folder: Path) -> set[torch.dtype]:
    """Return the types of the tensors in a checkpoint's weights file."""
    return {tensor.dtype for tensor in load_file(folder / WEIGHTS).values()}
