"""Rewrite the linear layers of a graph for 8-bit integer arithmetic.

The weights stay in the checkpoint's file as they are: the graph computes their scales and rounds
them, which ONNX Runtime does once, when it loads the graph. Inputs are quantized dynamically, with
one scale for each call.

Weights have 7 bits (-63 to 63). Without VNNI instructions, x86 processors add pairs of products of
8 bits in 16 bits, which larger weights would overflow: 2 * 63 * 255 < 2 ** 15. Results are thus the
same on every processor.

Shapes: N rows, K inputs and M outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

LARGEST = 63.0
"""Largest quantized weight."""


def quantize_linear_layers(model: onnx.ModelProto) -> int:
    """Replace the products with weights in a graph, in place; return their number."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    nodes: list[NodeProto] = []
    count = 0
    for node in graph.node:
        weight = _linear_weight(node, producers)
        if weight is None:
            nodes.append(node)
            continue
        nodes += _quantized_nodes(node, *weight, prefix=f"int8_{count}_")
        count += 1
    constants = {
        "int8_axis": np.array([1]),
        "int8_largest": np.float32(LARGEST),
        "int8_least": np.float32(1e-12),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    del graph.node[:]
    graph.node.extend(nodes)
    _remove_unused(graph)
    return count


def _linear_weight(node: NodeProto, producers: dict[str, NodeProto]) -> tuple[str, str] | None:
    """Return the names of the weight (M, K) and the bias (or an empty text) of a linear layer."""
    if node.op_type == "Gemm" and _is_weight(node.input[1], producers):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("transB") == 1 and not attributes.get("transA"):
            return node.input[1], node.input[2] if len(node.input) > 2 else ""
    if node.op_type == "MatMul":
        transpose = producers.get(node.input[1])
        if transpose is None or transpose.op_type != "Transpose":
            return None
        if _is_weight(transpose.input[0], producers):
            return transpose.input[0], ""
    return None


def _is_weight(name: str, producers: dict[str, NodeProto]) -> bool:
    """Return whether a value is a stored weight that a Cast has converted, or several, joined."""
    node = producers.get(name)
    if node is None:
        return False
    if node.op_type == "Concat":
        return all(_is_weight(part, producers) for part in node.input)
    return node.op_type == "Cast" and node.input[0].endswith(".stored")


def _quantized_nodes(node: NodeProto, weight: str, bias: str, *, prefix: str) -> list[NodeProto]:
    """Return the nodes that compute a layer in integers; `prefix` makes their outputs unique."""

    def add(op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> None:
        names = [prefix + name for name in outputs]
        nodes.append(helper.make_node(op, list(inputs), names, **attributes))

    nodes: list[NodeProto] = []
    p = prefix
    add("Abs", [weight], "abs")
    add("ReduceMax", [f"{p}abs", "int8_axis"], "max", keepdims=1)  # (M, 1)
    add("Max", [f"{p}max", "int8_least"], "positive")
    add("Div", [f"{p}positive", "int8_largest"], "column")
    add("Squeeze", [f"{p}column", "int8_axis"], "scale")  # (M,)
    add("Div", [weight, f"{p}column"], "scaled")
    add("Round", [f"{p}scaled"], "rounded")
    add("Cast", [f"{p}rounded"], "int8", to=TensorProto.INT8)
    add("Transpose", [f"{p}int8"], "transposed", perm=[1, 0])  # (K, M)
    add("DynamicQuantizeLinear", [node.input[0]], "x", "x_scale", "x_zero")
    add("MatMulInteger", [f"{p}x", f"{p}transposed", f"{p}x_zero"], "sum")  # (N, M), int32
    add("Cast", [f"{p}sum"], "sum_float", to=TensorProto.FLOAT)
    add("Mul", [f"{p}x_scale", f"{p}scale"], "both_scales")
    last = node.output[0]
    product = f"{p}product" if bias else last
    nodes.append(helper.make_node("Mul", [f"{p}sum_float", f"{p}both_scales"], [product]))
    if bias:
        nodes.append(helper.make_node("Add", [product, bias], [last]))
    return nodes


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers whose results nothing uses."""
    outputs = {value.name for value in graph.output}
    while True:
        used = outputs | {name for node in graph.node for name in node.input}
        kept = [node for node in graph.node if used & set(node.output)]
        if len(kept) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(kept)
    initializers = [x for x in graph.initializer if x.name in used]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
