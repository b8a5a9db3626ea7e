"""``client.service("Echo")``: calls that look like method calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.rpc.peer import DEFAULT
from getty_tx.session.deadlines import checkTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Stub"]


class Stub:
    """
    The methods of a service of the other end.

    :param caller: has ``call(service, method, *arguments, timeout=, metadata=)``, and ``stream``.
    :param service: the service's name.
    :param names: the methods that there are, and whether they are streams; None: any, and none is known as a stream.
    """

    def __init__(
        self,
        caller: Any,
        service: str,
        names: Mapping[str, bool] | None = None,
        timeout: Any = DEFAULT,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._caller = caller
        self._service = service
        self._names = names
        self._timeout = timeout
        self._metadata = metadata

    def options(self, timeout: Any = DEFAULT, metadata: Mapping[str, str] | None = None) -> Stub:
        """
        The same service, with another time-out and metadata for each call.

        :raise SettingError: the time-out is no number of seconds.
        """
        if timeout is not DEFAULT:
            checkTimeout(timeout)
        return Stub(self._caller, self._service, self._names, timeout, metadata)

    def __repr__(self) -> str:
        return f"<service {self._service} of {self._caller!r}>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._names is not None and name not in self._names:
            raise SettingError(f"service {self._service} has no method {name}")
        call, service, timeout, metadata = self._caller.call, self._service, self._timeout, self._metadata
        if self._names is not None and self._names[name]:
            call = self._caller.stream
            timeout = None if timeout is DEFAULT else timeout

        def method(*arguments: Any) -> Any:
            return call(service, name, *arguments, timeout=timeout, metadata=metadata)

        method.__name__ = name
        # The next time it is found without this method.
        self.__dict__[name] = method
        return method
