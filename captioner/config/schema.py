"""The settings of a run, with their defaults, and how they are read and written.

A YAML file lists only differences from the defaults below, and `key.path=value` words on the
command line list differences from the file. The resolved configuration is saved next to the
weights. An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from captioner.config.confidence_options import ConfidenceConfig
from captioner.config.decoding_options import AnswerConfig, DecodingConfig
from captioner.config.parsing import (
    apply_override,
    check_interval,
    check_minimum,
    load_yaml,
    parse_value,
    to_dict,
    type_name,
)
from captioner.config.stage_graph import check_graph
from captioner.config.teacher_options import TeacherConfig
from captioner.errors import ConfigError
from captioner.text import one_line


@dataclass(frozen=True)
class SourceConfig:
    """One data set: its location, its splits and its weight in training."""

    root: str | None = None
    """Folder or file of the data set."""
    format: str = "auto"
    """Name of the reader (see `captioner.data.READERS`); `auto` detects it from the files."""
    images: str | None = None
    """Folder of the images; unset, the usual folders of the format."""
    questions: bool = False
    """Train on questions that are made from the captions or tags, instead of on these."""
    captions: bool = False
    """Train on captions that are made from the questions, instead of on the questions."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits for training."""
    val_splits: tuple[str, ...] = ("val",)
    """Splits for validation."""
    val_share: float = 0.1
    """Share of the training images to hold out if the data set has no validation split, 0 to 1."""
    hold_out: Literal["image", "question"] = "image"
    """Unit to hold out: whole images, or single questions, whose images stay in training."""
    augment: bool = True
    """Augment the images; False if colors or margins determine the answers."""
    weight: float = 1.0
    """Passes over the images of the data set per epoch."""
    rank: bool = True
    """Count in the score that ranks checkpoints; False only validates and logs the data set."""
    limit: int | None = None
    """Use only the first images of each split, at most this many (for smoke tests)."""
    eval_images: int | None = None
    """During training, validate on at most this many images of the data set, the first ones; 0 does
    not validate on it, and unset, `train.eval_images` applies."""

    def __post_init__(self) -> None:
        check_minimum("data", self, 1, "limit")
        check_minimum("data", self, 0, "eval_images")
        if self.questions and self.captions:
            problem = "questions and captions cannot both be true; list the source twice"
            raise ConfigError(f"data: {problem}")
        check_interval("data", self, "(0, 1)", "val_share")
        check_interval("data", self, "(0, inf)", "weight")


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """The data sets of a run: either one, by `root` and the settings beside it, or `sources`."""

    sources: tuple[SourceConfig, ...] = ()
    """Several data sets to train on together; each step takes one of them."""
    seed: int = 0
    """Seed of the rows held out and of questions made from captions or tags. With `train.start`,
    keep the seed of that checkpoint: otherwise validation includes its training rows."""
    lowercase: bool = True
    """Convert texts to lower case."""
    captions_per_image: int = 5
    """Captions per image and step; of an image with more, a new sample is drawn each epoch."""
    questions_per_image: int = 8
    """Questions per image and step, drawn in the same way."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum("data", self, 1, "captions_per_image", "questions_per_image")
        check_minimum("data", self, 0, "workers")
        for setting in fields(SourceConfig) if self.sources else ():
            if getattr(self, setting.name) != setting.default:
                name, hint = setting.name, f"set it per source, as data.sources.0.{setting.name}"
                raise ConfigError(f"data.{name} cannot be combined with data.sources; {hint}")

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        """All data sets of the run."""
        return self.sources or (self,)

    @property
    def roots(self) -> str:
        """Their locations, for messages."""
        return ", ".join(str(source.root) for source in self.all_sources)


@dataclass(frozen=True)
class TokenizerConfig:
    """The SentencePiece model, which is trained on the training texts."""

    kind: Literal["unigram", "bpe"] = "unigram"
    """Unigram language model or byte-pair encoding."""
    vocab_size: int = 4000
    """Pieces, including the 4 special ones and the 256 bytes of the fallback."""


@dataclass(frozen=True)
class ImageConfig:
    """Preprocessing and augmentation of images; unset values are those of the backbone."""

    size: int | None = None
    """Height and width in pixels. If it differs from that of `train.start`, position embeddings are
    interpolated. A size above that of training can be better for evaluation, because random crops
    enlarge objects (Touvron et al., "Fixing the Train-Test Resolution Discrepancy", 2019)."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel, for normalization."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, for normalization."""
    resize: Literal["squash", "crop"] = "squash"
    """`squash` distorts the image to a square; `crop` keeps the aspect ratio and cuts margins."""
    min_scale: float = 0.5
    """Augmentation: smallest share of the area that a random crop keeps, above 0, up to 1."""
    flip: bool = True
    """Augmentation: horizontal flips, with `left` and `right` exchanged in the captions."""
    jitter: float = 0.2
    """Augmentation: brightness, contrast and saturation factors are 1 +- at most this, 0 to 1."""

    def __post_init__(self) -> None:
        check_minimum("image", self, 1, "size")
        check_interval("image", self, "(0, 1]", "min_scale")
        check_interval("image", self, "[0, 1]", "jitter")


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model that encodes images."""

    name: str = "vit_small_patch16_224"
    """Name of the timm model."""
    weights: str = "timm"
    """`timm` (from the Hugging Face Hub), `none`, `bundled`, or the path of a safetensors file."""
    remove: tuple[str, ...] = ()
    """Dotted names of modules that are replaced with an identity."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""


@dataclass(frozen=True)
class QuestionConfig:
    """The question encoder, and its fusion with the image features."""

    encoder: str = "shared"
    """`shared` (the token embedding of the decoder and own Transformer layers), or the name or
    folder of a Hugging Face text encoder."""
    encoder_layers: int = 2
    """Layers of the `shared` encoder."""
    lora_rank: int = 0
    """Rank of LoRA adapters of a Hugging Face encoder (needs peft); 0 trains the encoder itself.
    The encoder is frozen, and the adapters are merged into the weights of the checkpoint."""
    fusion: Literal["concat", "cross_attention", "add", "multiply", "linear"] = "cross_attention"
    """Fusion of question and image; see `captioner.model.fusion`."""
    fusion_layers: int = 2
    """Layers of the fusions `concat` and `cross_attention`."""
    linear_memory: Literal["token", "each"] = "token"
    """The fusion `linear` gives one memory token, or is added to each memory position."""
    decoder_layers: int = 0
    """Layers of a separate decoder for answers; 0 uses the caption decoder."""
    decoder_ffn: int | None = None
    """Feed-forward width of that decoder; unset, `model.ffn`."""
    max_length: int = 32
    """Longest question in tokens, including EOS; longer ones are truncated in training (the data
    report counts them) and rejected in use."""

    def __post_init__(self) -> None:
        check_minimum("model.question", self, 0, "encoder_layers", "lora_rank", "decoder_layers")
        check_minimum("model.question", self, 1, "fusion_layers", "decoder_ffn")
        check_minimum("model.question", self, 2, "max_length")
        if self.lora_rank and self.encoder == "shared":
            raise ConfigError(
                f"model.question.lora_rank={self.lora_rank}: adapters need a pretrained encoder;"
                " set model.question.encoder to a Hugging Face text encoder, or lora_rank to 0"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of the model."""

    backbones: tuple[BackboneConfig, ...] = (BackboneConfig(),)
    """Image backbones; the features of several are concatenated per position."""
    width: int = 512
    """Width of the Transformer layers after the backbone; a multiple of `heads`."""
    heads: int = 8
    """Attention heads."""
    encoder_layers: int = 1
    """Transformer layers on the features of the backbone."""
    decoder_layers: int = 4
    """Layers of the caption decoder."""
    ffn: int = 2048
    """Width of the feed-forward layers."""
    max_length: int = 40
    """Longest caption in tokens, including EOS; longer ones are truncated before EOS (the data
    report counts them)."""
    dropout: float = 0.1
    """Dropout of the Transformer layers, 0 to below 1."""
    feature_dropout: float = 0.0
    """Dropout on the features of the backbone, 0 to below 1."""
    question: QuestionConfig | None = None
    """The parts for question answering; unset, the model only captions."""
    blind: bool = False
    """Replace the image features by zeros: the blind baseline of question answering."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Layers that differ from `heads` or `ffn`, by name (`decoder.layers.0.self_attn: 4`,
    `decoder.layers.0.ffn: 800`); written by `captioner export --prune`."""

    def __post_init__(self) -> None:
        check_minimum("model", self, 1, "width", "heads", "ffn", "decoder_layers")
        for name, size in self.sizes.items():
            if type(size) is not int or size < 1:
                raise ConfigError(f"model.sizes: {name}: {size!r}: expected a number above 0")
        check_minimum("model", self, 0, "encoder_layers")
        check_minimum("model", self, 2, "max_length")
        check_interval("model", self, "[0, 1)", "dropout", "feature_dropout")
        if self.width % self.heads:
            problem = f"is not a multiple of model.heads={self.heads}"
            raise ConfigError(f"model.width={self.width} {problem}")
        if not self.backbones:
            raise ConfigError("model.backbones is empty; name at least one timm model")


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: its start, its objective and what it trains."""

    name: str = ""
    """Unique name, for logs, `start`, `average` and the folder `stages/NAME` of the run; unset, the
    number of the stage."""
    start: str | None = None
    """Name of the earlier stage whose result this stage starts from; unset, the previous stage."""
    average: tuple[str, ...] = ()
    """Start from the greedy soup of the checkpoints that these earlier stages have kept: their
    weights are averaged as long as the validation score does not fall (Wortsman et al., 2022)."""
    snapshots: int = 1
    """Checkpoints of this stage to keep for `average`: the best ones by the validation score."""
    size: int | None = None
    """Image size; position embeddings are interpolated. Unset, that of the stage it starts from, or
    of the last one in `average`; for the first stage, `image.size`."""
    min_scale: float | None = None
    """Augmentation of this stage; unset, `image.min_scale`."""
    jitter: float | None = None
    """Augmentation of this stage; unset, `image.jitter`."""
    objective: Literal["cross_entropy", "scst"] = "cross_entropy"
    """Cross-entropy, or self-critical sequence training (SCST) with CIDEr-D as the reward."""
    samples: int = 5
    """SCST: captions sampled per image and step."""
    baseline: Literal["mean", "greedy"] = "mean"
    """SCST: baseline of the reward, the mean of the image's other samples or a greedy caption."""
    bleu: float = 0.0
    """SCST: weight of BLEU-4 in the reward, relative to that of CIDEr-D."""
    epochs: int = 10
    """Passes over the data."""
    lr: float = 5e-4
    """Peak learning rate of all parts except the backbone."""
    encoder_lr: float = 0.0
    """Peak learning rate of the backbone; 0 freezes it."""
    encoder_decay: float = 1.0
    """Layer-wise decay: factor on `encoder_lr` from each block of the backbone to the previous."""
    encoder_blocks: int | None = None
    """Train only this many last blocks of each backbone; unset, all. The first blocks of a
    convolutional network have few weights but take most of the time."""
    parts: Literal["all", "question"] = "all"
    """`question` trains only parts that captions do not use, on question data; the captions of the
    model stay exactly the same."""
    warmup: float = 0.05
    """Share of the steps with linear warm-up of the learning rate; cosine decay follows."""
    final_lr: float = 0.0
    """Learning rate at the end of the cosine decay, as a share of the peak."""
    augment: bool = True
    """Augment the images in this stage."""
    weights: tuple[float, ...] = ()
    """Passes over the images of each source per epoch, 0 to leave it out; unset, the `weight` of
    the source. Only sources that the stage trains are validated."""
    cached_views: int = 0
    """Frozen backbone: cache the features of this many augmented views per image; 0 is off."""

    def __post_init__(self) -> None:
        check_minimum("train.stages", self, 0, "epochs")
        check_minimum("train.stages", self, 1, "encoder_blocks", "snapshots", "size")
        check_minimum("train.stages", self, 2, "samples")
        names = ("lr", "encoder_lr", "warmup", "final_lr", "cached_views", "bleu")
        check_minimum("train.stages", self, 0, *names)
        if self.epochs and not (self.lr or self.encoder_lr):
            problem = "lr=0 and encoder_lr=0 train nothing; set one of them above 0"
            raise ConfigError(f"train.stages: {problem}")
        check_interval("train.stages", self, "(0, 1]", "encoder_decay")
        if self.min_scale is not None:
            check_interval("train.stages", self, "(0, 1]", "min_scale")
        if self.jitter is not None:
            check_interval("train.stages", self, "[0, 1]", "jitter")
        if self.weights and not (min(self.weights) >= 0 < max(self.weights)):
            problem = "expected numbers of at least 0, one of them above 0"
            raise ConfigError(f"train.stages: weights={self.weights}: {problem}")
        if self.cached_views and self.encoder_lr:
            hint = "set encoder_lr to 0 or cached_views to 0"
            raise ConfigError(f"train.stages: cached_views needs a frozen encoder; {hint}")
        if self.parts == "question" and self.encoder_lr:
            problem = "parts=question does not train the backbone; set encoder_lr to 0"
            raise ConfigError(f"train.stages: {problem}")


@dataclass(frozen=True)
class TrainConfig:
    """Optimization, validation and saving."""

    output: str = "runs/captioner"
    """Folder of the run: checkpoints, logs and reports."""
    start: str | None = None
    """Checkpoint whose weights and tokenizer the run starts from: a folder or `bundled`."""
    max_length: int | None = None
    """With `start`: raise the longest caption and answer of its model to this many tokens."""
    question_max_length: int | None = None
    """With `start`: raise the longest question of its model to this many tokens."""
    soup: tuple[str, ...] = ()
    """Model soup: checkpoints whose weights are averaged with those of `start`, which must have all
    their parts (Wortsman et al., "Model Soups", ICML 2022). A repeated name counts repeatedly."""
    teacher: TeacherConfig | None = None
    """Distillation: checkpoints whose outputs are learned; see `TeacherConfig`. Unset, there is no
    teacher."""
    validate_start: bool = False
    """Validate the start as epoch -1 too, and keep it if no epoch is better. With a single stage of
    0 epochs, the run only validates."""
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    """The stages of training, in order. They form a graph: see `start` and `average`."""
    batch_size: int = 32
    """Images per step and device."""
    accumulate: int = 1
    """Gradient accumulation: batches per optimizer step."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    label_smoothing: float = 0.1
    """Label smoothing of the cross-entropy, 0 to below 1."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Betas of AdamW."""
    clip: float = 1.0
    """Gradient clipping: largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the exponential moving average (EMA) of the weights, which is validated and saved;
    0 is off."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Mixed precision (autocast). `no` is float32; `auto` is bf16 if the device has fast bfloat16
    instructions, otherwise `no`: without them, a step on a CPU takes several times as long."""
    compile: bool = False
    """Compile the backbone, memory encoder and decoder by torch.compile; needs a C++ compiler. A
    resumed run then equals an uninterrupted one up to rounding. No gain on a CPU: a step took 0.99
    to 1.04 of its time (benchmarks/README.md)."""
    patience: int = 5
    """Early stopping: validations without a better score before a stage ends."""
    eval_every: int = 1
    """Epochs between validations."""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in the best checkpoint; states for resuming and the checkpoints of stages
    are always float32."""
    export: Literal["none", "float32", "int8"] = "none"
    """At the end, write the ONNX graphs of the best checkpoint, as `captioner export --dtype`."""
    eval_images: int | None = None
    """Validate on at most this many images, the first ones; unset, on all."""
    save_every: int = 1000
    """Steps between saved states for resuming; a state is also saved at the end of each epoch."""
    keep: int = 2
    """Saved states to keep."""
    bad_steps: int = 10
    """Successive steps without a finite gradient, which are skipped, before the run stops."""
    tracker: Literal["none", "tensorboard"] = "tensorboard"
    """Experiment tracker."""
    threads: int | None = None
    """CPU threads of PyTorch; unset, the default of PyTorch."""
    cache: str = "runs/cache"
    """Folder of cached features."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, augmentation and dropout."""

    def __post_init__(self) -> None:
        names = ["batch_size", "accumulate", "patience", "eval_every", "eval_images", "threads"]
        names += ["save_every", "keep", "bad_steps", "max_length", "question_max_length"]
        check_minimum("train", self, 1, *names)
        check_minimum("train", self, 0, "weight_decay", "clip")
        if not self.stages:
            raise ConfigError("train.stages is empty; name at least one stage")
        if self.soup and not self.start:
            raise ConfigError("train.soup requires train.start; the weights of both are averaged")
        for name in ("max_length", "question_max_length"):
            if getattr(self, name) and not self.start:
                hint = f"set model.{name.replace('_max', '.max')}"
                raise ConfigError(f"train.{name} needs train.start, which is not set; {hint}")
        check_graph(self.stages)
        for number, stage in enumerate(self.stages):
            validates = self.validate_start and self.start and number == 0
            if not (stage.epochs or stage.average or validates):
                raise ConfigError(
                    f"train.stages.{number}: epochs=0 is allowed only with `average`, or in the"
                    " first stage with train.start and train.validate_start"
                )
        check_interval("train", self, "[0, 1)", "label_smoothing", "ema")


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    answers: AnswerConfig = field(default_factory=AnswerConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)

    def __post_init__(self) -> None:
        for section in ("decoding", "answers") if self.model.question else ("decoding",):
            length = getattr(self, section).max_length
            limit = max(self.model.max_length, self.train.max_length or 0)
            if length > limit:
                limits = f"model.max_length={limit}, the number of positions of the decoder"
                raise ConfigError(f"{section}.max_length={length} exceeds {limits}")
        sources = len(self.data.all_sources)
        for number, stage in enumerate(self.train.stages):
            if len(stage.weights) not in (0, sources):
                counts = f"{len(stage.weights)} weights for {sources} source(s)"
                raise ConfigError(f"train.stages.{number}: {counts}; expected one per source")


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file (None for the defaults) and apply `key.path=value` overrides.

    Raises:
        ConfigError: The file cannot be read as YAML, a key is unknown, or a value is not valid.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = load_yaml(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: cannot be read as YAML: {one_line(error)}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: expected a mapping of settings, found a {type_name(data)}")
    for word in overrides:
        apply_override(data, word)
    return parse_value(Config, data)


def save_config(config: Config, path: str | Path) -> None:
    """Write the whole configuration as YAML, for `load_config`."""
    Path(path).write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")
