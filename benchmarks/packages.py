"""What peers need: whether an interpreter has a package, and its version."""

from __future__ import annotations

import subprocess

from benchmarks.servers import ROOT


def whyAbsent(module: str, interpreter: str) -> str:
    """Why an interpreter cannot import a module, in one line; empty if it can."""
    done = _run(f"import {module}", interpreter)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def versionOf(package: str, interpreter: str) -> str:
    """A package with its version, or nothing where it is not installed."""
    return _run(
        f"import importlib.metadata; print({package!r}, importlib.metadata.version({package!r}))", interpreter
    ).stdout.strip()


def _run(code: str, interpreter: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, cwd=ROOT)
