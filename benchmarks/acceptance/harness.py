"""What the acceptance modules share: figures and their command line, servers, a frame client, memory, certificates."""

from __future__ import annotations

import argparse
import datetime
import gc
import ipaddress
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loads import LoadError
from benchmarks.servers import GETTY_ECHO, ServerError, ServerProcess, onReactor, pinLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

MB = 1_000_000
HEADER = struct.Struct("<I")

GETTY_SERVE = (
    "twistd -n --pidfile= getty-serve --codec length:order=little --listener {listener} --listen {listen}"
    " --max-msg-len 200000000"
)

LISTENERS = "benchmarks.acceptance.listeners"


class NotMeasured(Exception):
    """Something that a measurement needs is missing on this machine."""


class TimedOut(BaseException):
    """A module took longer than it may; a BaseException, so that no handler of a socket's error takes it."""


@dataclass(frozen=True)
class Figure:
    """One measured figure; it is right if ``value`` is at most ``limit``, or at least with ``floor``.

    :ivar text: the figure as it is printed, with its unit.
    :ivar note: further figures of the same measurement, for the reader only.
    """

    name: str
    value: float
    limit: float
    text: str
    note: str = ""
    floor: bool = False

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.floor else self.value <= self.limit

    def __str__(self) -> str:
        bound = f"limit {'>= ' if self.floor else ''}{self.limit:g}"
        return f"{self.name}: {self.text} ({bound}) {'ok' if self.ok else 'FAILED'}{self.note and '; ' + self.note}"


def failed(name: str, why: object) -> Figure:
    """The figure of a measurement that broke off."""
    return Figure(name, 1, 0, " ".join(str(why).split()) or "no reason given")


@dataclass(frozen=True)
class Target:
    """The commands of the servers that are measured.

    :ivar echo: an echo of frames; ``{listen}`` is an endpoint description, ``{port}`` its port.
    :ivar serve: the same with a listener of one's own, ``{listener}`` is its ``module:attribute``.
    """

    echo: str = GETTY_ECHO
    serve: str = GETTY_SERVE

    def on(self, reactor: str) -> Target:
        """The same on another reactor."""
        return Target(onReactor(self.echo, reactor), onReactor(self.serve, reactor))

    def start(self, listener: str = "", certificate: Certificate | None = None) -> ServerProcess:
        """A server over TCP, or over TLS with a certificate; an echo, or one of the :data:`LISTENERS` by name."""
        listen = "tcp:{port}:interface=127.0.0.1"
        if certificate is not None:
            listen = f"ssl:{{port}}:privateKey={certificate.key}:certKey={certificate.chain}:interface=127.0.0.1"
        if listener:
            return ServerProcess(self.serve, listener=f"{LISTENERS}:{listener}", listen=listen)
        return ServerProcess(self.echo, listen=listen)


def runModule(name: str, measure: Callable[[Target], Iterable[Figure]], target: Target, seconds: int) -> list[Figure]:
    """Print and return the figures of a module; an error or more than ``seconds`` of time is a failed figure."""

    def timeOut(_signal: int, _frame: FrameType | None) -> None:
        raise TimedOut

    figures: list[Figure] = []

    def note(figure: Figure) -> None:
        figures.append(figure)
        print(figure, flush=True)

    before = signal.signal(signal.SIGALRM, timeOut)
    signal.alarm(seconds)
    try:
        for figure in measure(target):
            note(figure)
    except TimedOut:
        note(failed(name, f"not done after {seconds} s"))
    except NotMeasured as error:
        note(failed(name, f"not measured: {error}"))
    except (ServerError, LoadError, subprocess.SubprocessError, OSError, EOFError, AssertionError) as error:
        note(failed(name, f"{type(error).__name__}: {error}"))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if not figures:
        note(failed(name, "no figure"))
    return figures


def addTargetOptions(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`targetOf` reads."""
    parser.add_argument(
        "--server",
        default=GETTY_ECHO,
        metavar="COMMAND",
        help="the echo server; {listen} is its endpoint description and {port} its port (default: %(default)s)",
    )
    parser.add_argument(
        "--serve",
        default=GETTY_SERVE,
        metavar="COMMAND",
        help="the server of a listener, which {listener} names (default: %(default)s)",
    )
    parser.add_argument("--reactor", metavar="NAME", help="the reactor of both (twistd --help-reactors lists them)")


def targetOf(options: argparse.Namespace) -> Target:
    """The target that the command line names."""
    target = Target(options.server, options.serve)
    return target.on(options.reactor) if options.reactor else target


def endCleanly() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that it ends its servers."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)


def main(name: str, measure: Callable[[Target], Iterable[Figure]], about: str | None, seconds: int) -> int:
    """The command line of one module; the exit status is 0 if all its figures are within their limits."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.acceptance.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    addTargetOptions(parser)
    target = targetOf(parser.parse_args())
    endCleanly()
    pinLoad()
    return 0 if all(figure.ok for figure in runModule(name, measure, target, seconds)) else 1


def frame(payload: bytes) -> bytes:
    """``payload`` behind its length, as the servers expect it."""
    return HEADER.pack(len(payload)) + payload


def connect(port: int, tls: bool = False, timeout: float = 10.0) -> socket.socket:
    """A connection to a server here; with ``tls`` after the handshake, the certificate unchecked."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def receiveExactly(connection: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes.

    :raise EOFError: if the peer ends before.
    """
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError(f"the server closed a connection after {len(data)} of {size} bytes")
        data += part
    return bytes(data)


def roundTrip(connection: socket.socket, payload: bytes) -> float:
    """Send a frame, check its echo, and return the seconds that took."""
    sent = frame(payload)
    begin = time.perf_counter()
    connection.sendall(sent)
    received = receiveExactly(connection, len(sent))
    assert received == sent, "the echo differs from what was sent"
    return time.perf_counter() - begin


@dataclass
class Growth:
    """How far a server's memory rose above what it was, in bytes.

    :ivar ended: it rose so far that the server was killed, to spare the machine.
    """

    before: int
    peak: int = 0
    ended: bool = False

    @property
    def size(self) -> int:
        return self.peak - self.before


@contextmanager
def watchedMemory(server: ServerProcess, period: float = 0.05, ceiling: int = 2000 * MB) -> Iterator[Growth]:
    """Note the largest resident memory of ``server`` while the block runs, above what it was at its start.

    A server that grows by more than ``ceiling`` bytes is killed.

    The kernel's own high-water mark catches what lies between two samples; the samples are there for machines
    whose kernel does not let it be reset.
    """
    growth = Growth(server.memory())
    try:
        server.resetPeak()
        marked = True
    except OSError:
        marked = False
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(period):
            growth.peak = max(growth.peak, server.memory())
            if growth.size > ceiling:
                growth.ended = True
                server.kill()
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield growth
    finally:
        ended.set()
        sampler.join()
    if not growth.ended:
        growth.peak = max(growth.peak, server.peakMemory() if marked else server.memory())


@contextmanager
def noCollections() -> Iterator[None]:
    """Keep this process's own garbage collector out of a measured time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True)
class Certificate:
    """A private key and a self-signed certificate for 127.0.0.1, as paths of PEM files."""

    key: Path
    chain: Path


@contextmanager
def newCertificate() -> Iterator[Certificate]:
    """A certificate of one day, in files that go when the block ends.

    :raise NotMeasured: without the ``cryptography`` package.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise NotMeasured("TLS needs the cryptography package") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    with tempfile.TemporaryDirectory() as folder:
        files = Certificate(Path(folder) / "key.pem", Path(folder) / "certificate.pem")
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        files.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        yield files
