"""Configuration: the settings with their defaults, and reading and writing them."""

from captioner.config.audio_section import AudioConfig
from captioner.config.confidence_options import (
    AnswerConfidence,
    CaptionConfidence,
    ConfidenceConfig,
)
from captioner.config.data_section import DataConfig, SourceConfig
from captioner.config.decoding_options import AnswerConfig, DecodingConfig
from captioner.config.model_section import (
    AudioEncoderConfig,
    BackboneConfig,
    GraphConfig,
    ModelConfig,
    QuestionConfig,
)
from captioner.config.parsing import to_dict
from captioner.config.schema import (
    Config,
    ImageConfig,
    TokenizerConfig,
    load_config,
    save_config,
)
from captioner.config.teacher_options import TeacherConfig
from captioner.config.train_section import StageConfig, TrainConfig

__all__ = [
    "AnswerConfidence",
    "AnswerConfig",
    "AudioConfig",
    "AudioEncoderConfig",
    "BackboneConfig",
    "CaptionConfidence",
    "ConfidenceConfig",
    "Config",
    "DataConfig",
    "DecodingConfig",
    "GraphConfig",
    "ImageConfig",
    "ModelConfig",
    "QuestionConfig",
    "SourceConfig",
    "StageConfig",
    "TeacherConfig",
    "TokenizerConfig",
    "TrainConfig",
    "load_config",
    "save_config",
    "to_dict",
]
