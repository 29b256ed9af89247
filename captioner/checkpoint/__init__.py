"""The checkpoint format: a folder with a model's weights, configuration and tokenizers.

It holds `config.yaml`, `model.safetensors`, `tokenizer.model` and `metrics.json`; for a Hugging
Face question encoder also its configuration and tokenizer, in the folder `text_encoder`; for a
classifier of questions also its answers, in `answers.json`.

Reading and writing weights with torch is in `captioner.checkpoint.weights`; the other modules
import neither torch nor safetensors.
"""

from captioner.checkpoint.folder import (
    ANSWERS,
    CONFIG,
    METRICS,
    PRETRAINED,
    TEXT_ENCODER,
    TOKENIZER,
    WEIGHTS,
    best_scores,
    checkpoint_files,
    fingerprint,
    load_answers,
    resolve_checkpoint,
    set_confidence,
    set_temperature,
)

__all__ = [
    "ANSWERS", "CONFIG", "METRICS", "PRETRAINED", "TEXT_ENCODER", "TOKENIZER", "WEIGHTS",
    "best_scores", "checkpoint_files", "fingerprint", "load_answers", "resolve_checkpoint",
    "set_confidence", "set_temperature",
]  # fmt: skip
