"""
Says in one line what this Python lacks for getty_tx, or nothing.

An older Python must be able to read this file: no annotations and no f-strings.
"""

import sys

#: The same as ``requires-python`` in ``pyproject.toml``.
MINIMUM = (3, 11)


def complaint():
    """Return what is missing, or an empty string."""
    name = sys.executable + " (" + sys.version.split()[0] + ")"
    if sys.version_info[:2] < MINIMUM:
        return "getty_tx needs Python 3.11 or newer, and this is " + name + "; name another with PYTHON="
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return name + " has no venv module; on Debian and Ubuntu: apt install python3-venv"
    return ""


if __name__ == "__main__":
    print(complaint())
