"""The formats of checkpoints: folders with a model's weights, configuration and tokenizers.

A folder of captioner holds `config.yaml`, `model.safetensors`, `tokenizer.model` and
`metrics.json`; for a Hugging Face question encoder also its configuration and tokenizer, in the
folder `text_encoder`; for a classifier of questions also its answers, in `answers.json`. The other
format is that of transformers, see `captioner.checkpoint.folder_format`. A checkpoint is named by
its folder, by `bundled` or by a repository of the Hugging Face Hub.

Reading and writing weights with torch is in `captioner.checkpoint.weights`, and
`captioner.checkpoint.hub_download` imports `huggingface_hub`; the other modules import neither
torch nor safetensors.
"""

from captioner.checkpoint.fingerprints import checkpoint_files, fingerprint
from captioner.checkpoint.folder import (
    ANSWERS,
    METRICS,
    TEXT_ENCODER,
    best_scores,
    load_answers,
    set_confidence,
    set_temperature,
)
from captioner.checkpoint.folder_format import CONFIG, TOKENIZER, WEIGHTS, checkpoint_format
from captioner.checkpoint.hub_names import is_hub_name
from captioner.checkpoint.resolution import (
    PRETRAINED,
    pin_checkpoint,
    resolve_checkpoint,
    resolve_own_checkpoint,
    resolve_writable_checkpoint,
)

__all__ = [
    "ANSWERS", "CONFIG", "METRICS", "PRETRAINED", "TEXT_ENCODER", "TOKENIZER", "WEIGHTS",
    "best_scores", "checkpoint_files", "checkpoint_format", "fingerprint", "is_hub_name",
    "load_answers", "pin_checkpoint", "resolve_checkpoint", "resolve_own_checkpoint",
    "resolve_writable_checkpoint", "set_confidence", "set_temperature",
]  # fmt: skip
