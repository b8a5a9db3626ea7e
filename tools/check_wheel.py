"""
Build the wheel and try it as a user would: what it holds, whether ``twistd`` shows its commands, and the tutorial.

It is installed into a new virtual environment outside the checkout, because everything works from inside one:
there, a dropin that the wheel lacks is found in the working directory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "getty-echo",
    "getty-serve",
    "getty-rpc",
    "getty-http",
    "getty-asgi",
    "getty-grpc",
    "getty-gateway",
    "getty-dial",
)
NEEDED = (
    "getty_tx/__init__.py",
    "getty_tx/py.typed",
    "getty_tx/status/page/index.html",
    "getty_tx/status/page/uPlot.LICENSE",
    "twisted/plugins/getty_tx_commands.py",
)
#: Twisted's own files: a wheel that had them would overwrite them, and delete them when uninstalled.
FOREIGN = ("twisted/__init__.py", "twisted/plugins/__init__.py")


class WheelError(Exception):
    """The wheel, or what was installed from it, is not as it must be."""


def findFaults(names: Iterable[str]) -> list[str]:
    """
    Judge a wheel by the names of its files.

    :return: a line for each fault.
    """
    names = sorted(names)
    faults = [f"lacks {name}" for name in NEEDED if name not in names]
    for name in names:
        top = name.partition("/")[0]
        if name in FOREIGN or name.endswith(("dropin.cache", ".pyc")):
            faults.append(f"must not hold {name}")
        elif top not in {"getty_tx", "twisted"} and not top.endswith(".dist-info"):
            faults.append(f"must hold getty_tx and its dropins alone, not {name}")
        elif top == "twisted" and not name.startswith("twisted/plugins/"):
            faults.append(f"must not add to Twisted's own packages: {name}")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        faults.append("lacks the LICENSE")
    return faults


def run(command: list[str | Path], cwd: Path) -> str:
    """
    Run ``command`` without anything from the environment that would let Python find the checkout.

    :return: what it printed.
    :raise WheelError: with what it printed, if it failed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(Path(word).name if isinstance(word, Path) else word for word in command)
        raise WheelError(f"{words} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel into ``folder``, its backend in an environment of its own."""
    run([Path(sys.executable), "-m", "build", "--wheel", "--outdir", folder, ROOT], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def tryCommands(wheel: Path, folder: Path) -> None:
    """
    Install ``wheel`` into a new environment in ``folder``, ask its twistd for the commands, and follow the tutorial.

    :raise WheelError: if one is not listed, or does not tell its options; or if the tutorial leads elsewhere.
    """
    environment = folder / "venv"
    run([Path(sys.executable), "-m", "venv", environment], cwd=folder)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", "--constraint", ROOT / "constraints.txt", f"{wheel}[http2]"], cwd=folder)
    twistd = environment / "bin" / "twistd"
    listing = run([twistd, "--help"], cwd=folder)
    listed = {line.split()[0] for line in listing.splitlines() if line.strip()}
    missing = [command for command in COMMANDS if command not in listed]
    if missing:
        raise WheelError(f"twistd --help does not list {', '.join(missing)}:\n{listing}")
    for command in COMMANDS:
        run([twistd, command, "--help"], cwd=folder)
    run([Path(sys.executable), "-m", "tests.support.tutorial", environment / "bin"], cwd=ROOT)


def main() -> int:
    """Check it all, in a temporary folder; the exit status."""
    print("wheel: building, and installing into a clean environment", flush=True)
    with tempfile.TemporaryDirectory(prefix="getty_tx-wheel-") as name:
        folder = Path(name)
        try:
            wheel = build(folder)
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
            faults = findFaults(names)
            if faults:
                raise WheelError("\n".join(f"{wheel.name} {fault}" for fault in faults))
            tryCommands(wheel, folder)
        except WheelError as error:
            print(f"wheel: {error}", file=sys.stderr)
            return 1
        print(
            f"wheel: {wheel.name} holds {len(names)} files, installs, twistd lists {', '.join(COMMANDS)}, "
            "and the tutorial ends with a chat"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
