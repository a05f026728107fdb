"""The content of a capture's text files: JSON objects, YAML mappings, XML documents and tables, of bounded size."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import yaml

from pipeline.errors import CaptureError

MAX_TEXT_BYTES = 64 * 2**20
"""Largest table or JSON file: parsed, they take up to thirty times as much memory."""
MAX_YAML_BYTES = 2**20


def parse_object(data: bytes, file: str) -> dict[str, object]:
    """As `CaptureSource.read_object`, of a file's content."""
    check_text(data, file)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        content = error
    return _mapping(content, "a JSON object", file)


class _YamlLoader(yaml.SafeLoader):
    """Knows OpenCV's matrices, which are plain mappings under a tag."""


_YamlLoader.add_constructor("tag:yaml.org,2002:opencv-matrix", yaml.SafeLoader.construct_yaml_map)


def parse_yaml(data: bytes, file: str) -> dict[str, object]:
    """A YAML mapping; OpenCV's first line %YAML:1.0, which no YAML parser takes, is left out.

    Raises:
        CaptureError: When it is not one or too large.
    """
    try:
        if len(data) > MAX_YAML_BYTES:
            raise ValueError(f"{len(data)} bytes")
        lines = data.decode("utf-8-sig").splitlines()
        content = yaml.load("\n".join(line for line in lines if not line.startswith("%")), _YamlLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        content = error
    return _mapping(content, "a YAML mapping", file)


def parse_xml(data: bytes, file: str) -> ElementTree.Element:
    """The root of an XML document without any declarations of its own: those make parsers fetch and multiply.

    Raises:
        CaptureError: When it is not one or too large.
    """
    check_text(data, file)
    try:
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ValueError("a document type, which such files don't have")
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CaptureError(
            "the file must hold an XML document", found=str(error), remedy="export it again", file=file
        ) from error


def _mapping(content: object, form: str, file: str) -> dict[str, object]:
    if not isinstance(content, dict):
        found = str(content)[:200] if isinstance(content, Exception) else type(content).__name__
        raise CaptureError(f"the file must hold {form}", found=found, remedy="export it again", file=file)
    return content


def parse_table(data: bytes, file: str, separator: str | None = None) -> list[list[str]]:
    """As `CaptureSource.read_table`, of a file's content."""
    check_text(data, file)
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CaptureError("the file must be text", found=str(error), remedy="export it again", file=file) from error
    stripped = (line.strip() for line in lines)
    kept = (line for line in stripped if line and not line.startswith("#"))
    return [[field.strip() for field in line.split(separator)] for line in kept]


def check_text(data: bytes, file: str) -> None:
    """Refuse text that is too large to be parsed."""
    if len(data) > MAX_TEXT_BYTES:
        raise CaptureError(
            f"a table or JSON file has at most {MAX_TEXT_BYTES >> 20} MiB",
            found=f"{len(data) >> 20} MiB",
            remedy="export it again, or a shorter recording",
            file=file,
        )
