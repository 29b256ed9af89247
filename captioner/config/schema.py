"""Every setting: its name, its default, what it means, and how it is read and written.

A YAML file states only what differs from the defaults below; `key.path=value` words on the
command line state what differs from the file. The resolved configuration is saved beside the
weights. A key that does not exist is an error that names the nearest one that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from captioner.config.decoding_options import AnswerConfig, DecodingConfig
from captioner.config.parsing import (
    apply_override,
    check_minimum,
    load_yaml,
    parse_value,
    to_dict,
    type_name,
)
from captioner.errors import ConfigError
from captioner.text import one_line


@dataclass(frozen=True)
class SourceConfig:
    """One data set: where it lies, how it is parted, and how often it is seen."""

    root: str | None = None
    """Folder or file of the data set."""
    format: str = "auto"
    """Reader by name (see `captioner.data.READERS`), or `auto` to tell it from the files."""
    images: str | None = None
    """Folder of the images, where it is not the one that the format implies."""
    questions: bool = False
    """Of a captioned data set: learn questions made from its captions, not the captions."""
    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = ("val",)
    val_share: float = 0.1
    """Share of the training images that is held out where the data set has no such split."""
    hold_out: Literal["image", "question"] = "image"
    """What is held out then: whole images, or single questions, whose images stay in training."""
    augment: bool = True
    """False for pictures whose colours or margins decide on the answers."""
    weight: float = 1.0
    """Passes over the data set's images in an epoch."""
    limit: int | None = None
    """Use only the first so many images of each split (smoke runs)."""

    def __post_init__(self) -> None:
        check_minimum("data", self, 1, "limit")
        if not 0 < self.val_share < 1:
            raise ConfigError(f"data.val_share={self.val_share}: expected a share between 0 and 1")
        if self.weight <= 0:
            raise ConfigError(f"data.weight={self.weight}: expected more than 0")


@dataclass(frozen=True)
class DataConfig(SourceConfig):
    """Which rows are read, and how their texts are written down.

    `root` and what goes with it name one data set; `sources` names several that are learnt
    together, each step from one of them.
    """

    sources: tuple[SourceConfig, ...] = ()
    seed: int = 0
    """Of what is held out, and of questions made from captions: a run that starts from another's
    weights keeps it, or it would be tested on what those have learnt."""
    lowercase: bool = True
    """Train on lower-cased texts."""
    captions_per_image: int = 5
    """Captions of one image in one step; of an image that has more, a fresh draw each epoch."""
    questions_per_image: int = 8
    """The same for questions."""
    workers: int = 0
    """Loader processes; 0 loads in the training process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum("data", self, 1, "captions_per_image", "questions_per_image")
        check_minimum("data", self, 0, "workers")
        for setting in fields(SourceConfig) if self.sources else ():
            if getattr(self, setting.name) != setting.default:
                raise ConfigError(
                    f"data.{setting.name} is set beside data.sources; set it for each of the"
                    f" sources that it is meant for, as data.sources.0.{setting.name}"
                )

    @property
    def all_sources(self) -> tuple[SourceConfig, ...]:
        """The data sets of the run."""
        return self.sources or (self,)

    @property
    def roots(self) -> str:
        """Where they lie, for messages."""
        return ", ".join(str(source.root) for source in self.all_sources)


@dataclass(frozen=True)
class TokenizerConfig:
    """The SentencePiece model that is trained on the training captions."""

    kind: Literal["unigram", "bpe"] = "unigram"
    vocab_size: int = 4000
    """Pieces, the four special ones and the 256 bytes of the fallback included."""


@dataclass(frozen=True)
class ImageConfig:
    """From an RGB image to the encoder's pixels; unset values are the backbone's own."""

    size: int | None = None
    """Of both sides. With `train.start`, a size other than its own has its positions interpolated;
    random crops enlarge what they show, so that a model sees best at a size above the one that it
    was trained at (Touvron et al., Fixing the train-test resolution discrepancy, 2019)."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Literal["squash", "crop"] = "squash"
    """`squash` keeps the whole picture, `crop` keeps the aspect and loses the margins."""
    min_scale: float = 0.5
    """Augmentation: the smallest share of the area that a random crop keeps."""
    flip: bool = True
    """Augmentation: left-right flips, with `left` and `right` exchanged in the captions."""
    jitter: float = 0.2
    """Augmentation: the range of brightness, contrast and saturation factors about 1."""

    def __post_init__(self) -> None:
        check_minimum("image", self, 1, "size")
        if not 0 < self.min_scale <= 1:
            raise ConfigError(f"image.min_scale={self.min_scale}: expected a share in (0, 1]")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"image.jitter={self.jitter}: expected 0 to 1")


@dataclass(frozen=True)
class BackboneConfig:
    """One timm model."""

    name: str = "vit_small_patch16_224"
    weights: str = "timm"
    """`timm` (the hub's, by name), `none`, `bundled`, or the path of a safetensors file."""
    remove: tuple[str, ...] = ()
    """Modules, by dotted path, that are replaced with an identity."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""


@dataclass(frozen=True)
class QuestionConfig:
    """How a question is read, and how it meets the image."""

    encoder: str = "shared"
    """`shared`: the decoder's token embedding and Transformer layers of its own; anything else
    is the name or the folder of a Hugging Face text encoder."""
    encoder_layers: int = 2
    """Layers of the `shared` encoder."""
    lora_rank: int = 0
    """Of a Hugging Face encoder: freeze it, and train adapters of this rank, which the checkpoint's
    weights have in them; needs peft. 0 trains the encoder itself."""
    fusion: Literal["concat", "cross_attention", "add", "multiply", "linear"] = "cross_attention"
    """See `captioner.model.fusion`."""
    fusion_layers: int = 2
    """Layers of `concat` and `cross_attention`."""
    linear_memory: Literal["token", "each"] = "token"
    """`linear` gives one memory token, or is added to each position."""
    decoder_layers: int = 0
    """Layers of a decoder for answers alone; with 0, that of the captions writes them."""
    decoder_ffn: int | None = None
    """Its feed-forward width; unset, `model.ffn`."""
    max_length: int = 32
    """Tokens of a question, EOS included; longer ones are truncated in training and counted in the
    data report, and rejected in use."""

    def __post_init__(self) -> None:
        check_minimum("model.question", self, 0, "encoder_layers", "lora_rank", "decoder_layers")
        check_minimum("model.question", self, 1, "fusion_layers", "decoder_ffn")
        check_minimum("model.question", self, 2, "max_length")
        if self.lora_rank and self.encoder == "shared":
            raise ConfigError(
                f"model.question.lora_rank={self.lora_rank}: adapters are for trained weights, and"
                " the shared encoder has none; set model.question.encoder to a Hugging Face text"
                " encoder, or this to 0"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of everything behind the backbone."""

    backbones: tuple[BackboneConfig, ...] = (BackboneConfig(),)
    """With several, their features are concatenated position by position."""
    width: int = 512
    heads: int = 8
    encoder_layers: int = 1
    decoder_layers: int = 4
    ffn: int = 2048
    max_length: int = 40
    """Tokens of a caption, EOS included; longer ones are truncated, and keep their EOS. The data
    report counts them."""
    dropout: float = 0.1
    feature_dropout: float = 0.0
    """Dropout on the backbone's features."""
    question: QuestionConfig | None = None
    """The parts that answer questions; unset is a model that captions only."""
    blind: bool = False
    """The control that sees no image: zeros stand in the place of its features."""

    def __post_init__(self) -> None:
        check_minimum("model", self, 1, "width", "heads", "ffn", "decoder_layers")
        check_minimum("model", self, 0, "encoder_layers")
        check_minimum("model", self, 2, "max_length")
        for name in ("dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"model.{name}={getattr(self, name)}: expected 0 to below 1")
        if self.width % self.heads:
            raise ConfigError(
                f"model.width={self.width} is not a multiple of model.heads={self.heads}"
            )
        if not self.backbones:
            raise ConfigError("model.backbones is empty; name at least one timm model")


@dataclass(frozen=True)
class StageConfig:
    """One stretch of training; the stages follow one another in one run."""

    objective: Literal["cross_entropy", "scst"] = "cross_entropy"
    """What is minimised; `scst` raises the CIDEr-D of the model's own samples."""
    samples: int = 5
    """Captions drawn of each image in a step of `scst`."""
    baseline: Literal["mean", "greedy"] = "mean"
    """What a sample of `scst` is held against: the image's other samples, or a greedy caption."""
    bleu: float = 0.0
    """Weight of BLEU-4 in the reward of `scst`, beside CIDEr-D's 1."""
    epochs: int = 10
    lr: float = 5e-4
    """Peak learning rate of everything behind the backbone."""
    encoder_lr: float = 0.0
    """Peak learning rate of the backbone; 0 freezes it."""
    encoder_decay: float = 1.0
    """Factor on it from each block of the backbone to the block before; 1 treats all alike."""
    encoder_blocks: int | None = None
    """Train only so many last blocks of each backbone; unset, all. The first blocks of a network of
    convolutions have few weights and most of the work."""
    parts: Literal["all", "question"] = "all"
    """`question` trains what captions do not use, on the data sets that ask; what the model says of
    an image then stays as it is, to the bit."""
    warmup: float = 0.05
    """Share of the stage's steps with a rising learning rate; a cosine follows."""
    final_lr: float = 0.0
    """Where the cosine ends, as a share of the peak."""
    augment: bool = True
    weights: tuple[float, ...] = ()
    """Passes over each source's images in an epoch of this stage; unset, `weight` of the source."""
    cached_views: int = 0
    """Frozen only: encode so many augmented views of each image once, then read them back."""

    def __post_init__(self) -> None:
        check_minimum("train.stages", self, 0, "epochs")
        check_minimum("train.stages", self, 1, "encoder_blocks")
        check_minimum("train.stages", self, 2, "samples")
        names = ("lr", "encoder_lr", "warmup", "final_lr", "cached_views", "bleu")
        check_minimum("train.stages", self, 0, *names)
        if self.epochs and not (self.lr or self.encoder_lr):
            raise ConfigError(
                "train.stages: lr=0 and encoder_lr=0 train nothing; set one of them above 0"
            )
        if not 0 < self.encoder_decay <= 1:
            raise ConfigError(
                f"train.stages: encoder_decay={self.encoder_decay}: expected above 0, at most 1"
            )
        if any(weight <= 0 for weight in self.weights):
            raise ConfigError(f"train.stages: weights={self.weights}: expected more than 0 each")
        if self.cached_views and self.encoder_lr:
            raise ConfigError(
                "train.stages: cached_views needs a frozen encoder; set encoder_lr to 0"
                " or cached_views to 0"
            )
        if self.parts == "question" and self.encoder_lr:
            raise ConfigError(
                "train.stages: parts=question leaves the encoder as it is; set encoder_lr to 0"
            )


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    output: str = "runs/captioner"
    start: str | None = None
    """A checkpoint whose weights and tokenizer the run starts from; `bundled` is the shipped."""
    max_length: int | None = None
    """With `start`: the model's limit on captions and answers, in tokens, raised to this."""
    question_max_length: int | None = None
    """With `start`: the model's limit on questions, in tokens, raised to this."""
    soup: tuple[str, ...] = ()
    """Checkpoints whose weights are averaged with those of `start`, which has all parts that they
    have (Wortsman et al., Model soups, ICML 2022). A name that recurs counts as often."""
    validate_start: bool = False
    """Validate the start as well, as epoch -1, and keep it where no epoch is better. With a stage
    of 0 epochs, that is all that is done."""
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    batch_size: int = 32
    """Images of one step on one device."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the weights' moving average, which is what is evaluated and kept; 0 is off."""
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Of autocast. `auto` is bf16 where the device computes it fast, and no (float32) elsewhere: a
    CPU without instructions for bfloat16 takes several times as long for a step in bf16."""
    compile: bool = False
    """Hand backbone, memory encoder and decoder to torch.compile for the steps of training. Needs a
    C++ compiler; a resumed run is then an unstopped one but for rounding. Of no use on a CPU: the
    same step took 0.99 to 1.04 of its time (benchmarks/README.md)."""
    patience: int = 5
    """Evaluations without a better validation CIDEr-D before a stage ends early."""
    eval_every: int = 1
    """Epochs between evaluations."""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the weights in the best checkpoint; the state that a run resumes from is float32."""
    eval_images: int | None = None
    """Validate on the first so many images only."""
    save_every: int = 1000
    """Steps between states to resume from; the end of an epoch is always one."""
    keep: int = 2
    """States that are kept."""
    bad_steps: int = 10
    """Steps in a row without a finite gradient, which are left out, before a run stops."""
    tracker: Literal["none", "tensorboard"] = "tensorboard"
    threads: int | None = None
    """CPU threads of PyTorch; unset is PyTorch's own choice."""
    cache: str = "runs/cache"
    """Folder of cached features."""
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("batch_size", "accumulate", "patience", "eval_every", "eval_images", "threads")
        names += ("save_every", "keep", "bad_steps", "max_length", "question_max_length")
        check_minimum("train", self, 1, *names)
        check_minimum("train", self, 0, "weight_decay", "clip")
        if not self.stages:
            raise ConfigError("train.stages is empty; name at least one stage")
        if self.soup and not self.start:
            raise ConfigError("train.soup is averaged with train.start, which is not set")
        for name in ("max_length", "question_max_length"):
            if getattr(self, name) and not self.start:
                setting = f"model.{name.replace('_max', '.max')}"
                raise ConfigError(
                    f"train.{name} raises the limit of train.start, which is not set; set {setting}"
                )
        for number, stage in enumerate(self.stages):
            if not stage.epochs and not (self.validate_start and self.start and number == 0):
                raise ConfigError(
                    f"train.stages.{number}: epochs=0 is for the first stage of a run with"
                    " train.start and train.validate_start"
                )
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"train.{name}={getattr(self, name)}: expected 0 to below 1")


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

    def __post_init__(self) -> None:
        for section in ("decoding", "answers") if self.model.question else ("decoding",):
            length = getattr(self, section).max_length
            limit = max(self.model.max_length, self.train.max_length or 0)
            if length > limit:
                raise ConfigError(
                    f"{section}.max_length={length} exceeds"
                    f" model.max_length={limit}, the positions the decoder has"
                )
        sources = len(self.data.all_sources)
        for number, stage in enumerate(self.train.stages):
            if len(stage.weights) not in (0, sources):
                raise ConfigError(
                    f"train.stages.{number}: {len(stage.weights)} weights for {sources} source(s);"
                    " expected one for each"
                )


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file (or only the defaults) and apply `key.path=value` words.

    Raises:
        ConfigError: the file is missing or no YAML, a key is unknown, a value has another type.
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
    """Write the whole configuration as YAML; `load_config` reads it back equal."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False)
    Path(path).write_text(text, encoding="utf-8")
