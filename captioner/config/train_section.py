"""The section `train` of a configuration: the stages, optimization, validation and saving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captioner.config.parsing import check_interval, check_minimum
from captioner.config.stage_graph import check_graph
from captioner.config.teacher_options import TeacherConfig
from captioner.errors import ConfigError


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: its start, its objective and what it trains."""

    name: str = ""
    """Unique name, for logs, `start`, `average` and the folder `stages/NAME` of the run; unset, the
    number of the stage."""
    start: str | None = None
    """Name of the earlier stage whose result this stage starts from; unset, the previous stage."""
    average: tuple[str, ...] = ()
    """Start from the greedy soup of the results and the kept checkpoints of these earlier stages:
    their weights are averaged as long as the validation score does not fall (Wortsman et al.,
    2022)."""
    snapshots: int = 1
    """Checkpoints of this stage to keep for `average`: the best ones by the validation score."""
    size: int | None = None
    """Image size; position embeddings are interpolated. Unset, that of the stage it starts from, or
    of the last one in `average`; for the first stage, `image.size`."""
    min_scale: float | None = None
    """Smallest scale of the crops in this stage; unset, `image.min_scale`."""
    jitter: float | None = None
    """Strength of the color jitter in this stage; unset, `image.jitter`."""
    objective: Literal["cross_entropy", "scst"] = "cross_entropy"
    """Cross-entropy, or self-critical sequence training (SCST) with CIDEr-D as the reward."""
    samples: int = 5
    """SCST: captions sampled per image and step."""
    baseline: Literal["mean", "greedy"] = "mean"
    """SCST: baseline of the reward, the mean of the image's other samples or a greedy caption."""
    temperature: float = 1.0
    """SCST: divides the logits of the policy. Below 1, samples have fewer improbable words, whose
    probability label smoothing raises."""
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
        check_interval("train.stages", self, "(0, inf)", "temperature")
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
    """Checkpoint whose weights and tokenizer the run starts from: a folder, `bundled` or
    `hf-hub:USER/NAME[@REVISION]`."""
    max_length: int | None = None
    """With `start`: raise the longest caption and answer of its model to this many tokens."""
    question_max_length: int | None = None
    """With `start`: raise the longest question of its model to this many tokens."""
    lora_rank: int = 0
    """With `start`, the folder of a transformers model: rank of LoRA adapters on its linear layers,
    which are trained instead of its weights (Hu et al., 2022) and merged into them when a
    checkpoint is saved; 0 trains the weights."""
    soup: tuple[str, ...] = ()
    """Model soup: checkpoints whose weights are averaged with those of `start`, which must have all
    their parts (Wortsman et al., "Model Soups", ICML 2022). A repeated name counts repeatedly."""
    teacher: TeacherConfig | None = None
    """Distillation: checkpoints whose outputs are learned; see `TeacherConfig`."""
    validate_start: bool = False
    """Validate the start as epoch -1 too, and keep it if no epoch is better. With a single stage of
    0 epochs, the run only validates."""
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    """The stages of training, in order. They form a graph: see `start` and `average`."""
    batch_size: int = 32
    """Images per step and device."""
    accumulate: int = 1
    """Gradient accumulation: batches per optimizer step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """AdamW, whose weight decay is separate from the gradient; or Adam or stochastic gradient
    descent, whose weight decay is an L2 penalty: set `weight_decay` to 0 for them. `sgd` needs a
    learning rate that is 10 to 100 times as high."""
    momentum: float = 0.9
    """Momentum of `sgd`, 0 to below 1."""
    weight_decay: float = 0.05
    """Weight decay of matrices."""
    label_smoothing: float = 0.1
    """Label smoothing of the cross-entropy, 0 to below 1."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Betas of AdamW and Adam."""
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
    modality_dropout: float = 0.5
    """Models of images and recordings: probability of leaving out one of them, chosen at random,
    from a training example that has both, 0 to 1."""
    patience: int = 5
    """Early stopping: validations without a better score before a stage ends."""
    eval_every: int = 1
    """Epochs between validations."""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in the best checkpoint; states for resuming and the checkpoints of stages
    are always float32."""
    kinds: bool = False
    """At the end, train the recognition of images that are not photographs (text, screenshots,
    charts, icons, drawings, renderings, blank images) from images that are rendered for it."""
    export: Literal["none", "float32", "int8"] = "none"
    """At the end, write the ONNX graphs of the best checkpoint, as `captioner export --dtype`."""
    eval_images: int | None = None
    """Validate on at most this many images of each data set, the first ones; unset, on all."""
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
        check_minimum("train", self, 0, "weight_decay", "clip", "lora_rank")
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
        check_interval("train", self, "[0, 1)", "label_smoothing", "ema", "momentum")
        check_interval("train", self, "[0, 1]", "modality_dropout")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"train.betas={list(self.betas)}: expected two numbers in [0, 1)")
