"""Load the tokenizer of a checkpoint without its model.

Only a checkpoint whose question encoder is from Hugging Face needs transformers.
"""

from __future__ import annotations

from pathlib import Path

from captioner.checkpoint import TEXT_ENCODER, TOKENIZER
from captioner.config import Config
from captioner.errors import CheckpointError
from captioner.extras import explain_missing
from captioner.text import one_line
from captioner.tokenizer import TextEncoderTokenizer, Tokenizer


def load_tokenizer(folder: Path, config: Config) -> Tokenizer:
    """Return the tokenizer of a checkpoint, with that of its question encoder.

    Raises:
        CheckpointError: A tokenizer cannot be read.
        DependencyError: The question encoder is from Hugging Face, and transformers is missing.
    """
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    question = config.model.question
    if question is not None and question.is_pretrained:
        with explain_missing(f"the question encoder of {folder}"):
            from transformers import AutoTokenizer
        path = folder / TEXT_ENCODER
        try:
            words = AutoTokenizer.from_pretrained(str(path))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: no tokenizer there: {one_line(error)}") from None
        tokenizer.question_tokenizer = TextEncoderTokenizer(words)
    return tokenizer
