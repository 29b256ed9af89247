"""Test that every fusion depends on its question and image only, without padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.fusion import Add, Concat, CrossAttention, Graph, Linear, Multiply
from captioner.model.graph_layers import (
    GraphAttention,
    GraphAttentionV2,
    GraphConvolution,
    GraphLayer,
)

WIDTH, HEADS, POSITIONS = 12, 3, 5
# Image 1 has no question, the others have several, in mixed order.
OWNERS, LENGTHS = (2, 0, 2, 0, 2), (6, 2, 4, 1, 3)
DEEP = {"width": WIDTH, "heads": HEADS, "ffn": 20, "dropout": 0.0}


def make_graph(
    conv: Callable[[], nn.Module], layers: int = 2, *, neighbors: int = 1, dropout: float = 0.0
) -> Graph:
    """Return a graph fusion whose positions form a row."""
    blocks = [GraphLayer(conv(), width=WIDTH, ffn=20, dropout=dropout) for _ in range(layers)]
    return Graph(blocks, width=WIDTH, neighbors=neighbors)


FUSIONS: dict[str, Callable[[], nn.Module]] = {
    "concat": lambda: Concat(layers=2, **DEEP),
    "concat of one layer": lambda: Concat(layers=1, **DEEP),
    "cross attention": lambda: CrossAttention(layers=3, **DEEP),
    "cross attention of one layer": lambda: CrossAttention(layers=1, **DEEP),
    "graph of gcn": lambda: make_graph(lambda: GraphConvolution(WIDTH)),
    "graph of gat": lambda: make_graph(lambda: GraphAttention(WIDTH, HEADS)),
    "graph of gatv2": lambda: make_graph(lambda: GraphAttentionV2(WIDTH, HEADS)),
    "add": lambda: Add(width=WIDTH),
    "multiply": lambda: Multiply(width=WIDTH),
    "linear": lambda: Linear(width=WIDTH),
    "linear of each": lambda: Linear(width=WIDTH, per_position=True),
}
every_fusion = pytest.mark.parametrize("name", FUSIONS)


def make(name: str) -> nn.Module:
    """Return a fusion without default weights, so that every weight affects the result."""
    torch.manual_seed(0)
    fusion = FUSIONS[name]()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.4)
    return fusion.double().eval()


def make_inputs(*, lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the memory of three images, owners, question states and their mask."""
    memory = torch.randn(3, POSITIONS, WIDTH, dtype=torch.float64)
    states = torch.randn(len(lengths), max(lengths), WIDTH, dtype=torch.float64)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return memory, torch.tensor(OWNERS[: len(lengths)]), states, mask


def counted(fused: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Return the unmasked fused positions of each question."""
    return list(fused) if mask is None else [x[m] for x, m in zip(fused, mask, strict=True)]


@every_fusion
def test_each_question_has_its_own_memory(name: str) -> None:
    fused, mask = make(name)(*make_inputs())
    questions, length = len(LENGTHS), max(LENGTHS)
    joint = POSITIONS + length
    shapes = {"concat": joint, "graph": joint, "cross": length, "linear": 1}
    positions = shapes.get(name if name == "linear" else name.split()[0], POSITIONS)
    if name == "linear of each":
        positions = POSITIONS
    assert fused.shape == (questions, positions, WIDTH)
    if name.startswith(("concat", "graph", "cross")):
        assert mask.dtype == torch.bool
        image = 0 if name.startswith("cross") else POSITIONS
        assert mask.sum(1).tolist() == [image + n for n in LENGTHS]
        assert mask[:, :image].all()
    else:
        assert mask is None


@every_fusion
def test_question_padding_does_not_change_memory(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    before = counted(*fusion(memory, owners, states, mask))
    other = torch.where(mask[..., None], states, 9 * torch.randn_like(states))
    longer = torch.cat([other, torch.randn_like(other[:, :3])], 1)
    after = counted(*fusion(memory, owners, longer, F.pad(mask, (0, 3))))
    torch.testing.assert_close(after, before)


@every_fusion
def test_fused_memory_does_not_depend_on_other_questions(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    together = counted(*fusion(memory, owners, states, mask))
    for i, (owner, n) in enumerate(zip(OWNERS, LENGTHS, strict=True)):
        alone = fusion(
            memory[owner][None], torch.zeros(1, dtype=torch.long), states[i : i + 1, :n],
            mask[i : i + 1, :n],
        )  # fmt: skip
        torch.testing.assert_close(counted(*alone)[0], together[i])


@every_fusion
def test_questions_may_have_any_order(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    together = counted(*fusion(memory, owners, states, mask))
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = counted(*fusion(memory, owners[order], states[order], mask[order]))
    torch.testing.assert_close(shuffled, [together[i] for i in order])


@every_fusion
def test_fused_memory_depends_only_on_the_image_of_its_question(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    before = counted(*fusion(memory, owners, states, mask))
    other = memory.clone()
    other[2] = torch.randn_like(memory[2])
    after = counted(*fusion(other, owners, states, mask))
    for owner, one, two in zip(OWNERS, before, after, strict=True):
        if owner == 2:
            assert ((one - two).abs().amax(-1) > 1e-6).all()
        else:
            torch.testing.assert_close(one, two)


@every_fusion
@pytest.mark.parametrize("token", [0, 3])
def test_fused_memory_depends_on_every_question_token(name: str, token: int) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    before = counted(*fusion(memory, owners, states, mask))
    other = states.clone()
    other[0, token] = torch.randn_like(states[0, token])
    after = counted(*fusion(memory, owners, other, mask))
    assert ((before[0] - after[0]).abs().amax(-1) > 1e-6).all()
    torch.testing.assert_close(before[1:], after[1:])


@every_fusion
def test_gradients_reach_all_parameters_and_both_inputs(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    memory.requires_grad_()
    states.requires_grad_()
    fused = torch.cat(counted(*fusion(memory, owners, states, mask)))
    (fused * torch.randn_like(fused)).sum().backward()
    for key, parameter in fusion.named_parameters():
        assert parameter.grad is not None, key
        # A bias of keys shifts all scores of a query equally, which the softmax cancels.
        least = 0 if key.endswith("k_proj.bias") else 1e-8
        assert parameter.grad.abs().max() >= least, key
        assert torch.isfinite(parameter.grad).all(), key
    gradients = memory.grad.abs().amax((1, 2))
    assert gradients[1] == 0  # it has no question
    assert (gradients[[0, 2]] > 0).all()
    assert (states.grad.abs().amax(-1)[mask] > 0).all()
    assert (states.grad[~mask] == 0).all()


def test_gradients_of_shared_images_are_summed() -> None:
    """An image is projected once for all of its questions; their gradients must be summed."""
    fusion, (memory, owners, states, mask) = make("cross attention"), make_inputs()
    found = []
    for indices, which in ((None, owners), (owners, torch.arange(len(owners)))):
        leaf = memory.clone().requires_grad_()
        fused, _ = fusion(leaf if indices is None else leaf[indices], which, states, mask)
        weight = torch.linspace(-1, 1, fused.numel(), dtype=fused.dtype).view_as(fused)
        found.append(torch.autograd.grad((fused * weight).sum(), [leaf, *fusion.parameters()]))
    torch.testing.assert_close(*found)


def affine(layer: nn.Linear, x: list[float]) -> list[float]:
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), bias, strict=True)
    ]


def norm(layer: nn.LayerNorm, x: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    scale = (sum((v - mean) ** 2 for v in x) / len(x) + layer.eps) ** 0.5
    pairs = zip(x, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [(v - mean) / scale * w + b for v, w, b in pairs]


def gelu(x: list[float]) -> list[float]:
    normal = torch.distributions.Normal(0.0, 1.0)
    return [v * normal.cdf(torch.tensor(v, dtype=torch.float64)).item() for v in x]


def by_hand(name: str, fusion: nn.Module, image: Tensor, question: Tensor) -> list[list[float]]:
    """Compute the fused positions of image (P, D) and question (S, D) without batches."""
    places = image.tolist()
    t = [sum(column) / len(question) for column in question.T.tolist()]
    i = [sum(column) / len(image) for column in image.T.tolist()]
    add = lambda a, b: [x + y for x, y in zip(a, b, strict=True)]  # noqa: E731
    if name == "add":
        fused = [add(affine(fusion.image, p), affine(fusion.question, t)) for p in places]
    elif name == "multiply":
        factors = gelu(affine(fusion.question, t))
        fused = [
            [a * b for a, b in zip(gelu(affine(fusion.image, p)), factors, strict=True)]
            for p in places
        ]
    else:
        both = add(affine(fusion.question, t), affine(fusion.image, i))
        fused = [both] if name == "linear" else [add(p, both) for p in places]
    return [norm(fusion.norm, x) for x in fused]


@pytest.mark.parametrize("name", ["add", "multiply", "linear", "linear of each"])
@torch.no_grad()
def test_simple_fusions_match_their_formulas(name: str) -> None:
    fusion, (memory, owners, states, mask) = make(name), make_inputs()
    fused, _ = fusion(memory, owners, states, mask)
    for x, owner, question, n in zip(fused, OWNERS, states, LENGTHS, strict=True):
        expected = by_hand(name, fusion, memory[owner], question[:n])
        torch.testing.assert_close(x, torch.tensor(expected, dtype=torch.float64))


def plain_block(block: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """Compute pre-norm attention of x (N, T, D) to another sequence with PyTorch's module."""
    a = block.attn
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    parts = (a.q_proj, a.k_proj, a.v_proj)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([p.weight for p in parts]),
            "in_proj_bias": torch.cat([p.bias for p in parts]),
            "out_proj.weight": a.out_proj.weight,
            "out_proj.bias": a.out_proj.bias,
        }
    )
    return x + theirs(block.layer_norm(x), other, other)[0]


@torch.no_grad()
def test_cross_attention_matches_plain_co_attention() -> None:
    """The question attends to the image in each layer, and the image once before the last."""
    fusion, (memory, owners, states, mask) = make("cross attention"), make_inputs()
    fused = counted(*fusion(memory, owners, states, mask))
    for found, owner, question, n in zip(fused, OWNERS, states, LENGTHS, strict=True):
        image, x = memory[owner][None], question[None, :n]
        for cross, layer in zip(fusion.cross[:-1], fusion.layers[:-1], strict=True):
            x = layer(plain_block(cross, x, image))
        image = plain_block(fusion.image, image, x)
        x = fusion.layers[-1](plain_block(fusion.cross[-1], x, image))
        torch.testing.assert_close(found, fusion.norm(x)[0])


@torch.no_grad()
def test_concat_distinguishes_image_and_question() -> None:
    """Exchanged inputs give different results."""
    fusion = make("concat of one layer")
    memory = torch.randn(1, 3, WIDTH, dtype=torch.float64)
    states = torch.randn(1, 3, WIDTH, dtype=torch.float64)
    owner, mask = torch.zeros(1, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool)
    one, _ = fusion(memory, owner, states, mask)
    two, _ = fusion(states, owner, memory, mask)
    assert not torch.allclose(one[:, :3], two[:, 3:])
    fusion.kinds[1] = fusion.kinds[0]
    one, _ = fusion(memory, owner, states, mask)
    two, _ = fusion(states, owner, memory, mask)
    torch.testing.assert_close(one[:, :3], two[:, 3:])


@pytest.mark.parametrize(("layers", "reached"), [(1, [0, 1]), (2, [0, 1, 2, 3, 4])])
@torch.no_grad()
def test_a_position_reaches_its_neighbors_and_the_question(layers: int, reached: list[int]) -> None:
    """Through the question, it reaches all other positions with the second layer."""
    fusion = make_graph(lambda: GraphAttention(WIDTH, HEADS), layers, neighbors=0).double()
    memory, _, states, mask = make_inputs(lengths=(3,))
    inputs = (torch.zeros(1, dtype=torch.long), states, mask)
    other = memory[:1].clone()
    other[0, 0, 0] += 1
    changed = (fusion(other, *inputs)[0] - fusion(memory[:1], *inputs)[0]).abs().amax(-1)[0] > 1e-9
    question = range(POSITIONS, POSITIONS + 3)
    assert changed.nonzero().flatten().tolist() == [*reached, *question]


@pytest.mark.parametrize(
    "make_fusion",
    [
        lambda dropout: Concat(layers=1, **(DEEP | {"dropout": dropout})),
        lambda dropout: CrossAttention(layers=1, **(DEEP | {"dropout": dropout})),
        lambda dropout: make_graph(lambda: GraphConvolution(WIDTH), dropout=dropout),
    ],
    ids=["concat", "cross attention", "graph"],
)
def test_dropout_is_active_only_in_training(make_fusion: Callable[[float], nn.Module]) -> None:
    torch.manual_seed(0)
    fusion, inputs = make_fusion(0.5).double(), make_inputs()
    assert not torch.equal(fusion(*inputs)[0], fusion(*inputs)[0])
    fusion.eval()
    assert torch.equal(fusion(*inputs)[0], fusion(*inputs)[0])
