"""
The services grpc.reflection.v1 and v1alpha: what a server's services look like, for grpcurl, Postman and the like.

Descriptors come from protobuf's default pool, where generated code puts its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool

from getty_tx.http.grpc.protos import POOL, Handler, fileOf, messageOf, methodOf
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from getty_tx.http.grpc.server import Server

__all__ = ["SERVICES", "addReflection"]

_VERSIONS = ("v1", "v1alpha")

#: The services themselves.
SERVICES = tuple(f"grpc.reflection.{version}.ServerReflection" for version in _VERSIONS)

_MESSAGES = {
    "ServerReflectionRequest": (
        "string host = 1",
        "message_request| string file_by_filename = 3",
        "message_request| string file_containing_symbol = 4",
        "message_request| ExtensionRequest file_containing_extension = 5",
        "message_request| string all_extension_numbers_of_type = 6",
        "message_request| string list_services = 7",
    ),
    "ExtensionRequest": ("string containing_type = 1", "int32 extension_number = 2"),
    "ServerReflectionResponse": (
        "string valid_host = 1",
        "ServerReflectionRequest original_request = 2",
        "message_response| FileDescriptorResponse file_descriptor_response = 4",
        "message_response| ExtensionNumberResponse all_extension_numbers_response = 5",
        "message_response| ListServiceResponse list_services_response = 6",
        "message_response| ErrorResponse error_response = 7",
    ),
    "FileDescriptorResponse": ("repeated bytes file_descriptor_proto = 1",),
    "ExtensionNumberResponse": ("string base_type_name = 1", "repeated int32 extension_number = 2"),
    "ListServiceResponse": ("repeated ServiceResponse service = 1",),
    "ServiceResponse": ("string name = 1",),
    "ErrorResponse": ("int32 error_code = 1", "string error_message = 2"),
}


def _describe(version: str) -> None:
    package = f"grpc.reflection.{version}"
    made = fileOf(f"grpc/reflection/{version}/reflection.proto", package, _MESSAGES)
    service = made.service.add(name="ServerReflection")
    asked, answered = f"{package}.ServerReflectionRequest", f"{package}.ServerReflectionResponse"
    methodOf(service, "ServerReflectionInfo", asked, answered, True, True)
    POOL.Add(made)


for _version in _VERSIONS:
    _describe(_version)


class _Reflection:
    """Answers in one version of the protocol; ``names`` gives the services."""

    def __init__(self, version: str, names: Callable[[], Iterable[str]]) -> None:
        self._Request = messageOf(f"grpc.reflection.{version}.ServerReflectionRequest")
        self._Response = messageOf(f"grpc.reflection.{version}.ServerReflectionResponse")
        self._names = names

    def handler(self) -> Handler:
        return Handler(
            True, True, self._Request.FromString, self._Response.SerializeToString, stream_stream=self._answers
        )

    async def _answers(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        made = self._Response(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            if kind == "list_services":
                made.list_services_response.SetInParent()
                for name in self._names():
                    made.list_services_response.service.add(name=name)
            elif kind == "all_extension_numbers_of_type":
                numbers, name = made.all_extension_numbers_response, request.all_extension_numbers_of_type
                pool, found = _find(lambda pool: (pool, pool.FindMessageTypeByName(name)))
                numbers.base_type_name = name
                numbers.extension_number.extend(sorted(each.number for each in pool.FindAllExtensions(found)))
            elif kind is not None:
                file = _find(lambda pool: _fileFor(pool, kind, getattr(request, kind)))
                made.file_descriptor_response.file_descriptor_proto.extend(_withNeeded(file))
            else:
                made.error_response.error_code = Code.INVALID_ARGUMENT
                made.error_response.error_message = "the request asks for nothing that is known here"
        except KeyError as error:
            made.error_response.error_code = Code.NOT_FOUND
            made.error_response.error_message = str(error.args[0] if error.args else error)
        return made


def _find(ask: Callable[[Any], Any]) -> Any:
    """What the first pool has that knows it. :raise KeyError: none does."""
    try:
        return ask(descriptor_pool.Default())
    except KeyError:
        return ask(POOL)


def _fileFor(pool: Any, kind: str, value: Any) -> Any:
    """The descriptor of the file that a request asks for. :raise KeyError: it is not known."""
    if kind == "file_by_filename":
        return pool.FindFileByName(value)
    if kind == "file_containing_symbol":
        try:
            return pool.FindFileContainingSymbol(value)
        except KeyError as error:
            # It does not know methods, though they are symbols.
            try:
                return pool.FindMethodByName(value).containing_service.file
            except KeyError:
                raise error from None
    extended = pool.FindMessageTypeByName(value.containing_type)
    return pool.FindExtensionByNumber(extended, value.extension_number).file


def _withNeeded(file: Any) -> list[bytes]:
    """A file and all that it imports, itself first, each once."""
    found: dict[str, Any] = {}
    pending = [file]
    while pending:
        each = pending.pop()
        if each.name not in found:
            found[each.name] = each
            pending += each.dependencies
    made = []
    for each in found.values():
        proto = descriptor_pb2.FileDescriptorProto()
        each.CopyToProto(proto)
        made.append(proto.SerializeToString())
    return made


def addReflection(server: Server, names: Iterable[str] | None = None) -> None:
    """
    Have a server tell what its services look like, in both versions of the protocol.

    :param names: the services that are listed; None: all that the server has when it is asked. Descriptors of others
        are told as well: to ask for them one has to know their names.
    """
    listed = None if names is None else tuple(names)
    for version, service in zip(_VERSIONS, SERVICES, strict=True):
        reflection = _Reflection(version, server.context.methods.services if listed is None else lambda: listed)
        server.add_registered_method_handlers(service, {"ServerReflectionInfo": reflection.handler()})
