"""grpc-go as Debian has it, with ``tests/grpc/peers/interop.go``, which is built once for each text of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from unittest import SkipTest

from tests.support.grpc.child import ROOT, Child
from tests.support.grpc.protos import SOURCES, folder

__all__ = ["gopeer"]

#: Where Debian's packages of Go's libraries are.
LIBRARIES = Path("/usr/share/gocode")

SOURCE = ROOT / "tests" / "grpc" / "peers" / "interop.go"
PROTO = SOURCES / "interop.proto"


@cache
def gopeer(role: str) -> Child:
    """
    It, running.

    :param role: ``client`` or ``server``.
    :raise SkipTest: something is not there.
    """
    return Child([str(_built()), role])


@cache
def _built() -> Path:
    version = LIBRARIES / "src" / "google.golang.org" / "grpc" / "version.go"
    if shutil.which("go") is None or not version.exists():
        raise SkipTest("there is no grpc-go (Debian: apt-get install golang-go golang-google-grpc-dev)")
    folder()  # It is skipped where there is no protoc.
    texts = b"".join(path.read_bytes() for path in (SOURCE, PROTO, version))
    kept = ROOT / "build" / f"grpc-go-{hashlib.sha256(texts).hexdigest()[:16]}"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        # Built aside and moved, because two processes may do so at the same time.
        with tempfile.TemporaryDirectory(dir=kept.parent) as aside:
            _build(Path(aside)).rename(kept)
    return kept


def _build(aside: Path) -> Path:
    """Build it. :raise SkipTest: it cannot be."""
    from grpc_tools import protoc

    # Without network: all comes from the packages, as it did before Go had modules.
    settings = {"GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0", "GOPATH": f"{aside}:{LIBRARIES}"}
    # Go does without a home, but not without a place for what it has compiled.
    where = {} if "HOME" in os.environ else {"GOCACHE": str(aside / "cache")}
    generated = aside / "src" / "getty" / "interop"
    generated.mkdir(parents=True)
    plugin, program = aside / "protoc-gen-go", aside / "program"

    def go(*words: str) -> None:
        done = subprocess.run(
            ["go", "build", *words], env={**os.environ, **settings, **where}, capture_output=True, text=True
        )
        if done.returncode:
            raise SkipTest(f"go cannot build here: {done.stderr}")

    go("-o", str(plugin), "github.com/golang/protobuf/protoc-gen-go")
    words = ["protoc", f"-I{SOURCES}", f"--plugin=protoc-gen-go={plugin}"]
    if protoc.main([*words, f"--go_out=plugins=grpc:{generated}", PROTO.name]):
        raise RuntimeError("protoc has failed")
    go("-o", str(program), str(SOURCE))
    return program
