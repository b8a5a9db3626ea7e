"""
Run the Autobahn test suite's cases against getty_tx, as server and as client: ``conformance.py --help``.

The cases are driven by kosoku. As server, ``twistd getty-echo`` answers them; on a port of HTTP (the roles ``http``,
``asgi`` and ``group``, which broadcasts meanwhile), ``conformance_http.py``; as client, ``conformance_client.py``. A
folder for each role holds the report, ``index.html``, and the logs. A case has passed if its behaviour is OK,
NON-STRICT (a "should" of the RFC was not followed) or INFORMATIONAL (the RFC leaves it open), and its closing OK or
INFORMATIONAL.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSED = ("OK", "NON-STRICT", "INFORMATIONAL")
CLOSED = ("OK", "INFORMATIONAL")

#: What `make long` runs. Without 9 (long messages, many messages) and 12 and 13 (compression), which take minutes.
QUICK = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")

#: The longest message of the cases has 16 MB.
LONGEST = 17_000_000

#: Seconds between pings: longer than any case, as a ping ends those that expect none.
PING = 600

#: Cases at the same time; most of the quick ones wait for a second that nothing happens.
PARALLEL = 4

#: Seconds until a program has ended that was told to, and until the report is there that the client asked for.
PATIENCE = 10

KOSOKU = [sys.executable, "-c", "from kosoku._cli import main; main()"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
ECHO = f"getty-echo --codec raw --listen ws:0:interface=127.0.0.1:path=/ --max-msg-len {LONGEST} --cron {PING}"
HTTP = [sys.executable, str(Path(__file__).with_name("conformance_http.py")), str(LONGEST), str(PING)]
SERVERS = {
    "server": [*TWISTD, "-n", "--pidfile=", *ECHO.split()],
    "http": [*HTTP, "sessions"],
    "asgi": [*HTTP, "asgi"],
    "group": [*HTTP, "group"],
}
CLIENT = [sys.executable, str(Path(__file__).with_name("conformance_client.py"))]


ROLES = (*SERVERS, "client")


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that writes to a log; it is gone afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def portOf(process: subprocess.Popen[bytes], log: Path, late: float) -> str:
    """
    Wait until a program says where it listens.

    :raise RuntimeError: it has ended, or does not until then.
    """
    while time.monotonic() < late and process.poll() is None:
        if found := re.search(r"listening on \S*127\.0\.0\.1:(\d+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"does not listen:\n{log.read_text()}")


def selected(patterns: list[str]) -> list[str]:
    """The names of the cases; all, if there is no pattern."""
    # In a process of its own, as kosoku brings another package named autobahn.
    command = [sys.executable, "-c", "from kosoku.cases import CASES; print(*CASES)"]
    names = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    return [name for name in names if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def run(role: str, folder: Path, patterns: list[str], limit: float) -> Path:
    """
    Run the cases and write the report.

    :return: the index of the report.
    :raise RuntimeError: there is no report.
    """
    late = time.monotonic() + limit
    folder.mkdir(parents=True, exist_ok=True)
    index, log, driverLog = folder / "index.json", folder / "getty_tx.log", folder / "kosoku.log"
    for old in [*folder.glob("*.json"), *folder.glob("*.html")]:
        old.unlink()
    driver = [*KOSOKU, f"--outdir={folder}", *(f"--include={pattern}" for pattern in patterns)]
    with ExitStack() as stack:
        if role in SERVERS:
            tried = stack.enter_context(running(SERVERS[role], log))
            driver += [f"--parallelism={PARALLEL}", f"127.0.0.1:{portOf(tried, log, late)}"]
            driving = stack.enter_context(running(driver, driverLog))
        else:
            driving = stack.enter_context(running([*driver, "--mode=fuzzingserver", "127.0.0.1:0"], driverLog))
            client = [*CLIENT, portOf(driving, driverLog, late), str(LONGEST), str(PING), str(PARALLEL)]
            tried = stack.enter_context(running(client, log))
        while driving.poll() is None:
            if time.monotonic() > late:
                raise RuntimeError(f"{role}: not done within {limit:g} s; see {folder}")
            if tried.poll() is not None:
                # A client that has ended has asked for the report.
                late = min(late, time.monotonic() + PATIENCE)
            time.sleep(0.1)
    if not index.exists():
        raise RuntimeError(f"{role}: no report:\n{driverLog.read_text()}")
    return index


def summarize(role: str, index: Path, names: list[str]) -> bool:
    """
    Print how often each behaviour was seen, and which cases failed.

    :return: whether all have passed.
    """
    cases: dict[str, dict[str, str]] = {}
    for agent in json.loads(index.read_text()).values():
        cases |= agent
    for what, key in (("behaviour", "behavior"), ("closing", "behaviorClose")):
        counts = Counter(case[key] for case in cases.values())
        print(f"{role} {what}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    passed = 0
    notable = []
    for name in names:
        case = cases.get(name)
        if case is None:
            print(f"{role} {name}: not in the report")
        elif case["behavior"] not in PASSED or case["behaviorClose"] not in CLOSED:
            print(f"{role} {name}: {case['behavior']}, closing {case['behaviorClose']}: {case['reportfile']}")
        else:
            passed += 1
            if case["behavior"] != "OK":
                notable.append(f"{name} {case['behavior']}")
    others = f", among them {', '.join(notable)}" if notable else ""
    print(f"{role}: {passed} of {len(names)} cases passed{others}")
    return passed == len(names) > 0


def main(arguments: list[str]) -> int:
    """
    Run it.

    :return: the exit status.
    """
    parser = argparse.ArgumentParser(description="Run the Autobahn test suite's cases against getty_tx.")
    parser.add_argument("--role", action="append", choices=ROLES, help="what getty_tx is (all)")
    parser.add_argument("--case", action="append", help="a case, or several with *, such as 12.1.* (all)")
    parser.add_argument("--quick", action="store_true", help=f"cases {' '.join(QUICK)}")
    parser.add_argument("--folder", type=Path, default=Path("build/conformance"), help="for the report (%(default)s)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that it may take (%(default)s)")
    options = parser.parse_args(arguments)
    if find_spec("kosoku") is None:
        print("kosoku, which drives the cases, is not installed: pip install kosoku", file=sys.stderr)
        return 2
    roles = options.role or list(ROLES)
    cases = options.case or (list(QUICK) if options.quick else [])
    names = selected(cases)
    passed = True
    with ThreadPoolExecutor(len(roles)) as threads:
        results = [threads.submit(run, role, options.folder / role, cases, options.limit) for role in roles]
        for role, result in zip(roles, results, strict=True):
            try:
                passed = summarize(role, result.result(), names) and passed
            except RuntimeError as error:
                print(error, file=sys.stderr)
                passed = False
    print(f"the report: {' '.join(str(options.folder / role / 'index.html') for role in roles)}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
