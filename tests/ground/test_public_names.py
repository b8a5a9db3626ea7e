"""The names that applications use: none of them goes away, wherever what it means has moved to."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

from twisted.application.reactors import IReactorInstaller
from twisted.application.service import IServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

#: By module, separated by blanks.
NAMES = {
    "getty_tx": (
        "Client CodecError EventListener GettyError HandshakeTimeoutError IBatchListener IBatchReader "
        "IBatchWriter IConnection IEventListener IReadWriter IReader IWriter IdleTimeoutError "
        "MessageTooLongError NoPeerAddressError NoSessionError NotReadyError Observer PeerClosedError RateLimit "
        "ReadTimeoutError RefuseRequest SelfConnectError Server Session SessionBlockedError "
        "SessionClientFactory SessionClosedError SessionDatagramProtocol SessionError SessionProtocol "
        "SessionRefusedError SessionServerFactory SettingError Stats TimingWheel UDPContext Until "
        "UpgradeError WheelTimer WorkerPool WriteTimeoutError relay "
    ),
    "getty_tx.client": ("Client "),
    "getty_tx.codecs": (
        "EchoPackage GettyCodec JsonLinesCodec LengthCodec LineCodec NetstringCodec RawCodec VarintCodec describeAll "
        "fromDescription names register "
    ),
    "getty_tx.testing": (
        "DirectTransport HTTPAnswer HTTPPeer MemoryReactor MemoryRegistry MemorySocket MemoryStore "
        "MemoryTransport Network Pair Peer RecordingBatchListener RecordingListener connectedHTTP "
        "connectedPeer connectedPeers connectedSessions feedSplit readAll "
    ),
    "getty_tx.tls": ("HandshakeError clientPolicy explain serverPolicy "),
    "getty_tx.endpoints": ("BACKLOG carriesStream clientEndpoint listensWith serverEndpoint "),
    "getty_tx.errors": (
        "CodecError GettyError HandshakeTimeoutError IdleTimeoutError MessageTooLongError NoPeerAddressError "
        "NoSessionError NotReadyError PeerClosedError ReadTimeoutError RefuseRequest SelfConnectError "
        "SessionBlockedError "
        "SessionClosedError SessionError SessionRefusedError SettingError UpgradeError WriteTimeoutError "
    ),
    "getty_tx.interfaces": (
        "IBatchListener IBatchReader IBatchWriter IConnection IDrainingListener IErrorQueueReactor IEventListener "
        "IHalfCloseListener IReactorTurns IReadWriter IReader IWriter Until "
    ),
    "getty_tx.status": ("DEFAULT_STATUS StatusService "),
    "getty_tx.gateway": ("Gateway GatewaySettings Rules readSettings "),
    "getty_tx.logs": ("JSONObserver json "),
    "getty_tx.workers": ("Work WorkerPool current "),
    "getty_tx.http": (
        "AccessLog Asgi BodyLostError Files GoneError Proxies Request Resources Response Router Server Wsgi "
    ),
    "getty_tx.http.grpc": ("Channel ChannelState Code EOF Health Server Serving StatusError addReflection "),
    "getty_tx.http.upgrade": ("WebSocketUpgrade asksForWebSocket "),
    "getty_tx.reactors": ("GuestLoop Processes guestLoop install "),
    "getty_tx.reactors.guest": ("GuestLoop guestLoop "),
    "getty_tx.registry": (
        "IFollower IFollowing IRegistration IRegistry Provider RecordError Registry RegistryError defaultRegistry "
        "parseService registryFrom "
    ),
    "getty_tx.groups.redis": ("RedisEngine redisEngine "),
    "getty_tx.rpc": (
        "Call CallCancelledError CallContext CallLostError CallRefusedError CallTimeoutError Client Dubbo Getty "
        "Grpc NoSuchMethodError Outliers PayloadError Peer RemoteError RpcError Seata Server Stream TTHeader Thrift "
        "currentCall method stream "
    ),
    "getty_tx.rpc.seata": (
        "BatchResult BranchCommit BranchCommitResult BranchRegister BranchRegisterResult BranchReport "
        "BranchReportResult BranchRollback BranchRollbackResult BranchStatus BranchType DeleteUndoLog ExceptionCode "
        "GlobalBegin GlobalBeginResult GlobalCommit GlobalCommitResult GlobalLockQuery GlobalLockQueryResult "
        "GlobalReport GlobalReportResult GlobalRollback GlobalRollbackResult GlobalStatus GlobalStatusQuery "
        "GlobalStatusQueryResult MergedMessages MergedResults Message RegisterRM RegisterRMResult RegisterTM "
        "RegisterTMResult Result decode encode "
    ),
    "getty_tx.rpc.hessian": (
        "Decoder Double Encoder HessianError JavaObject Limits Long TypedList TypedMap decode encode "
    ),
}

#: The files that Twisted finds its plugins in.
DROPINS = {"getty_tx_commands.py", "getty_tx_endpoints.py", "getty_tx_reactors.py"}

COMMANDS = {
    "getty-asgi",
    "getty-dial",
    "getty-echo",
    "getty-gateway",
    "getty-grpc",
    "getty-http",
    "getty-rpc",
    "getty-serve",
}

#: Prints how many modules ``import getty_tx`` loads, and those among them that it must not load.
IMPORTED = """
import sys
before = set(sys.modules)
import getty_tx
loaded = set(sys.modules) - before
own = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
print(len(own), *sorted(loaded & {"twisted.internet.reactor", "autobahn", "prometheus_client"}))
"""


class PublicNameTests(SynchronousTestCase):
    """What is imported by users."""

    def test_names(self) -> None:
        """Each can be imported, and is in the ``__all__`` of its module."""
        for module, text in NAMES.items():
            found = import_module(module)
            for name in text.split():
                self.assertTrue(hasattr(found, name), f"{module}.{name}")
                self.assertIn(name, found.__all__)

    def test_plugins(self) -> None:
        """The commands, the endpoint prefixes and the reactor are where Twisted finds them."""
        self.assertEqual({path.name for path in (ROOT / "twisted" / "plugins").glob("*.py")}, DROPINS)
        self.assertLessEqual(COMMANDS, {each.tapname for each in getPlugins(IServiceMaker)})
        self.assertIn("getty", {each.shortName for each in getPlugins(IReactorInstaller)})
        prefixes = {each.prefix for each in getPlugins(IStreamServerEndpointStringParser)}
        self.assertLessEqual({"getty-ws", "getty-wss"}, prefixes)

    def test_moved(self) -> None:
        """Names with two places mean the same."""
        from getty_tx import processes, reactors

        self.assertIs(reactors.Processes, processes.Processes)

    def test_imports(self) -> None:
        """``import getty_tx`` installs no reactor, and loads neither Autobahn nor an extra."""
        output = subprocess.run(
            [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split()
        self.assertEqual(output[1:], [])
        # Those of the standard library differ between versions of Python.
        self.assertLessEqual(int(output[0]), 256)
