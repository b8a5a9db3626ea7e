"""Messages of the standard services, made of descriptors that are written here: there is no generated code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
except ImportError as error:
    raise ImportError("health and reflection need protobuf: pip install 'getty_tx[protobuf]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["POOL", "Handler", "fileOf", "messageOf", "methodOf"]

#: What is described here. Not the default pool: generated code may bring the same files, and add them again.
POOL = descriptor_pool.DescriptorPool()

_FIELD = re.compile(r"(?:(\w+)\| )?(repeated )?([\w.]+) (\w+) = (\d+)")

_Field = descriptor_pb2.FieldDescriptorProto


class Handler(NamedTuple):
    """A method, as ``grpc.unary_unary_rpc_method_handler`` and its sisters make it."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Callable[[bytes], Any]
    response_serializer: Callable[[Any], bytes]
    unary_unary: Callable[[Any, Any], Any] | None = None
    unary_stream: Callable[[Any, Any], Any] | None = None
    stream_unary: Callable[[Any, Any], Any] | None = None
    stream_stream: Callable[[Any, Any], Any] | None = None


def fileOf(name: str, package: str, messages: Mapping[str, Sequence[str]]) -> Any:
    """
    A file with messages, to be completed and added to :data:`POOL`.

    :param messages: the fields of each, such as ``repeated string name = 1``; of a oneof ``oneof| string name = 1``.
    """
    made = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    for title, fields in messages.items():
        message = made.message_type.add(name=title)
        for text in fields:
            found = _FIELD.fullmatch(text)
            assert found is not None, text
            oneof, repeated, kind, fieldName, number = found.groups()
            field = message.field.add(name=fieldName, number=int(number))
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if hasattr(_Field, f"TYPE_{kind.upper()}"):
                field.type = getattr(_Field, f"TYPE_{kind.upper()}")
            else:
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{package}.{kind}"
            if oneof:
                names = [each.name for each in message.oneof_decl]
                if oneof not in names:
                    message.oneof_decl.add(name=oneof)
                    names.append(oneof)
                field.oneof_index = names.index(oneof)
    return made


def methodOf(service: Any, name: str, request: str, response: str, requests: bool, replies: bool) -> None:
    """Add a method to the descriptor of a service: the full names of its messages, and which of them are streams."""
    service.method.add(
        name=name,
        input_type=f".{request}",
        output_type=f".{response}",
        client_streaming=requests,
        server_streaming=replies,
    )


def messageOf(name: str) -> Any:
    """The class of a message of :data:`POOL`."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
