"""OpenAPI documentation of request bodies that the routes parse themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
FILE_FIELDS = ("image", "audio")
"""Fields for a file; its content decides whether it is an image or a recording."""


def document_json_body(model: type[BaseModel]) -> Schema:
    """Return `openapi_extra` for a body that is a JSON object."""
    schema = _inline_definitions(model.model_json_schema(ref_template="{model}"))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def document_image_body(model: type[BaseModel], *, image: str = "image") -> Schema:
    """Return `openapi_extra` for a body that is JSON, a form, or the bytes of a file.

    Args:
        model: The fields; if it has no field for the file, the fields `image` and `audio` are
            added, and a form is accepted too.
        image: Name of the field for the file.
    """
    document = document_json_body(model)
    content = document["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    binary = {"type": "string", "contentMediaType": "application/octet-stream"}
    if image not in schema["properties"]:
        text = {"type": "string", "description": "Base64, or a data URI"}
        content["application/json"] = {"schema": _add_files(schema, text)}
        content["multipart/form-data"] = {"schema": _add_files(schema, binary)}
    content["application/octet-stream"] = {"schema": binary}
    return document


def _add_files(schema: Schema, file: Schema) -> Schema:
    """Return a schema with the properties `image` and `audio` first, of which one is required."""
    files = dict.fromkeys(FILE_FIELDS, file)
    needs_file = [{"required": [name]} for name in FILE_FIELDS]
    return {**schema, "properties": {**files, **schema["properties"]}, "anyOf": needs_file}


def _inline_definitions(schema: Schema) -> Schema:
    """Return a schema without `$defs`, which references in an OpenAPI document cannot reach."""
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {**definitions.get(node.get("$ref"), {}), **node}
        return {name: resolve(value) for name, value in node.items() if name != "$ref"}

    return resolve(schema)
