"""Model soup: the average of the weights of several checkpoints that share their origin.

Runs that start from the same checkpoint and differ in data, objective or seed often end in one
basin of the loss. The average of their weights is then better than the best of them, at the cost of
a single model (Wortsman et al., Model soups, ICML 2022; for policies trained with rewards: Rame et
al., WARP, 2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captioner.checkpoint import CONFIG, TOKENIZER, WEIGHTS, load_answers, resolve_own_checkpoint
from captioner.checkpoint.audio_format import input_specs
from captioner.checkpoint.weights import load_weights
from captioner.config import Config, ModelConfig, load_config
from captioner.errors import CheckpointError
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

_COMPARED: dict[str, tuple[str, ...]] = {
    "model": ("heads", "decoder", "blind"),
    "model.graph": ("layer", "neighbors", "heads"),
    "model.question": (
        "fusion",
        "linear_memory",
        "graph_layer",
        "graph_neighbors",
        "pooling",
        "image_only",
    ),
}
"""The settings of each section that the shapes of the weights do not show."""


def average_checkpoints(
    model: Seq2Seq, tokenizer: Tokenizer, config: Config, others: Sequence[str]
) -> None:
    """Average each weight of a model, in place, with those of the checkpoints that have it.

    A checkpoint that is named twice counts twice. Raises CheckpointError for one with a
    different tokenizer, image preprocessing, shape of the weights or setting of the model.
    """
    sums = model.state_dict()
    counts = Counter(dict.fromkeys(sums, 1))
    for name in others:
        path = resolve_own_checkpoint(name, "train.soup")
        theirs = load_config(path / CONFIG)
        if Tokenizer.load(path / TOKENIZER).model != tokenizer.model:
            raise CheckpointError(f"train.soup: {path}: its tokenizer differs from train.start's")
        if input_specs([theirs]) != input_specs([config]):
            raise CheckpointError(f"train.soup: {path}: preprocessing differs from train.start's")
        if different := list_differences(config.model, theirs.model):
            raise CheckpointError(f"train.soup: {path}: {different[0]} differs from train.start's")
        answers = load_answers(path, theirs, tokenizer)
        if answers and answers != list(model.answers):
            raise CheckpointError(f"train.soup: {path}: its answers differ from train.start's")
        for key, value in load_weights(path / WEIGHTS).items():
            if key.startswith("kind_head."):
                continue  # it fits no other backbone than its own
            if key not in sums or sums[key].shape != value.shape:
                raise CheckpointError(
                    f"train.soup: {path}: {key} does not fit train.start; begin with the"
                    " checkpoint that has the most parts, and add others of the same model"
                )
            if value.is_floating_point():
                sums[key] = sums[key] + value
                counts[key] += 1
    model.load_state_dict({k: v / counts[k] if counts[k] > 1 else v for k, v in sums.items()})


def list_differences(one: ModelConfig, other: ModelConfig) -> list[str]:
    """Return the settings that change what a model computes from weights of equal shapes."""
    sections = {
        "model": (one, other),
        "model.graph": (one.graph, other.graph),
        "model.question": (one.question, other.question),
    }
    return [
        f"{section}.{name}"
        for section, (own, theirs) in sections.items()
        if own is not None and theirs is not None
        for name in _COMPARED[section]
        if getattr(own, name) != getattr(theirs, name)
    ]
