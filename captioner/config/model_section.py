"""The section `model` of a configuration: the architecture of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from captioner.config.parsing import check_interval, check_minimum
from captioner.errors import ConfigError


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model that encodes images or spectrograms."""

    name: str = "vit_small_patch16_224"
    """Name of the timm model."""
    weights: str = "timm"
    """`timm` (from the Hugging Face Hub), `none`, `bundled`, or the path of a safetensors file."""
    remove: tuple[str, ...] = ()
    """Dotted names of modules that are replaced with an identity."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""


GraphLayerKind = Literal["gcn", "gat", "gatv2"]
"""GCN (Kipf and Welling 2017), GAT (Veličković et al. 2018) or GATv2 (Brody et al. 2022)."""


@dataclass(frozen=True)
class GraphConfig:
    """Graph layers between the positions of an image, after the Transformer layers."""

    layer: GraphLayerKind = "gatv2"
    """Kind of the layers; see `captioner.model.graph_layers`."""
    layers: int = 1
    """Number of layers, each with a feed-forward network of width `model.ffn`."""
    neighbors: int = 8
    """Edges from each position to those with the most similar features, in addition to the edges to
    the 8 positions around it in the grid."""
    heads: int = 4
    """Attention heads of `gat` and `gatv2`; a divisor of `model.width`."""

    def __post_init__(self) -> None:
        check_minimum("model.graph", self, 1, "layers", "heads")
        check_minimum("model.graph", self, 0, "neighbors")


OWN_ENCODERS = ("shared", "lstm", "gru")
"""Question encoders that read the decoder's token embedding; the others are from Hugging Face."""


@dataclass(frozen=True)
class AudioEncoderConfig:
    """The audio encoder: backbones of log-mel spectrograms; see the section `audio`."""

    backbones: tuple[BackboneConfig, ...] = (BackboneConfig("efficientnet_b0"),)
    """timm models with one input channel, to which the weights of the first convolution are
    summed; the features of several are concatenated per position."""

    def __post_init__(self) -> None:
        if not self.backbones:
            raise ConfigError("model.audio.backbones is empty; name at least one timm model")


@dataclass(frozen=True)
class QuestionConfig:
    """The question encoder, and its fusion with the image features."""

    encoder: str = "shared"
    """`shared` (Transformer layers on the token embedding of the decoder), `lstm` or `gru`
    (bidirectional recurrent layers on it), or the name or folder of a Hugging Face text encoder."""
    encoder_layers: int = 2
    """Layers of the encoder, unless it is from Hugging Face."""
    lora_rank: int = 0
    """Rank of LoRA adapters of a Hugging Face encoder (needs peft); 0 trains the encoder itself.
    The encoder is frozen, and the adapters are merged into the weights of the checkpoint."""
    fusion: Literal["concat", "cross_attention", "add", "multiply", "linear", "graph"] = (
        "cross_attention"
    )
    """Fusion of question and image; see `captioner.model.fusion`."""
    fusion_layers: int = 2
    """Layers of the fusions `concat`, `cross_attention` and `graph`."""
    linear_memory: Literal["token", "each"] = "token"
    """The fusion `linear` gives one memory token, or is added to each memory position."""
    graph_layer: GraphLayerKind = "gatv2"
    """Kind of the layers of the fusion `graph`, with `model.heads` heads."""
    graph_neighbors: int = 8
    """As `model.graph.neighbors`, for the fusion `graph`."""
    decoder_layers: int = 0
    """Layers of a separate decoder for answers; 0 uses the caption decoder."""
    decoder_ffn: int | None = None
    """Feed-forward width of that decoder; unset, `model.ffn`."""
    classes: int = 0
    """Classify questions instead of generating answers: the number of classes, which are the most
    frequent training answers; 0 generates answers."""
    pooling: Literal["mean", "max", "attention"] = "attention"
    """Pooling of the fused memory before the classifier; see `captioner.model.pooling`."""
    image_only: bool = False
    """Replace the questions by zeros: the image-only baseline of question answering."""
    max_length: int = 32
    """Longest question in tokens, including EOS; longer ones are truncated in training (the data
    report counts them) and rejected in use."""

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder is a Hugging Face text encoder, with its own tokenizer."""
        return self.encoder not in OWN_ENCODERS

    def __post_init__(self) -> None:
        counts = ("encoder_layers", "lora_rank", "decoder_layers", "graph_neighbors", "classes")
        check_minimum("model.question", self, 0, *counts)
        check_minimum("model.question", self, 1, "fusion_layers", "decoder_ffn")
        check_minimum("model.question", self, 2, "max_length")
        if self.encoder in ("lstm", "gru"):
            check_minimum("model.question", self, 1, "encoder_layers")
        if self.classes == 1:
            raise ConfigError(
                "model.question.classes=1: a classifier needs two classes or more; set it to 0 to"
                " generate answers"
            )
        if self.classes and self.decoder_layers:
            raise ConfigError(
                f"model.question.decoder_layers={self.decoder_layers}: a model with"
                f" classes={self.classes} does not decode answers; set one of the two to 0"
            )
        if self.lora_rank and not self.is_pretrained:
            raise ConfigError(
                f"model.question.lora_rank={self.lora_rank}: adapters need a pretrained encoder;"
                " set model.question.encoder to a Hugging Face text encoder, or lora_rank to 0"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of the model."""

    backbones: tuple[BackboneConfig, ...] = (BackboneConfig(),)
    """Image backbones; the features of several are concatenated per position. Empty for a model
    of recordings only."""
    audio: AudioEncoderConfig | None = None
    """The audio encoder; unset, the model takes no recordings. With both encoders, the decoder
    attends to the memory of the image and of the recording, or of one of them."""
    width: int = 512
    """Width of the Transformer layers after the backbone; a multiple of `heads`."""
    heads: int = 8
    """Attention heads."""
    encoder_layers: int = 1
    """Transformer layers on the features of the backbone."""
    decoder: Literal["transformer", "lstm"] = "transformer"
    """Decoder of captions and of answers: a Transformer, or an LSTM with soft attention (Xu et al.,
    "Show, Attend and Tell", 2015), which has one layer there."""
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
    graph: GraphConfig | None = None
    """Graph layers on the memory of an image; unset, there are none."""
    question: QuestionConfig | None = None
    """The parts for question answering; unset, the model only captions."""
    blind: bool = False
    """Replace the image features by zeros: the blind baseline of question answering."""
    kinds: tuple[str, ...] = ()
    """Kinds of images that the model recognizes, photographs first; set by `train.kinds`."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of the layers that differ from `heads` or `ffn`, by name. Example:
    `{decoder.layers.0.self_attn: 4, decoder.layers.0.ffn: 800}`. Written by
    `captioner export --prune`."""

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
        if self.graph and self.width % self.graph.heads:
            problem = f"is not a multiple of model.graph.heads={self.graph.heads}"
            raise ConfigError(f"model.width={self.width} {problem}")
        if self.audio and (self.graph or (self.question and self.question.fusion == "graph")):
            name = "model.graph" if self.graph else "model.question.fusion=graph"
            problem = "is for models of images, without model.audio"
            raise ConfigError(f"{name} {problem}: the positions of a spectrogram are not a square")
        if not (self.backbones or self.audio):
            raise ConfigError(
                "model.backbones is empty; name at least one timm model, or set model.audio"
            )
