"""Write the prompts of chat models with the template in their folder.

Messages have the form that transformers defines: a role, and parts that are an image or a text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captioner.errors import CheckpointError
from captioner.text import one_line

TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_KEY = "chat_template"
JSON_FILES = ("chat_template.json", "processor_config.json")
"""Files of earlier versions that contain the template."""


class ChatTemplate:
    """The text of a conversation of one message, up to the start of the reply.

    Args:
        folder: The folder of the model.
        tokenizer: The tokenizer of transformers, which may have a template of its own.
        plain: The text for folders without a template, with the field `text`.

    Raises:
        CheckpointError: There is neither a template nor a plain text, or a file is damaged.
    """

    def __init__(self, folder: str, tokenizer: Any, *, plain: str | None = None) -> None:
        self.folder, self.tokenizer, self.plain = folder, tokenizer, plain
        self.template = _read_template(Path(folder)) or tokenizer.chat_template
        if self.template is None and plain is None:
            raise CheckpointError(
                f"{folder}: has no chat template; expected the file {TEMPLATE_FILE}, which is"
                " published with the model"
            )

    def render(self, text: str) -> str:
        """Return the prompt with an image and a text; raise CheckpointError."""
        if self.template is None:
            return str(self.plain).format(text=text)
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        # A tokenizer may have several templates by name, of which it chooses one itself.
        template = self.template if isinstance(self.template, str) else None
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [message], chat_template=template, add_generation_prompt=True, tokenize=False
                )
            )
        except Exception as error:  # a template can raise errors of any type
            raise CheckpointError(
                f"{self.folder}: the chat template cannot be applied: {one_line(error)}"
            ) from None


def _read_template(folder: Path) -> str | None:
    """Return the template of the processor; raise CheckpointError."""
    path = folder / TEMPLATE_FILE
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        for path in (folder / name for name in JSON_FILES):
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if isinstance(content, dict) and content.get(TEMPLATE_KEY):
                return str(content[TEMPLATE_KEY])
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {one_line(error)}") from None
    return None
