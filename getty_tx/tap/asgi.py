"""``twistd getty-asgi``: serves an ASGI application."""

from __future__ import annotations

from typing import Any

from twisted.python import usage

from getty_tx.errors import SettingError
from getty_tx.tap.web import WebOptions, makeService

__all__ = ["Options", "makeService"]

_WANTED = "give module:name of an ASGI application, such as mysite.asgi:application"


def lifespan(value: str) -> str:
    """The coercion of ``--lifespan``."""
    if value not in ("auto", "on", "off"):
        raise usage.UsageError(f"--lifespan {value}: takes one of auto, on, off")
    return value


class Options(WebOptions):
    """The command line of ``getty-asgi``."""

    command = "getty-asgi"
    synopsis = "[options] MODULE:NAME"
    about = (
        "Serve an ASGI 3 application, such as those of Django, Starlette and FastAPI, over HTTP/1.1. Without --listen,"
        f" on {WebOptions.defaultListen}. Modules are found on Python's path and in the working directory. SIGTERM and"
        " Ctrl-C end the command, after the requests on their way were answered."
    )
    examples = """\
  twistd -n --reactor getty getty-asgi mysite.asgi:application
  twistd -n --reactor getty getty-asgi mypkg.app:makeApp --factory --host 0.0.0.0 --port 80 --processes 0
"""

    optParameters = [
        ["lifespan", None, "auto",
         "Tell the application that the server starts and ends: auto, on (it must take it), or off.", lifespan],
    ]  # fmt: skip
    optFlags = [["factory", None, "MODULE:NAME is a function that returns the application."]]

    def parseArgs(self, *rest: str) -> None:
        """:raise usage.UsageError: there is not just one application."""
        if len(rest) != 1:
            raise usage.UsageError(f"{' '.join(rest)!r} is not one application; {_WANTED}")
        self.description = rest[0]

    def findApplication(self) -> Any:
        """See :py:meth:`getty_tx.tap.web.WebOptions.findApplication`."""
        # It brings asyncio.
        from getty_tx.http.asgi import Asgi

        try:
            return Asgi(
                self.description,
                lifespan=self["lifespan"],
                factory=bool(self["factory"]),
                exclusive=True,
                drainTime=self["timeout-graceful-shutdown"],
            )
        except SettingError as error:
            raise usage.UsageError(f"{self.description}: {error}; {_WANTED}") from error
        except Exception as error:
            text = f"{self.description}: importing it failed: {type(error).__name__}: {error}"
            raise usage.UsageError(text) from error
