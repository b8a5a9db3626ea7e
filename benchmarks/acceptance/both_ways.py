"""Two ends that send each other 100 MB at once, with default settings, each reading only what its session reads.

Each end is a process of its own. Over TCP, TLS, a unix socket and WebSocket, an end writes its packages

- drained: a megabyte at a time, awaiting ``drained()``,
- refused: as many as are taken, and goes on a little later where one is refused with SessionBlockedError,
- at once: in one ``writeBytes``, where there is a stream of bytes.

Limits: every package comes, in order and unaltered; no session ends by an error; 32 MB of memory above what an end had
before it wrote, at its highest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance.harness import MB, Certificate, Figure, Target, main, newCertificate
from benchmarks.servers import freePort

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_LIMIT = 32 * MB

#: Packages that an end sends, and bytes of each.
COUNT = 1000
SIZE = 100_000

#: Seconds that an end may take; a session that waits for its peer in vain ends after 5.
PATIENCE = 60

#: How an end writes: see the module.
MODES = ("drained", "refused", "at once")


def descriptions(kind: str, folder: Path, certificate: Certificate) -> tuple[str, str]:
    """Where the one end listens, and what the other dials."""
    if kind == "unix":
        return f"unix:{folder}/both", f"unix:{folder}/both"
    port = freePort()
    if kind == "tls":
        secrets = f"privateKey={certificate.key}:certKey={certificate.chain}"
        return (
            f"ssl:{port}:{secrets}:interface=127.0.0.1",
            f"tls:127.0.0.1:{port}:trustRoots={certificate.chain}",
        )
    return f"{kind}:{port}:interface=127.0.0.1", f"{kind}:127.0.0.1:{port}"


def measureCase(kind: str, mode: str, folder: Path, certificate: Certificate) -> Iterator[Figure]:
    name = f"{kind}, {mode}"
    listen, dial = descriptions(kind, folder, certificate)
    command = [sys.executable, "-m", "benchmarks.acceptance.both_ways_end"]
    ends = []
    reports: list[dict[str, Any]] = []
    try:
        server = subprocess.Popen([*command, "listen", listen, mode], stdout=subprocess.PIPE, text=True)
        ends.append(server)
        assert server.stdout is not None
        if server.stdout.readline() != "listening\n":
            raise OSError(f"the end on {listen} does not listen")
        ends.append(subprocess.Popen([*command, "dial", dial, mode], stdout=subprocess.PIPE, text=True))
        for end in ends:
            output, _ = end.communicate(timeout=PATIENCE + 20)
            reports.append(json.loads(output.splitlines()[-1]))
    finally:
        for end in ends:
            if end.poll() is None:
                end.kill()
            end.wait()
    missing = sum(COUNT - report["right"] for report in reports)
    errors = sorted({error for report in reports for error in report["errors"]})
    seconds = max(report["seconds"] for report in reports)
    yield Figure(
        f"both ways over {name}",
        missing + len(errors),
        0,
        f"{missing} packages missing{', ' if errors else ''}{'; '.join(errors)}",
        f"{2 * COUNT * SIZE / MB:.0f} MB in {seconds:.1f} s",
    )
    memory = max(report["memory"] for report in reports)
    yield Figure(f"memory, both ways over {name}", memory / MB, MEMORY_LIMIT / MB, f"{memory / MB:.1f} MB")


def measure(_target: Target) -> Iterator[Figure]:
    with newCertificate() as certificate, tempfile.TemporaryDirectory() as folder:
        for kind in ("tcp", "tls", "unix", "ws"):
            for mode in MODES:
                if kind != "ws" or mode != "at once":
                    yield from measureCase(kind, mode, Path(folder), certificate)


if __name__ == "__main__":
    sys.exit(main("both_ways", measure, __doc__, seconds=600))
