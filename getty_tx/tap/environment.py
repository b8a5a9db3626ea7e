"""``--env-file``: variables for the environment."""

from __future__ import annotations

import os
import re

from getty_tx.errors import SettingError

__all__ = ["addEnvironment"]

#: A line: a name, and a text in quotes or without them; a comment needs a space before it.
_LINE = re.compile(
    r"""
    (?:export[ \t]+)? ([A-Za-z_][A-Za-z0-9_]*) [ \t]* = [ \t]*
    (?: '([^']*)' | "([^"]*)" | ([^'"\s] .*?)? )
    (?: [ \t]+ \# .* | [ \t]* )
    """,
    re.VERBOSE,
)


def addEnvironment(path: str) -> None:
    """
    Set the variables of a file in ``os.environ``, but for those that are set already.

    A line is ``KEY=VALUE``, empty, or a comment that begins with ``#``. ``export`` may stand before it, and quotes
    around the value. What other programs would read differently is refused: ``${NAME}`` outside of single quotes, a
    backslash in double quotes, and a value of several lines.

    :raise SettingError: it cannot be read, or a line is none of these.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise SettingError(f"{error.strerror}; choose another file") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"is no text in UTF-8: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            name, value = _pairOf(text, number)
            found[name] = value
    for name, value in found.items():
        os.environ.setdefault(name, value)


def _pairOf(line: str, number: int) -> tuple[str, str]:
    match = _LINE.fullmatch(line)
    if match is None or "\0" in line:
        raise SettingError(f"line {number} is not KEY=VALUE, or its quotes do not end on it")
    name, literal, quoted, bare = match.groups()
    if literal is not None:
        return name, literal
    value = quoted or bare or ""
    if "${" in value:
        raise SettingError(f"line {number}: variables are not expanded; write {name}='...' for the text as it is")
    if quoted is not None and "\\" in value:
        raise SettingError(f"line {number}: a backslash in double quotes; write {name}='...' for the text as it is")
    return name, value
