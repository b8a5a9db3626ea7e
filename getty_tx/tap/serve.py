"""``twistd getty-serve``: serves a user's codec and listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.python import usage

from getty_tx.tap.listen import DEFAULT_LISTEN, ListenOptions, ListenService, listenService
from getty_tx.tap.options import CodecOptions
from getty_tx.tap.registering import ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.interfaces import IEventListener

__all__ = ["Options", "makeService"]


class Options(CodecOptions, ServiceOptions, ListenOptions):
    """
    The command line of ``getty-serve``.

    :ivar listener: the listener of ``--listener``, after parsing.
    """

    command = "getty-serve"
    about = (
        f"Serve your codec and listener, on any number of endpoints. Without --listen, on {DEFAULT_LISTEN}. Modules are"
        " found on Python's path and in the working directory. Ctrl-C ends the command, after its sessions are flushed."
    )
    examples = """\
  twistd -n getty-serve --listener mypkg.service:Listener
  twistd -n getty-serve --listener mypkg.service:Listener --codec mypkg.codecs:MyCodec:size=4 \\
      --listen tcp:9000 --listen ssl:9443:privateKey=key.pem:certKey=cert.pem:trustRoot=clients.pem
"""

    optParameters = [
        ["listener", None, None, "Your listener (required): module:attr, an instance or a factory."],
    ]  # fmt: skip

    listener: IEventListener

    def postOptions(self) -> None:
        """See :py:meth:`getty_tx.tap.options.SessionOptions.postOptions`."""
        super().postOptions()
        if self["listener"] is None:
            raise usage.UsageError("--listener is required: module:attr, such as mypkg.service:Listener")
        self.listener = self.findListener(self["listener"])


def makeService(options: Options, endpoints: Sequence[IStreamServerEndpoint] | None = None) -> IService:
    """The service that ``twistd`` starts; in a sub-reactor, with its endpoints."""
    return listenService(options, lambda: ListenService(options, options.listener, endpoints=endpoints), endpoints)
