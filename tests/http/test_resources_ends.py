"""Resources of twisted.web: what goes wrong, clients that leave, and producers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from getty_tx import http
from getty_tx.errors import RefuseRequest, SettingError
from tests.http.test_resources import FORM, GET, Page, ResourcesCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http import Answer, Talk


class FailureTests(ResourcesCase):
    """What goes wrong."""

    def test_raises(self) -> None:
        """The client gets 500 and no traceback, whatever was set before; the connection goes on."""
        ended: list[Any] = []

        def render(request: Any) -> bytes:
            request.setHeader(b"Content-Encoding", b"gzip")
            request.setHeader(b"Content-Length", b"7")
            request.notifyFinish().addErrback(ended.append)
            raise ValueError("secret")

        talk = self.serve(render)
        for _ in range(2):
            answer = talk.ask(GET)
            self.assertEqual((answer.status, answer.body), (500, b"500 Internal Server Error\n"))
            self.assertIsNone(answer.header(b"content-encoding"))
        self.assertEqual([each.type for each in ended], [ValueError, ValueError])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_raisesLate(self) -> None:
        """An answer that has begun is cut off."""

        def render(request: Any) -> bytes:
            request.write(b"begin")
            raise ValueError("secret")

        answer = self.serve(render).ask(GET)
        self.assertEqual((answer.status, answer.isComplete, answer.body), (200, False, b"begin"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_refuses(self) -> None:
        def render(request: Any) -> bytes:
            raise RefuseRequest(429, "not so fast", {"Retry-After": "7"})

        answer = self.serve(render).ask(GET)
        self.assertEqual((answer.status, answer.header(b"retry-after")), (429, b"7"))

    def test_wrong(self) -> None:
        """No bytes, a status that ends no request, a field that cannot stand in a head."""
        self.assertEqual(self.serve(lambda request: "text").ask(GET).status, 500)
        for wrong in (
            lambda request: request.setResponseCode(100),
            lambda request: request.setHeader(b"X-A", b"\x00"),
        ):

            def render(request: Any, wrong: Callable[[Any], Any] = wrong) -> bytes:
                wrong(request)
                return b"body"

            self.assertEqual(self.serve(render).ask(GET).status, 500)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_lengths(self) -> None:
        """An answer that is shorter than it says is cut off; one that is longer has not begun yet."""

        def render(request: Any) -> Any:
            request.setHeader(b"Content-Length", b"2")
            request.write(request.args[b"a"][0])
            request.finish()
            return NOT_DONE_YET

        for data, status in ((b"1", 200), (b"123", 500)):
            talk = self.serve(render)
            talk.send(GET.replace(b"/ ", b"/?a=%b " % data))
            self.assertEqual(talk.ended, status == 200)
            (answer,) = talk.answers()
            self.assertEqual((answer.status, answer.isComplete), (status, status == 500))
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_gone(self) -> None:
        """A client that leaves is told by notifyFinish; what is written after that is nobody's."""
        requests: list[Any] = []
        lost: list[Any] = []

        def render(request: Any) -> Any:
            requests.append(request)
            request.notifyFinish().addErrback(lost.append)
            return NOT_DONE_YET

        talk = self.serve(render)
        talk.send(GET)
        talk.pair.reset()
        talk.pair.flush()
        self.assertEqual([each.type for each in lost], [ConnectionLost])
        requests[0].write(b"too late")
        self.assertRaises(RuntimeError, requests[0].finish)
        requests[0].processingFailed(Failure(ValueError("too late")))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_goneInBody(self) -> None:
        called: list[Any] = []
        talk = self.serve(called.append)
        talk.send(FORM % (b"a/b", 200_000, bytes(150_000)))
        talk.pair.reset()
        talk.pair.flush()
        self.assertEqual((called, talk.context.running), ([], 0))

    def test_loseConnection(self) -> None:
        def render(request: Any) -> Any:
            request.write(b"begin")
            request.loseConnection()
            return NOT_DONE_YET

        talk = self.serve(render)
        talk.send(GET)
        (answer,) = talk.answers()
        self.assertEqual((answer.body, answer.isComplete, talk.ended), (b"begin", False, True))

    def test_noResource(self) -> None:
        self.assertRaises(SettingError, http.Resources, object())

    def test_lazy(self) -> None:
        """twisted.web is loaded where resources are served, and no reactor with it."""
        code = (
            "import sys\nfrom getty_tx import http\nassert 'twisted.web.server' not in sys.modules\n"
            "http.Resources\nassert 'twisted.web.server' in sys.modules\n"
            "assert 'twisted.internet.reactor' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@implementer(IPushProducer)
class Push:
    """Writes while it is asked, and until it is paused."""

    def __init__(self, request: Any, left: int) -> None:
        self.request = request
        self.left = left
        self.events: list[str] = []

    def resumeProducing(self) -> None:
        self.events.append("resume")
        self.isPaused = False
        while self.left and not self.isPaused:
            self.left -= 1
            self.request.write(bytes(10_000))
        if not self.left:
            self.request.unregisterProducer()
            self.request.finish()

    def pauseProducing(self) -> None:
        self.events.append("pause")
        self.isPaused = True

    def stopProducing(self) -> None:
        self.events.append("stop")


@implementer(IPullProducer)
class Pull:
    """Writes once each time it is asked."""

    def __init__(self, request: Any, left: int) -> None:
        self.request = request
        self.left = left
        self.events: list[str] = []

    def resumeProducing(self) -> None:
        self.events.append("resume")
        if self.left < 0:
            raise ValueError("secret")
        if self.left:
            self.left -= 1
            self.request.write(bytes(10_000))
        else:
            self.request.unregisterProducer()
            self.request.finish()

    def stopProducing(self) -> None:
        self.events.append("stop")


class ProducerTests(ResourcesCase):
    """Back-pressure: what waits is bounded, whatever the client does."""

    def begin(self, kind: Any, left: int, begin: bytes = b"") -> tuple[Talk, Any]:
        producers: list[Any] = []

        def render(request: Any) -> Any:
            request.write(begin)
            producer = kind(request, left)
            producers.append(producer)
            request.registerProducer(producer, kind is Push)
            if kind is Push and producer.events != ["pause"]:
                producer.resumeProducing()
            return NOT_DONE_YET

        talk = self.talk(http.Resources(Page(render)), capacity=1000)
        talk.pair.peer.transport.pauseProducing()
        talk.send(GET)
        return talk, producers[0]

    def finish(self, talk: Talk) -> Answer:
        talk.pair.peer.transport.resumeProducing()
        talk.pair.flush()
        (answer,) = talk.answers()
        return answer

    def test_pressure(self) -> None:
        for kind in (Push, Pull):
            talk, producer = self.begin(kind, 200)
            for _ in range(3):
                talk.clock.advance(1)
                self.assertGreater(talk.session.pendingBytes, talk.session.highWater)
                self.assertLess(talk.session.pendingBytes, talk.session.highWater + 20_000)
            self.assertGreater(producer.left, 150)
            answer = self.finish(talk)
            self.assertEqual((len(answer.body), answer.isComplete), (2_000_000, True))
            self.assertNotIn("stop", producer.events)

    def test_behind(self) -> None:
        """It is not asked while what was written before it waits."""
        for kind, events in ((Push, ["pause"]), (Pull, [])):
            talk, producer = self.begin(kind, 3, bytes(500_000))
            self.assertEqual(producer.events, events)
            self.assertEqual(len(self.finish(talk).body), 530_000)

    def test_gone(self) -> None:
        for kind in (Push, Pull):
            talk, producer = self.begin(kind, 200)
            talk.pair.reset()
            talk.pair.flush()
            self.assertEqual(producer.events[-1], "stop")
            count = len(producer.events)
            talk.clock.advance(5)
            self.assertEqual(len(producer.events), count)

    def test_goneAtOnce(self) -> None:
        """What one writes when it is stopped is nobody's."""

        class Late(Push):
            def stopProducing(self) -> None:
                self.request.write(b"late")
                self.request.unregisterProducer()
                self.request.finish()

        for begin in (b"", b"begin"):
            ended: list[Any] = []

            def render(request: Any, begin: bytes = begin, ended: list[Any] = ended) -> Any:
                if begin:
                    request.write(begin)
                request.notifyFinish().addBoth(ended.append)
                request.registerProducer(Late(request, 1), True)
                return NOT_DONE_YET

            talk = self.serve(render)
            talk.send(GET)
            talk.pair.reset()
            talk.pair.flush()
            self.assertEqual(len(ended), 1)

    def test_fails(self) -> None:
        """One that raises ends the answer."""
        talk, producer = self.begin(Pull, -1, b"begin")
        self.assertFalse(self.finish(talk).isComplete)
        self.assertEqual(producer.events, ["resume", "stop"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_leaves(self) -> None:
        """One that is unregistered before its turn is not asked."""

        def render(request: Any) -> bytes:
            request.registerProducer(Pull(request, -1), False)
            request.unregisterProducer()
            return b"body"

        self.assertEqual(self.serve(render).ask(GET).body, b"body")

    def test_deferred(self) -> None:
        """A render that waits for a Deferred, as Klein's do."""
        waiting: list[Deferred[bytes]] = [Deferred()]

        def render(request: Any) -> Any:
            answered = waiting[0].addCallback(request.write).addCallback(lambda _: request.finish())
            answered.addErrback(request.processingFailed).addErrback(lambda _: None)
            return NOT_DONE_YET

        talk = self.serve(render)
        talk.send(GET)
        waiting[0].callback(b"now")
        talk.pair.flush()
        self.assertEqual([answer.body for answer in talk.answers()], [b"now"])
        waiting[0] = Deferred()
        talk.send(GET)
        waiting[0].errback(ValueError("secret"))
        talk.pair.flush()
        (answer,) = talk.answers()
        self.assertEqual((answer.status, answer.body), (500, b"500 Internal Server Error\n"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
