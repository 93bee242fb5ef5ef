"""The protos themselves: style, comments, and stubs that are what the protos say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor
from google.protobuf.message import Message

from recsys import v1
from recsys.v1 import (
    admin_service_pb2,
    catalog_service_pb2,
    event_service_pb2,
    recommendation_service_pb2,
)

FILES: list[FileDescriptor] = [
    admin_service_pb2.DESCRIPTOR,
    catalog_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    recommendation_service_pb2.DESCRIPTOR,
]
LOWER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def undocumented(text: str) -> list[str]:
    """Declarations of a proto file without a comment right above them."""
    lines = [line.strip() for line in text.splitlines()]
    declared = re.compile(r"(message|enum|service|rpc) \w|[\w.]+( [\w.]+)* = \d+;")
    return [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if declared.match(line) and not above.startswith("//")
    ]


def test_every_declaration_has_a_comment(project_root: Path) -> None:
    for path in (project_root / "protos").rglob("*.proto"):
        assert undocumented(path.read_text()) == []


def test_the_comment_check_can_fail() -> None:
    assert undocumented("// A.\nmessage A {\n  repeated string b = 1;\n}") == [
        "repeated string b = 1;"
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_enum_values_carry_the_enum_s_name_and_start_unspecified(file: FileDescriptor) -> None:
    enums: dict[str, EnumDescriptor] = dict(file.enum_types_by_name)
    for name, enum in enums.items():
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
        assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(f"{prefix}_") for value in enum.values)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_rpc_has_messages_of_its_own(file: FileDescriptor) -> None:
    assert file.package == "recsys.v1"
    methods = [m for service in file.services_by_name.values() for m in service.methods]
    for method in methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"
    assert len({m.input_type.full_name for m in methods}) == len(methods)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_field_names_are_lower_snake_case(file: FileDescriptor) -> None:
    for message in file.message_types_by_name.values():
        assert all(LOWER.fullmatch(field.name) for field in message.fields)


def test_the_door_shows_every_message_of_the_files() -> None:
    declared = {name for file in FILES for name in file.message_types_by_name}
    shown = {name for name in v1.__all__ if _is_message(getattr(v1, name))}
    assert shown == declared


def test_responses_share_their_fields_and_numbers() -> None:
    def layout(kind: type[Message]) -> dict[str, int]:
        return {field.name: field.number for field in kind.DESCRIPTOR.fields}

    assert layout(v1.RecommendResponse) == layout(v1.RankResponse)
    assert layout(v1.RecommendResponse) == layout(v1.SimilarItemsResponse)


def _is_message(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Message)
