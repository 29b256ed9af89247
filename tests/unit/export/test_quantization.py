"""Quantized linear layers of graphs, against the same products in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from captioner.export.quantization import LARGEST, quantize_linear_layers

INPUTS, OUTPUTS = 64, 48


def graph_of_layer(weight: np.ndarray, bias: np.ndarray | None, *, gemm: bool) -> onnx.ModelProto:
    """Return a linear layer in one of the two forms that the exporter writes."""
    nodes = [helper.make_node("Cast", ["w.stored"], ["w"], to=TensorProto.FLOAT)]
    stored = [numpy_helper.from_array(weight.astype(np.float16), "w.stored")]
    inputs = ["x", "w"]
    if bias is not None:
        stored.append(numpy_helper.from_array(bias, "b"))
    if gemm:
        inputs += ["b"] if bias is not None else []
        nodes.append(helper.make_node("Gemm", inputs, ["y"], transB=1))
    else:
        nodes.append(helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["x", "t"], ["y" if bias is None else "p"]))
        if bias is not None:
            nodes.append(helper.make_node("Add", ["p", "b"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[1]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(weight)])
    graph = helper.make_graph(nodes, "layer", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray, *extra: str) -> list[np.ndarray]:
    """Return y, and further values of the graph by their names."""
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in extra)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


@pytest.mark.parametrize("gemm", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_quantized_layer_is_close_to_the_exact_product(gemm, with_bias):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(OUTPUTS, INPUTS)).astype(np.float16)
    bias = rng.normal(size=OUTPUTS).astype(np.float32) if with_bias else None
    x = rng.normal(size=(7, INPUTS)).astype(np.float32)
    model = graph_of_layer(weight, bias, gemm=gemm)
    assert quantize_linear_layers(model) == 1
    assert not {"Gemm", "MatMul"} & {node.op_type for node in model.graph.node}
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + (0 if bias is None else bias)
    (y,) = run(model, x)
    assert np.linalg.norm(y - exact) / np.linalg.norm(exact) < 0.02


def test_extreme_weights_and_inputs_do_not_overflow():
    """Sums of two products in 16 bits, as on processors without VNNI, would overflow here."""
    weight = np.ones((OUTPUTS, INPUTS))
    x = np.ones((3, INPUTS), np.float32)
    model = graph_of_layer(weight, None, gemm=False)
    quantize_linear_layers(model)
    y, rounded = run(model, x, "int8_0_int8")
    np.testing.assert_allclose(y, INPUTS, rtol=1e-3)
    assert 2 * 255 * np.abs(rounded.astype(int)).max() < 2**15
    assert np.abs(rounded).max() == LARGEST


def test_each_output_has_its_own_scale_and_a_row_of_zeros_gives_zeros():
    rng = np.random.default_rng(1)
    scales = np.array([1e-3, 1.0, 1e3, 0.0])
    weight = rng.normal(size=(4, INPUTS)) * scales[:, None]
    x = rng.normal(size=(5, INPUTS)).astype(np.float32)
    model = graph_of_layer(weight, None, gemm=True)
    quantize_linear_layers(model)
    (y,) = run(model, x)
    exact = x.astype(np.float64) @ weight.astype(np.float16).astype(np.float64).T
    errors = np.linalg.norm(y - exact, axis=0)[:3] / np.linalg.norm(exact, axis=0)[:3]
    assert errors.max() < 0.03
    assert not y[:, 3].any()


def test_products_of_two_inputs_are_left_alone():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "n"])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph)
    assert quantize_linear_layers(model) == 0
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
