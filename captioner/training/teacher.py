"""Distillation from a teacher's next-token distributions and memories.

Word-level distillation adds the divergence from the teacher's distribution to the loss (Hinton et
al., Distilling the knowledge in a neural network, 2015; for texts: Kim and Rush, Sequence-level
knowledge distillation, 2016, section 3.1). Feature matching pulls the memory of the student towards
that of the teacher (Romero et al., FitNets, 2015).

The teacher needs no gradient and no random numbers, and the state of a run does not contain it.

Shapes: B images, H, W pixels, P positions, C channels, D width, M tokens that are not padding, V
vocabulary.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.audio import AudioSpec
from captioner.build import load_checkpoint
from captioner.checkpoint.pixel_format import pixel_spec
from captioner.config import Config, ModelConfig, TeacherConfig
from captioner.data.collate import Batch
from captioner.errors import ConfigError
from captioner.images.transforms import PixelSpec
from captioner.model.image_encoder import MemoryEncoder
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Teacher:
    """The models of one or several checkpoints, and the losses of distillation from them.

    Args:
        settings: The weights of the losses.
        models: The members; they are set to evaluation mode and frozen.
        specs: The input of each member.
        student: The input of the student; the size may be another in some stages.
        knows_questions: Whether all members can answer the questions of the student.
    """

    def __init__(
        self,
        settings: TeacherConfig,
        models: Sequence[Seq2Seq],
        specs: Sequence[PixelSpec],
        *,
        student: PixelSpec,
        knows_questions: bool,
    ) -> None:
        self.settings, self.specs, self.student = settings, specs, student
        self.knows_questions = knows_questions
        self.models = [model.eval().requires_grad_(False) for model in models]

    def add_losses(
        self,
        total: Tensor,
        logits: Tensor,
        memory: Tensor,
        batch: Batch,
        *,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Combine the loss of a batch with the losses of distillation.

        Args:
            total: The cross-entropy, summed over the M tokens.
            logits: Those of the student, (M, V).
            memory: That of the student, (B, P, D).
            batch: The batch, with pixels or the features of a backbone that all members share.
            weights: The weights of the tokens, (M,), or 1.

        Returns:
            The loss, summed over the M tokens.
        """
        words, features = self.settings.words, self.settings.features
        memories = self.encode(batch)
        if words and (batch.questions is None or self.knows_questions):
            targets = self.predict(memories, batch)
            temperature = self.settings.temperature
            divergence = distillation_loss(
                logits, targets, temperature=temperature, weights=weights
            )
            total = (1 - words) * total + words * divergence
        if features:
            losses = [memory_loss(memory, target) for target in memories]
            count = len(logits) if batch.weights is None else batch.count()
            total = total + features * count * torch.stack(losses).mean()
        return total

    @torch.no_grad()
    def encode(self, batch: Batch) -> list[Tensor]:
        """Return the memory (B, P, D) of each member."""
        assert batch.images is not None
        views = [batch.images] * len(self.specs)
        if batch.images.ndim == 4:
            views = [convert(batch.images, self.student, spec) for spec in self.specs]
        return [model.encode(view) for model, view in zip(self.models, views, strict=True)]

    @torch.no_grad()
    def predict(self, memories: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """Return the logits (M, V) of each member at the tokens of a batch."""
        logits = []
        for model, memory in zip(self.models, memories, strict=True):
            mask = None
            if batch.questions is not None:
                assert batch.owners is not None
                memory, mask = model.fuse_questions(memory, batch.questions, batch.owners)
            answers = batch.questions is not None
            logits.append(model.decode(memory, batch.tokens, mask, answers=answers))
        return logits

    def check_features(self, backbone: nn.Module, spec: PixelSpec | AudioSpec, where: str) -> None:
        """Raise ConfigError unless all members can use cached features of a backbone."""
        for model, own in zip(self.models, self.specs, strict=True):
            if own != spec or not _are_equal(model.backbone, backbone):
                raise ConfigError(
                    f"{where}: cached_views stores features that train.teacher cannot use, because"
                    " its backbone or image size differs; set cached_views=0"
                )


def distillation_loss(
    logits: Tensor,
    targets: Sequence[Tensor],
    *,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the divergence of logits (M, V) from those of the members, summed over the tokens.

    The tokens have weights (M,) or 1.

    It is the Kullback-Leibler divergence from the mean of the members' distributions at a
    temperature. The factor temperature^2 keeps the size of the gradient (Hinton et al., section 2).
    """
    members = [(target.float() / temperature).log_softmax(-1) for target in targets]
    target = torch.stack(members).logsumexp(0) - math.log(len(members))  # (M, V)
    own = (logits.float() / temperature).log_softmax(-1)
    if weights is None:
        return F.kl_div(own, target, log_target=True, reduction="sum") * temperature**2
    losses = F.kl_div(own, target, log_target=True, reduction="none").sum(-1)  # (M,)
    return (losses * weights).sum() * temperature**2


def memory_loss(memory: Tensor, target: Tensor) -> Tensor:
    """Return the distance of a memory (B, P, D) from another, whose P and D may differ.

    It is the mean squared error. Between different widths, it is that of the cosine similarities of
    all pairs of positions, which do not depend on the width (Tung and Mori, Similarity-preserving
    knowledge distillation, 2019).
    """
    memory, target = memory.float(), resample(target.float(), memory.shape[1])
    if memory.shape[-1] != target.shape[-1]:
        memory, target = (_similarities(x) for x in (memory, target))
    return F.mse_loss(memory, target)


def _similarities(x: Tensor) -> Tensor:
    """Return the cosine similarities (B, P, P) of the positions of x (B, P, D)."""
    x = F.normalize(x, dim=-1)
    return x @ x.transpose(1, 2)


def resample(memory: Tensor, positions: int) -> Tensor:
    """Return a memory (B, P, D) of a square grid with another number of positions."""
    if memory.shape[1] == positions:
        return memory
    old, new = math.isqrt(memory.shape[1]), math.isqrt(positions)
    grid = memory.transpose(1, 2).unflatten(2, (old, old))  # (B, D, S, S)
    grid = F.interpolate(grid, (new, new), mode="bilinear", antialias=True)
    return grid.flatten(2).transpose(1, 2)


def convert(pixels: Tensor, spec: PixelSpec, other: PixelSpec) -> Tensor:
    """Return normalized pixels (B, 3, H, W) with the size, mean and deviation of another format."""
    if pixels.shape[-2:] != other.size:
        pixels = F.interpolate(pixels, other.size, mode="bilinear", antialias=True)
    if (other.mean, other.std) == (spec.mean, spec.std):
        return pixels
    mean, std, new_mean, new_std = (
        pixels.new_tensor(values)[:, None, None]
        for values in (spec.mean, spec.std, other.mean, other.std)
    )
    return (pixels * std + mean - new_mean) / new_std


@contextmanager
def capture_memory(model: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list to which each call of a model, possibly wrapped, adds its memory (B, P, D)."""
    memories: list[Tensor] = []
    encoder = next(m for m in model.modules() if isinstance(m, MemoryEncoder))
    hook = encoder.register_forward_hook(lambda _, inputs, output: memories.append(output))
    try:
        yield memories
    finally:
        hook.remove()


def load_teacher(model: Seq2Seq, tokenizer: Tokenizer, config: Config) -> Teacher | None:
    """Load the teacher of a run, if its losses need one, on the device of the student.

    Raises:
        CheckpointError: A checkpoint cannot be read.
        ConfigError: It does not fit the student.
    """
    settings = config.train.teacher
    if settings is None or not (settings.words or settings.features):
        return None
    members = [load_checkpoint(name, for_training=True) for name in settings.checkpoints]
    for name, (teacher, teacher_tokenizer, own) in zip(settings.checkpoints, members, strict=True):
        check_takes_images(name, own)
        if settings.words:
            _check_words(name, teacher, teacher_tokenizer, model, tokenizer)
        if settings.features:
            _check_positions(name, teacher, model)
    knows = all(_reads_questions(theirs.model, config.model) for *_, theirs in members)
    if config.model.question and settings.words and not knows:
        logger.warning("train.teacher is not used for answers: it cannot read these questions")
    device = model.memory_encoder.positions.device
    models = [teacher.to(device) for teacher, *_ in members]
    specs = [pixel_spec(theirs) for *_, theirs in members]
    student = pixel_spec(config)
    return Teacher(settings, models, specs, student=student, knows_questions=knows)


def check_takes_images(name: str, teacher: Config) -> None:
    """Raise ConfigError unless a teacher takes images, and images only."""
    if not teacher.model.backbones or teacher.model.audio:
        raise ConfigError(
            f"train.teacher: {name}: it takes recordings; expected a checkpoint that takes images"
            " only"
        )


def _reads_questions(teacher: ModelConfig, student: ModelConfig) -> bool:
    """Return whether a teacher decodes the answers and can read the questions of a student."""
    theirs, own = teacher.question, student.question
    if theirs is None or own is None or theirs.encoder != own.encoder:
        return False
    if theirs.classes or own.classes:
        return False
    return theirs.max_length >= own.max_length


def _check_words(
    name: str, teacher: Seq2Seq, theirs: Tokenizer, model: Seq2Seq, own: Tokenizer
) -> None:
    """Raise ConfigError unless the teacher's decoder can read the tokens of the student's texts.

    Each model is followed by its tokenizer.
    """
    if theirs.model != own.model:
        raise ConfigError(
            f"train.teacher: {name}: its tokenizer differs, and word-level distillation needs the"
            " same tokens; set train.teacher.words=0, or start from a checkpoint with its tokenizer"
        )
    if teacher.decoder.max_length < model.decoder.max_length:
        raise ConfigError(
            f"train.teacher: {name}: it has {teacher.decoder.max_length} positions for tokens, and"
            f" the student {model.decoder.max_length}; set train.teacher.words=0"
        )


def _check_positions(name: str, teacher: Seq2Seq, model: Seq2Seq) -> None:
    """Raise ConfigError unless the memory of a teacher can be resampled to that of the student."""
    counts = [len(x.memory_encoder.positions) for x in (model, teacher)]
    if counts[0] != counts[1] and any(math.isqrt(n) ** 2 != n for n in counts):
        raise ConfigError(
            f"train.teacher: {name}: {counts[1]} positions cannot be compared with {counts[0]}:"
            " expected two square grids; set train.teacher.features=0"
        )


def _are_equal(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules compute the same."""
    if str(one) != str(other):
        return False
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b.to(a.device)) for a, b in pairs)
