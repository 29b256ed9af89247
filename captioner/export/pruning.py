"""Structured pruning: a smaller checkpoint without the least important heads, units and layers.

The result is an ordinary checkpoint whose configuration describes its layers (`model.sizes`). It
should be fine-tuned. Backbones are kept or removed as a whole; the embeddings and a Hugging Face
text encoder keep their size.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioner.build import load_checkpoint
from captioner.checkpoint import WEIGHTS, resolve_own_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.checkpoint.safetensors_header import read_header
from captioner.checkpoint.weights import save_best
from captioner.config import Config, DataConfig, ModelConfig, SourceConfig
from captioner.data.collate import Batch
from captioner.errors import CheckpointError, ConfigError, DataError
from captioner.export.importance import Tasks, mean_loss, measure_importance, read_batches
from captioner.model.image_encoder import Backbones
from captioner.model.layer_units import Units, list_units
from captioner.model.layers import Attention, module_list
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

ROUNDS = 5
"""Rounds of removal; importance is measured again in each. With a single round, from 44.7 to 36 MB,
the loss of answers rose several times as much."""
BLOCK = 8
"""Inner units that are removed together: matrix products of other widths are slower."""
_logger = logging.getLogger(__name__)
_ANSWERER = "answerer."


@dataclass(frozen=True)
class Stack:
    """A list of layers of a model, from which whole layers can be removed."""

    lists: tuple[nn.ModuleList, ...]
    """The layers; those of equal index in several lists are removed together."""
    fewest: int
    """Minimum number of layers."""
    setting: str
    """The setting of the model section for the number of layers."""


def prune_checkpoint(
    name: str | Path,
    output: Path,
    size: float,
    *,
    roots: tuple[str, ...] = (),
    images: int = 200,
    drop_layers: int = 0,
    drop_backbones: int = 0,
) -> None:
    """Write a smaller copy of a checkpoint.

    Args:
        name: The folder of the checkpoint, or `bundled`.
        output: The folder to write, which must not exist.
        size: Largest size of `model.safetensors` in MB (10^6 bytes); below 1, its share of the
            present size.
        roots: Data sets on whose training images importance is measured; by default, those that
            the checkpoint was trained on.
        images: Images of each data set.
        drop_layers: Whole layers to remove first, those whose removal raises the loss least.
        drop_backbones: Whole image backbones to remove before, chosen in the same way.

    Raises:
        CaptionerError: The checkpoint or the data cannot be read, the size cannot be reached, or
            the folder exists or cannot be written.
    """
    if output.exists():
        raise CheckpointError(f"{output}: exists already; name a new folder for the checkpoint")
    folder = resolve_own_checkpoint(name, "--prune")
    model, tokenizer, config = load_checkpoint(folder, for_training=True)
    model.requires_grad_(False)
    weights, header = count_weights(model), header_bytes(folder)
    item = getattr(torch, config.train.save_dtype).itemsize
    present = weights * item + header
    largest = size * 1e6 if size >= 1 else size * present
    if present <= largest and not (drop_layers or drop_backbones):
        raise ConfigError(f"--prune {size:g}: {name} is smaller already ({present / 1e6:.1f} MB)")
    tasks = _read_tasks(model, tokenizer, config, roots=roots, images=images)
    before = mean_loss(model, tasks)
    for _ in range(drop_backbones):
        tasks, config = drop_backbone(model, tasks, config)
    for _ in range(drop_layers):
        drop_layer(model, tasks)
    excess = count_weights(model) - int(largest - header) // item
    remove_units(model, tasks, excess)
    left, after = count_weights(model), mean_loss(model, tasks)
    if left * item + header > largest:
        raise ConfigError(
            f"--prune {size:g}: {name} cannot be pruned below {(left * item + header) / 1e6:.1f} MB"
            " with this data; the backbone and the embeddings keep their size, and so do parts"
            " that the data does not use, such as question modules without questions"
        )
    config = dataclasses.replace(config, model=describe_sizes(model, config.model))
    record = {"checkpoint": str(name), "weights": [weights, left], "loss": [before, after]}
    save_best(output, config, tokenizer, model, {"val": {}, "pruning": record})
    _logger.info("%.1f of %.1f million weights are left", left / 1e6, weights / 1e6)
    _logger.info("the loss per token rose from %.3f to %.3f; fine-tune it", before, after)


def remove_units(model: Seq2Seq, tasks: Tasks, excess: int) -> None:
    """Remove the least important heads and inner units, with at least `excess` weights.

    The importance of a unit changes when others are removed, so it is measured in several rounds.
    """
    goal = count_weights(model) - excess
    for left in range(ROUNDS, 0, -1) if excess > 0 else ():
        units = list_units(model)
        importance = measure_importance(model, units, tasks)
        part = (count_weights(model) - goal) / left
        for name, kept in choose_units(units, importance, part).items():
            units[name].keep(kept)


def _read_tasks(
    model: Seq2Seq, tokenizer: Tokenizer, config: Config, *, roots: tuple[str, ...], images: int
) -> Tasks:
    """Return batches of the data sets `roots`, or of those that the checkpoint was trained on."""
    try:
        return read_batches(model, tokenizer, _with_data(config, roots), images=images)
    except (ConfigError, DataError) as error:
        if roots:
            raise
        raise DataError(
            "the data that the checkpoint was trained on cannot be read; name a data set with"
            f" --data ({error})"
        ) from None


def _with_data(config: Config, roots: tuple[str, ...]) -> Config:
    """Return a configuration with other data sets, if any are given."""
    if not roots:
        return config
    sources = tuple(SourceConfig(root=root) for root in roots)
    data = DataConfig(sources=sources, seed=config.data.seed, lowercase=config.data.lowercase)
    stages = tuple(dataclasses.replace(stage, weights=()) for stage in config.train.stages)
    train = dataclasses.replace(config.train, stages=stages)
    return dataclasses.replace(config, data=data, train=train)


def count_weights(model: nn.Module) -> int:
    """Return the number of weights in a checkpoint of a model."""
    return sum(x.numel() for x in model.state_dict().values() if x.is_floating_point())


def header_bytes(folder: Path) -> int:
    """Return the bytes of a weights file that are not weights."""
    return min(tensor.offset for tensor in read_header(folder / WEIGHTS).tensors.values())


def choose_units(
    units: Mapping[str, Units], importance: Mapping[str, Tensor], excess: float
) -> dict[str, list[int]]:
    """Return the units to keep, by name, so that at least `excess` weights are removed.

    The units of least importance per weight are removed first, inner units in blocks. At least one
    head and one block remain of each layer; units without importance are kept.
    """
    blocks = [block for name in importance for block in _blocks(name, units, importance[name])]
    blocks.sort(key=lambda block: block[0])  # stable: the order within a layer is kept
    removed: dict[str, set[int]] = {}
    for _, name, block in blocks:
        if excess <= 0:
            break
        removed.setdefault(name, set()).update(block)
        excess -= len(block) * units[name].weights
    return {k: [i for i in range(units[k].count) if i not in out] for k, out in removed.items()}


def _blocks(
    name: str, units: Mapping[str, Units], importance: Tensor
) -> Iterator[tuple[float, str, list[int]]]:
    """Yield importance per weight, name and indices of what can be removed, least first."""
    group = units[name]
    size = 1 if isinstance(group.owner, Attention) else BLOCK
    order = importance.argsort(stable=True)
    # The first block makes the rest a multiple of the size; the last one stays.
    first = (group.count - 1) % size + 1
    starts = [0, *range(first, group.count, size)]
    for start, end in pairwise(starts):
        block = order[start:end]
        value = importance[block].norm().item()  # as for independent effects
        yield value / (len(block) * group.weights), name, block.tolist()


def list_stacks(model: Seq2Seq) -> dict[str, Stack]:
    """Return the stacks of layers that whole layers can be removed from."""
    stacks = {}

    def add(part: str, fewest: int, setting: str, *names: str) -> None:
        module = getattr(model, part)
        lists = [getattr(module, name, None) for name in names]
        if module is not None and lists[0] is not None:
            layers = tuple(x for x in lists if isinstance(x, nn.ModuleList))
            stacks[part] = Stack(layers, fewest, setting)

    add("memory_encoder", 0, "encoder_layers", "layers")
    add("decoder", 1, "decoder_layers", "layers")
    add("question_encoder", 0, "question.encoder_layers", "layers")
    add("fusion", 1, "question.fusion_layers", "layers", "cross")
    add("answerer", 1, "question.decoder_layers", "layers")
    return stacks


def drop_backbone(model: Seq2Seq, tasks: Tasks, config: Config) -> tuple[Tasks, Config]:
    """Remove the image backbone without which the loss is lowest.

    Returns:
        The tasks and the configuration without it.

    Raises:
        ConfigError: The model has only one.
    """
    backbone = model.backbone
    if not isinstance(backbone, Backbones) or len(backbone.models) < 2:
        raise ConfigError("only one backbone is left; lower --drop-backbones")
    parts = backbone.features_of_each(torch.zeros(1, 3, *pixel_spec(config).size))
    owners = torch.arange(len(parts)).repeat_interleave(torch.tensor([x.shape[-1] for x in parts]))
    kept = [torch.nonzero(owners != i)[:, 0] for i in range(len(parts))]
    whole, losses = model.memory_encoder, []
    for channels in kept:
        model.memory_encoder = copy.deepcopy(whole)
        model.memory_encoder.keep_channels(channels)
        losses.append(mean_loss(model, _keep_channels(tasks, channels)))
    i = losses.index(min(losses))
    _logger.info("without %s, the loss is %.3f", config.model.backbones[i].name, losses[i])
    model.memory_encoder = whole
    whole.keep_channels(kept[i])
    if model.kind_head is not None:
        model.kind_head.keep_channels(kept[i])
    backbone.models = module_list(x for n, x in enumerate(backbone.models) if n != i)
    left = tuple(x for n, x in enumerate(config.model.backbones) if n != i)
    section = dataclasses.replace(config.model, backbones=left)
    return _keep_channels(tasks, kept[i]), dataclasses.replace(config, model=section)


def _keep_channels(tasks: Tasks, kept: Tensor) -> Tasks:
    """Return tasks with only some channels of the features, given their indices."""

    def change(batch: Batch) -> Batch:
        assert batch.images is not None
        return dataclasses.replace(batch, images=batch.images[..., kept])

    return [[change(batch) for batch in batches] for batches in tasks]


def drop_layer(model: Seq2Seq, tasks: Tasks) -> None:
    """Remove the layer without which the loss is lowest.

    Raises:
        ConfigError: The data uses no layer that can be removed.
    """
    used = measure_importance(model, list_units(model), [batches[:1] for batches in tasks])
    losses = {}
    for name, stack in list_stacks(model).items():
        is_used = any(key.startswith(f"{name}.") for key in used)
        removable = range(len(stack.lists[0])) if is_used else ()
        for i in removable if len(removable) > stack.fewest else ():
            layers = [x.pop(i) for x in stack.lists]
            losses[name, i] = mean_loss(model, tasks)
            for x, layer in zip(stack.lists, layers, strict=True):
                x.insert(i, layer)
    if not losses:
        raise ConfigError("no layer is left that can be removed; lower --drop-layers")
    name, i = min(losses, key=losses.__getitem__)
    _logger.info("without layer %d of %s, the loss is %.3f", i, name, losses[name, i])
    for x in list_stacks(model)[name].lists:
        del x[i]


def describe_sizes(model: Seq2Seq, config: ModelConfig) -> ModelConfig:
    """Return the model section for a pruned model."""
    changes: dict[str, dict[str, Any]] = {"": {}, "question": {}}
    for stack in list_stacks(model).values():
        section, _, setting = stack.setting.rpartition(".")
        changes[section][setting] = len(stack.lists[0])
    question = config.question and dataclasses.replace(config.question, **changes["question"])
    answer_ffn = (question and question.decoder_ffn) or config.ffn
    sizes = {}
    for name, units in list_units(model).items():
        ffn = answer_ffn if name.startswith(_ANSWERER) else config.ffn
        count = config.heads if isinstance(units.owner, Attention) else ffn
        if units.count != count:
            sizes[name] = units.count
    return dataclasses.replace(config, question=question, sizes=sizes, **changes[""])
