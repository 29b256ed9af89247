"""Configuration to modules: the only package that passes settings to constructors."""

from captioner.build.backbones import build_audio_backbone, build_backbone, feature_shape
from captioner.build.checkpoint_models import load_checkpoint
from captioner.build.models import build_model
from captioner.build.question_modules import build_answer_head

__all__ = [
    "build_answer_head",
    "build_audio_backbone",
    "build_backbone",
    "build_model",
    "feature_shape",
    "load_checkpoint",
]
