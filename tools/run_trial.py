"""
Run trial and end with a line ``12 passed, 0 failed, 1 skipped``: ``run_trial.py [TRIAL ARGUMENT ...]``.

The exit status is trial's, except that a run without a single test has failed: a wrong name or a broken import
must not look like success.
"""

from __future__ import annotations

import re
import subprocess
import sys

#: trial's last line, ``FAILED (skips=1, failures=2, successes=30)``.
OUTCOME = re.compile(rb"^(?:PASSED|FAILED)(?: \(([^)]*)\))?\s*$", re.MULTILINE)
#: How much of the end of trial's output may hold that line.
TAIL = 64 * 1024


def countOutcomes(output: bytes) -> dict[str, int]:
    """
    Read trial's summary.

    :param output: the end of what trial printed.
    :return: trial's own counts (``successes``, ``failures``, ``errors``, ``skips``, ``expectedFailures``,
        ``unexpectedSuccesses``), those that are not zero; empty if there was no summary.
    """
    found = OUTCOME.findall(output)
    if not found:
        return {}
    counts = (item.partition("=") for item in found[-1].decode().split(", ") if item)
    return {name: int(count) for name, _, count in counts}


def summarize(counts: dict[str, int]) -> str:
    """Put trial's counts into one line; an expected failure is a pass, an unexpected success is none."""
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    skipped = counts.get("skips", 0)
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main(arguments: list[str]) -> int:
    """
    Run trial, passing its output on as it comes.

    :return: the exit status.
    """
    trial = subprocess.Popen(
        [sys.executable, "-m", "twisted.trial", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert trial.stdout is not None
    tail = b""
    while data := trial.stdout.read(TAIL):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        tail = (tail + data)[-TAIL:]
    status = trial.wait()
    counts = countOutcomes(tail)
    print(summarize(counts), flush=True)
    if status == 0 and counts.keys() <= {"skips"}:
        print("no test was run", file=sys.stderr)
        return 1
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
