"""Health and reflection, as their handlers answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.health import SERVICE, Health, Serving
from getty_tx.http.grpc.methods import Methods
from getty_tx.http.grpc.reflection import SERVICES, addReflection
from getty_tx.http.grpc.status import Code
from tests.support.grpc.protos import compiled, interop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEST = "grpc.testing.TestService"


class FakeServer:
    """Keeps what is registered."""

    def __init__(self) -> None:
        self.methods = Methods()
        self.context = self
        self.onStop: list[Any] = []
        self.add_registered_method_handlers = self.methods.addRegistered

    def behavior(self, path: str) -> Any:
        """The handler of a method."""
        return self.methods.byPath[path.encode()]


class HealthTests(SynchronousTestCase):
    """What is known of health."""

    def setUp(self) -> None:
        self.server: Any = FakeServer()
        self.health = Health()
        self.health.addTo(self.server)

    def check(self, service: str) -> int:
        """Ask as a client does, in bytes."""
        method = self.server.behavior(f"/{SERVICE}/Check")
        name = service.encode()
        request = method.decode(b"\n%c%b" % (len(name), name))
        reply = method.encode(method.behavior(request, None))
        assert reply[:1] == b"\x08", reply
        return int(reply[1])

    def test_server(self) -> None:
        """The whole server is well at first, and its own services are as it is."""
        self.assertEqual((self.check(""), self.check(SERVICE)), (1, 1))
        self.health.set("", False)
        self.assertEqual((self.check(""), self.check(SERVICE)), (2, 2))

    def test_set(self) -> None:
        """A service has a status of its own."""
        self.health.set("a.B", False)
        self.assertEqual((self.check("a.B"), self.check("")), (2, 1))
        self.health.set("a.B", Serving.UNKNOWN)
        self.assertIs(self.health.get("a.B"), Serving.UNKNOWN)

    def test_unknown(self) -> None:
        """A service that nobody knows is NOT_FOUND."""
        error = self.assertRaises(StatusError, self.check, "a.B")
        self.assertEqual((error.code, error.text), (Code.NOT_FOUND, "there is no service a.B"))
        self.assertIsNone(self.health.get("a.B"))

    def test_shutDown(self) -> None:
        """All are NOT_SERVING for good; what was not known stays so."""
        self.health.set("a.B", True)
        self.health.shutDown()
        self.health.set("a.B", True)
        self.assertEqual(self.health.all(), dict.fromkeys(["", "a.B", SERVICE], Serving.NOT_SERVING))
        self.assertIsNone(self.health.get("c.D"))

    def test_list(self) -> None:
        """All that is known."""
        self.health.set("a.B", False)
        method = self.server.behavior(f"/{SERVICE}/List")
        reply = method.behavior(method.decode(b""), None)
        found = {name: each.status for name, each in reply.statuses.items()}
        self.assertEqual(found, {"": 1, "a.B": 2, SERVICE: 1})

    def test_watch(self) -> None:
        """Who watches hears of each change, once; also of a service that comes to be known."""

        async def watch() -> list[int]:
            method = self.server.behavior(f"/{SERVICE}/Watch")
            found = []

            async def follow() -> None:
                async for reply in method.behavior(method.decode(b"\n\x03a.B"), None):
                    found.append(reply.status)

            task = asyncio.ensure_future(follow())
            for status in (True, True, False, Serving.SERVING):
                await asyncio.sleep(0)
                self.health.set("a.B", status)
                for _ in range(3):
                    await asyncio.sleep(0)
            self.health.shutDown()
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return found

        self.assertEqual(asyncio.run(watch()), [3, 1, 2, 1, 2])
        self.assertEqual(self.health._watching, set())


class ReflectionTests(SynchronousTestCase):
    """What a server tells of its services."""

    def setUp(self) -> None:
        self.messages, _ = interop()
        self.server: Any = FakeServer()
        Health().addTo(self.server)

    def ask(self, version: int = 0, **fields: Any) -> Any:
        """One answer."""
        method = self.server.behavior(f"/{SERVICES[version]}/ServerReflectionInfo")
        request = method.decode(b"")
        for name, value in fields.items():
            if isinstance(value, dict):
                getattr(request, name).SetInParent()
                for key, each in value.items():
                    setattr(getattr(request, name), key, each)
            else:
                setattr(request, name, value)

        async def requests() -> AsyncIterator[Any]:
            yield method.decode(request.SerializeToString())

        async def answers() -> list[Any]:
            return [method.encode(each) async for each in method.behavior(requests(), None)]

        (answer,) = asyncio.run(answers())
        reply = type(method.behavior.__self__._Response()).FromString(answer)
        self.assertEqual(reply.original_request, request)
        return reply

    def files(self, **fields: Any) -> dict[str, Any]:
        """The files of an answer by their names."""
        found = self.ask(**fields).file_descriptor_response.file_descriptor_proto
        return {file.name: file for file in map(descriptor_pb2.FileDescriptorProto.FromString, found)}

    def test_services(self) -> None:
        """All services of the server, in both versions; or those that were named."""
        addReflection(self.server)
        for version in 0, 1:
            names = [each.name for each in self.ask(version, list_services="*").list_services_response.service]
            self.assertEqual(names, sorted([SERVICE, *SERVICES]))
        self.server = FakeServer()
        addReflection(self.server, [TEST])
        self.assertEqual(
            [each.name for each in self.ask(list_services="").list_services_response.service],
            [TEST],
        )

    def test_symbols(self) -> None:
        """The file of a service, a method, a message and a field; of generated code and of the package's own."""
        addReflection(self.server)
        for symbol in TEST, f"{TEST}.UnaryCall", "grpc.testing.Payload", "grpc.testing.Payload.body":
            self.assertEqual(list(self.files(file_containing_symbol=symbol)), ["interop.proto"])
        # Where the process has loaded grpcio's own package for health, it is that one's.
        (name,) = self.files(file_containing_symbol=SERVICE)
        self.assertIn(name, ("grpc/health/v1/health.proto", "grpc_health/v1/health.proto"))
        (file,) = self.files(file_containing_symbol=SERVICES[1]).values()
        self.assertEqual((file.package, file.service[0].name), ("grpc.reflection.v1alpha", "ServerReflection"))

    def test_files(self) -> None:
        """A file comes with all that it imports, itself first."""
        compiled("extended")
        addReflection(self.server)
        found = list(self.files(file_by_filename="extended.proto"))
        self.assertEqual(found, ["extended.proto", "google/protobuf/descriptor.proto"])

    def test_extensions(self) -> None:
        """Extensions of a message, and the file of one."""
        compiled("extended")
        addReflection(self.server)
        base = "google.protobuf.MethodOptions"
        numbers = self.ask(all_extension_numbers_of_type=base).all_extension_numbers_response
        self.assertEqual(numbers.base_type_name, base)
        self.assertIn(50_123, numbers.extension_number)
        wanted = {"containing_type": base, "extension_number": 50_123}
        self.assertIn("extended.proto", self.files(file_containing_extension=wanted))
        wanted["extension_number"] = 50_124
        self.assertEqual(self.ask(file_containing_extension=wanted).error_response.error_code, 5)

    def test_unknown(self) -> None:
        """What is not known is NOT_FOUND, with words; a request for nothing is INVALID_ARGUMENT."""
        addReflection(self.server)
        for kind in "file_containing_symbol", "file_by_filename", "all_extension_numbers_of_type":
            error = self.ask(**{kind: "no.Such"}).error_response
            self.assertEqual(error.error_code, 5)
            self.assertIn("no.Such", error.error_message)
        self.assertEqual(self.ask(host="a").error_response.error_code, 3)
        self.assertEqual(self.ask(host="a").valid_host, "a")
