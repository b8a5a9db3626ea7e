"""Control Chromium by its DevTools protocol, which is JSON over a WebSocket."""

from __future__ import annotations

import json
import os
import re
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.task import deferLater

from getty_tx import Client, EventListener
from getty_tx.codecs import RawCodec
from tests.docs.test_echo_page import ARGUMENTS, CHROMIUM, PATIENCE, Browser
from tests.support.memory import configure

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

__all__ = ["Tab"]


class _Announced(Browser):
    """
    A Chromium process.

    :ivar url: fires with the URL of its DevTools.
    """

    def __init__(self) -> None:
        super().__init__(DeferredQueue())
        self.url: Deferred[str] = Deferred()

    def errReceived(self, data: bytes) -> None:
        """Chromium wrote to standard error."""
        self.output += data
        found = re.search(rb"DevTools listening on (ws://\S+)\s", self.output)
        if found and not self.url.called:
            self.url.callback(found[1].decode())


class Tab(EventListener):
    """
    A page in a browser with a new profile; :py:meth:`open` makes it.

    :ivar session: the session with the browser's DevTools, shared by its pages.
    :ivar numbers: the numbers of requests, which belong to the browser.
    :ivar answers: unanswered requests by number.
    """

    def __init__(self) -> None:
        self.numbers = count(1)
        self.answers: dict[int, Deferred[Any]] = {}
        self.session: Any = None
        self._target: dict[str, str] = {}

    @classmethod
    async def open(cls, case: TestCase, url: str, *more: str) -> Tab:
        """Start a browser with this page; a cleanup of the test ends it."""
        folder = os.path.abspath(case.mktemp())
        os.makedirs(folder)
        browser = _Announced()
        arguments = [*ARGUMENTS, "--remote-debugging-port=0", f"--user-data-dir={folder}", *more, "about:blank"]
        command = [CHROMIUM, *arguments]
        reactor.spawnProcess(browser, CHROMIUM, command, env={**os.environ, "HOME": folder}, path=folder)
        case.addCleanup(browser.end)
        tab = cls()
        devTools = await browser.url.addTimeout(PATIENCE, reactor)
        client = Client(configure(tab, RawCodec(), maxMsgLen=2**26), devTools, reconnectAttempts=1)
        client.startService()
        case.addCleanup(client.stopService)
        [tab.session] = await client.whenReady()
        pages = [each for each in (await tab.tell("Target.getTargets"))["targetInfos"] if each["type"] == "page"]
        await tab.attach(pages[0]["targetId"])
        await tab.tell("Page.navigate", url=url)
        return tab

    async def another(self, url: str) -> Tab:
        """Open another page in the same browser."""
        tab = Tab()
        tab.numbers, tab.answers, tab.session = self.numbers, self.answers, self.session
        await tab.attach((await tab.tell("Target.createTarget", url=url))["targetId"])
        return tab

    async def attach(self, target: str) -> None:
        attached = await self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._target = {"sessionId": attached["sessionId"]}

    def onMessage(self, session: Any, pkg: Any) -> None:
        """Chromium answers or reports an event."""
        message = json.loads(pkg)
        waiting = self.answers.pop(message.get("id", 0), None)
        if waiting is not None:
            waiting.callback(message)

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of DevTools; returns the result."""
        number = next(self.numbers)
        answer: Deferred[Any] = Deferred()
        self.answers[number] = answer
        self.session.writePkg(json.dumps({"id": number, "method": method, "params": params, **self._target}))
        message = await answer.addTimeout(PATIENCE, reactor)
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    async def enter(self) -> None:
        """Press Enter."""
        key: dict[str, Any] = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await self.tell("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
        await self.tell("Input.dispatchKeyEvent", type="keyUp", **key)

    async def type(self, text: str) -> None:
        """Type a line into the field that has the focus, or gets it when the page comes to the front."""
        await self.tell("Page.bringToFront")
        await self.until("document.hasFocus() && document.activeElement.matches('input')")
        await self.tell("Input.insertText", text=text)
        await self.enter()

    async def ask(self, expression: str) -> Any:
        """Evaluate a JavaScript expression in the page."""
        answer = await self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Poll a JavaScript expression until it is true; returns its value."""
        for _ in range(PATIENCE * 10):
            value = await self.ask(f"(() => {{ try {{ return {expression}; }} catch (e) {{ return null; }} }})()")
            if value:
                return value
            await deferLater(reactor, 0.1, lambda: None)
        raise AssertionError(f"never true: {expression}; the page says {await self.ask('document.body.innerText')}")
