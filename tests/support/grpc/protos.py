"""The generated code of ``tests/grpc/protos``, which is made where it is needed and kept nowhere."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import SkipTest

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["compiled", "folder", "interop"]

SOURCES = Path(__file__).parents[2] / "grpc" / "protos"


@cache
def folder() -> str:
    """Where the generated modules are while this process runs. :raise SkipTest: nothing is there to make them."""
    if importlib.util.find_spec("grpc_tools") is None:
        raise SkipTest("there is no grpcio-tools (pip install grpcio-tools)")
    from grpc_tools import protoc

    made = tempfile.TemporaryDirectory(prefix="getty-protos-")
    atexit.register(made.cleanup)
    # Where google/protobuf/*.proto are.
    well = Path(protoc.__file__).with_name("_proto")
    names = [path.name for path in SOURCES.glob("*.proto")]
    words = [
        "protoc",
        f"-I{SOURCES}",
        f"-I{well}",
        f"--python_out={made.name}",
        f"--grpc_python_out={made.name}",
        *names,
    ]
    if protoc.main(words):
        raise RuntimeError("protoc has failed")
    return made.name


def compiled(name: str, where: str | None = None) -> tuple[ModuleType, ModuleType]:
    """
    The two modules of a file: messages, and stubs with servicers.

    :param where: the folder of the generated code, where another process has made it.
    """
    where = where or folder()
    if where not in sys.path:
        sys.path.append(where)
    return importlib.import_module(f"{name}_pb2"), importlib.import_module(f"{name}_pb2_grpc")


def interop(where: str | None = None) -> tuple[ModuleType, ModuleType]:
    """Those of the interop service."""
    return compiled("interop", where)
