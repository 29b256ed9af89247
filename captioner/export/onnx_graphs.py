"""Trace the parts of a model to ONNX graphs that read their weights from `model.safetensors`.

A graph holds operators only. Each weight is an initializer that names its bytes in the checkpoint's
weights file, by offset and length, in the type in which they are stored. A Cast in the graph
converts it to float32, which ONNX Runtime does once, when it loads the graph.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim

from captioner.build import load_checkpoint
from captioner.checkpoint import WEIGHTS, resolve_own_checkpoint
from captioner.checkpoint.audio_format import first_spec, second_spec
from captioner.checkpoint.graph_files import (
    ANSWER,
    AUDIO,
    AUDIO_MEMORY,
    CAPTION,
    DIGEST_KEY,
    IMAGE,
    MEMORY,
    QUESTION,
    SMALL_IMAGE,
    GraphDtype,
    graph_path,
    weights_digest,
)
from captioner.checkpoint.safetensors_header import StoredTensor, read_header
from captioner.errors import CaptionerError, CheckpointError
from captioner.export.decoder_graphs import decoder_parts
from captioner.export.graph_modules import (
    AudioGraph,
    AudioMemoryGraph,
    ImageGraph,
    MemoryGraph,
    Part,
    QuestionGraph,
)
from captioner.export.quantization import quantize_linear_layers
from captioner.files import replace_file
from captioner.model.image_encoder import MemoryEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.model.tta import view_sizes
from captioner.text import one_line

OPSET = 18
_logger = logging.getLogger(__name__)
_STORED_TYPES = {
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "F32": TensorProto.FLOAT,
}
# Sizes of the examples that are traced; they differ, so that no two dimensions are taken for one.
_IMAGES, _QUESTIONS, _WORDS = 2, 3, 5
Shape = tuple[int, int, int]


def export_graphs(name: str | Path, *, dtype: GraphDtype = "float32") -> list[Path]:
    """Write the graphs of a checkpoint next to its weights.

    Args:
        name: The folder of the checkpoint, or `bundled`.
        dtype: With int8, also write graphs whose linear layers compute in integers. They are
            written again if the folder has such graphs already.

    Returns:
        The paths of the graphs.

    Raises:
        CheckpointError: The checkpoint cannot be read, or a graph cannot be written.
        CaptionerError: A part of the model has an operator that ONNX does not support.
    """
    folder = resolve_own_checkpoint(name, "captioner export")
    model, _, config = load_checkpoint(folder, for_training=True)
    digest = weights_digest(folder)
    stored = _stored_tensors(model, folder / WEIGHTS)
    has_int8 = dtype == "int8" or graph_path(folder, CAPTION, "int8").is_file()
    graphs = {}
    audio = second_spec(config)
    audio_shape = None if audio is None else audio.shape
    for graph, part in model_parts(model, first_spec(config).shape, audio_shape):
        _logger.info("tracing %s", graph)
        exported = trace(graph, part, stored)
        exported.metadata_props.add(key=DIGEST_KEY, value=digest)
        graphs[graph_path(folder, graph)] = exported.SerializeToString()
        if has_int8 and quantize_linear_layers(exported):
            graphs[graph_path(folder, graph, "int8")] = exported.SerializeToString()
    for path, content in graphs.items():  # after all of them could be exported
        _write_graph(path, content)
    return list(graphs)


def _write_graph(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from None


def model_parts(
    model: Seq2Seq, shape: Shape, audio_shape: Shape | None = None
) -> Iterator[tuple[str, Part]]:
    """Yield the name and the content of each graph of a model.

    `shape` is that of the input of the first encoder, (3, H, W) or (1, mel bands, frames), and
    `audio_shape` that of a second one.
    """
    yield IMAGE, _image_part(ImageGraph(model), shape)
    if smaller := _smaller_size(model, shape):
        yield SMALL_IMAGE, _image_part(ImageGraph(model), (3, *smaller))
    memory = MemoryGraph(model)
    yield MEMORY, _memory_part(memory, model.memory_encoder, memory.outputs)
    if model.audio is not None and audio_shape is not None:
        yield AUDIO, _image_part(AudioGraph(model.audio), audio_shape)
        encoder = model.audio.memory_encoder
        yield AUDIO_MEMORY, _memory_part(AudioMemoryGraph(model.audio), encoder, ("memory",))
    yield from decoder_parts(CAPTION, model.decoder)
    if model.fusion is not None:
        yield QUESTION, _question_part(model)
        if model.answerer is not None:
            yield from decoder_parts(ANSWER, model.answerer)


def _image_part(module: nn.Module, shape: Shape) -> Part:
    pixels = {"pixels": torch.randn(_IMAGES, *shape)}
    return Part(module, pixels, {"pixels": (0,)}, ("features",))


def _memory_part(module: nn.Module, encoder: MemoryEncoder, outputs: tuple[str, ...]) -> Part:
    positions, channels = len(encoder.positions), encoder.projection.in_features
    features = {"features": torch.randn(_IMAGES, positions, channels)}
    return Part(module, features, {"features": (0,)}, outputs)


@torch.inference_mode()
def _smaller_size(model: Seq2Seq, shape: Shape) -> tuple[int, int] | None:
    """Return the size of the smaller views of test-time augmentation; None if there is none."""
    if shape[0] != 3:  # a spectrogram
        return None
    try:
        _, smaller = view_sizes(shape[1:], len(model.memory_encoder.positions), 4)
        model.backbone(torch.zeros(1, 3, *smaller))
    except (RuntimeError, AssertionError, ValueError):  # timm asserts the input size
        return None
    return smaller


def _question_part(model: Seq2Seq) -> Part:
    width = model.memory_encoder.projection.out_features
    inputs = {
        "memory": torch.randn(_IMAGES, len(model.memory_encoder.positions), width),
        "owners": torch.zeros(_QUESTIONS, dtype=torch.long),
        "questions": torch.full((_QUESTIONS, _WORDS), model.pad + 1),
    }
    module = QuestionGraph(model)
    outputs = module.outputs[: len(module(*inputs.values()))]
    # With two encoders, the number of positions depends on the inputs that are given.
    memory = (0,) if model.audio is None else (0, 1)
    dynamic = {"memory": memory, "owners": (0,), "questions": (0, 1)}
    return Part(module, inputs, dynamic, outputs)


def _stored_tensors(model: nn.Module, path: Path) -> dict[int, StoredTensor]:
    """Return the position in the weights file of each tensor of a model, by the tensor's `id`."""
    stored = read_header(path).tensors
    named = [*model.named_parameters(), *model.named_buffers()]
    return {id(tensor): stored[name] for name, tensor in named if name in stored}


def trace(name: str, part: Part, stored: Mapping[int, StoredTensor]) -> onnx.ModelProto:
    """Return a part as an ONNX graph.

    The weights are inputs while the module is traced, so that the exporter cannot change them or
    compute new ones. `stored` is their position in the weights file, by the `id` of the tensor.
    Buffers that are not in the file stay in the graph.

    Raises:
        CaptionerError: An operator of the module is not supported.
    """
    named = [*part.module.named_parameters(), *part.module.named_buffers()]
    weights = {key: tensor for key, tensor in named if id(tensor) in stored}
    function = _FunctionOfWeights(part.module, list(weights)).eval()
    dimensions = [dict.fromkeys(part.dynamic[key], Dim.DYNAMIC) for key in part.inputs]
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                function,
                (*(tensor.detach() for tensor in weights.values()), *part.inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=[*weights, *part.inputs],
                output_names=part.outputs,
                dynamic_shapes={"arguments": ({},) * len(weights) + tuple(dimensions)},
                verbose=False,
            )
    except Exception as error:  # the exporter raises errors of many types
        cause = error.__cause__ or error
        raise CaptionerError(
            f"the graph {name!r} cannot be exported: {type(cause).__name__}: {one_line(cause)}"
        ) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _point_to_file(model.graph, {key: stored[id(tensor)] for key, tensor in weights.items()})
    _remove_annotations(model)
    return model


class _FunctionOfWeights(nn.Module):
    """A module as a function of its weights, in the order of `names`, followed by its inputs."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        # In a list, so that it is no submodule, whose weights the exporter would collect.
        self.modules_in_list, self.names = [module.eval()], names

    def forward(self, *arguments: Tensor) -> Any:
        weights = dict(zip(self.names, arguments, strict=False))
        inputs = arguments[len(self.names) :]
        return torch.func.functional_call(self.modules_in_list[0], weights, inputs)


def _point_to_file(graph: onnx.GraphProto, stored: Mapping[str, StoredTensor]) -> None:
    """Replace the inputs that are weights by initializers in the weights file, cast to float32."""
    used = {name for node in graph.node for name in node.input}
    inputs = [value for value in graph.input if value.name not in stored]
    casts = []
    for name, tensor in stored.items():
        if name not in used:
            continue
        initializer = graph.initializer.add(
            name=f"{name}.stored",
            data_type=_STORED_TYPES[tensor.dtype],
            dims=tensor.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": WEIGHTS, "offset": tensor.offset, "length": tensor.size}
        for key, value in place.items():
            initializer.external_data.add(key=key, value=str(value))
        casts.append(helper.make_node("Cast", [initializer.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(nodes)


def _remove_annotations(model: onnx.ModelProto) -> None:
    """Remove what ONNX Runtime does not read: stack traces, source files, inferred shapes."""
    model.producer_name, model.producer_version = "captioner", ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.input, *model.graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's reports of its progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
