"""``twistd getty-http``: serves handlers over HTTP."""

from __future__ import annotations

import os
from typing import Any

from twisted.python import usage

from getty_tx.errors import SettingError
from getty_tx.tap.lookup import lookUp
from getty_tx.tap.options import optionalCount
from getty_tx.tap.web import Handler, HTTPContext, IApplication, WebOptions, makeService

__all__ = ["Options", "makeService"]

_WANTED = "give a folder, or module:name of a Router or a handler, such as mypkg.site:router"


class Options(WebOptions):
    """The command line of ``getty-http``."""

    command = "getty-http"
    synopsis = "[options] FOLDER | MODULE:NAME"
    about = (
        "Serve the files of a folder, an http.Router, or a function of a request, over HTTP/1.1. Without --listen, on"
        f" {WebOptions.defaultListen}. Modules are found on Python's path and in the working directory. SIGTERM and"
        " Ctrl-C end the command, after the requests on their way were answered."
    )
    examples = """\
  twistd -n --reactor getty getty-http mypkg.site:router
  twistd -n getty-http ./public
  twistd -n getty-http mypkg.site:router --listen tcp:80 --listen ssl:443:privateKey=key.pem:certKey=cert.pem \\
      --processes 0
"""

    optParameters = [
        ["max-body", None, HTTPContext.maxBody.default,
         "Bytes of a body that is gathered for a handler; more is refused with 413; a number, or none.",
         optionalCount("max-body", "bytes")],
    ]  # fmt: skip

    def parseArgs(self, *rest: str) -> None:
        """:raise usage.UsageError: there is not just one application."""
        if len(rest) != 1:
            raise usage.UsageError(f"{' '.join(rest)!r} is not one application; {_WANTED}")
        self.description = rest[0]

    def findApplication(self) -> Any:
        """See :py:meth:`getty_tx.tap.web.WebOptions.findApplication`."""
        if os.path.isdir(self.description):
            from getty_tx.http import Files

            return Files(self.description)
        try:
            found = lookUp(self.description, _WANTED)
        except SettingError as error:
            raise usage.UsageError(f"{self.description}: {error}") from error
        if IApplication.providedBy(found):
            return found
        if not callable(found):
            raise usage.UsageError(f"{self.description}: {type(found).__name__} is no handler; {_WANTED}")
        return Handler(found)

    def settings(self) -> dict[str, Any]:
        """See :py:meth:`getty_tx.tap.web.WebOptions.settings`."""
        return {**super().settings(), "maxBody": self["max-body"]}
