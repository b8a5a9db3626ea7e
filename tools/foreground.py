"""
Run a command until it is stopped, and call being stopped a success: ``foreground.py COMMAND [ARGUMENT ...]``.

``twistd`` ends by the signal that stopped it, as it should, and ``make`` reports that as an error of the recipe.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

#: Ctrl-C, ``kill``, and the terminal's end.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def runUntilStopped(command: list[str]) -> int:
    """
    Run ``command`` and wait for its end.

    :return: its exit status, 0 if one of :data:`STOPPING` ended it.
    """
    stopped: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def onSignal(signum: int, frame: FrameType | None) -> None:
        stopped.append(signum)
        # The terminal sends Ctrl-C to the command as well; passing it on would be a second one.
        if child is not None and signum != signal.SIGINT:
            child.send_signal(signum)

    # Functions, never SIG_IGN: that is inherited, and Twisted leaves a SIGINT alone that it finds ignored.
    for stopping in STOPPING:
        signal.signal(stopping, onSignal)
    child = subprocess.Popen(command)
    if stopped:
        child.send_signal(signal.SIGTERM)
    status = child.wait()
    if -status in STOPPING:
        return 0
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(runUntilStopped(sys.argv[1:]))
