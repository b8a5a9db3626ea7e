"""The acts of getty_tx's own clients: pools on each kind of endpoint, to a server that lives and one that is killed."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from benchmarks.soak import plan
from benchmarks.soak.findings import PlannedError
from benchmarks.soak.messages import UNKNOWN, Op
from benchmarks.soak.process import ServerProcess
from benchmarks.soak.talkers import NEVER, Talker, configure
from benchmarks.soak.world import within
from getty_tx import Client, SessionClosedError

if TYPE_CHECKING:
    from benchmarks.soak.plan import Act
    from benchmarks.soak.process import Places
    from benchmarks.soak.world import World
    from getty_tx import Session

__all__ = ["ACTS", "StandingPools", "endpoint"]

#: Seconds before a lost session is dialed again.
RECONNECT = 0.05

#: The endings after which the pool has to replace the session.
REPLACED = frozenset({"bye", "raise", "ownRaise", "ownError", "serverAbort"})

#: Those whose every request has its answer; and those of whose requests none is lost, although no answer is waited for.
LIVED = frozenset({"close", "poolClose", "bye"})
ARRIVED = frozenset({"closeAtOnce"})


def endpoint(world: World, name: str, places: Places | None = None) -> str:
    """The description that dials a server's endpoint."""
    places = places or world.steady
    port = places.ports.get(name)
    trust = f"trustRoots={world.chain}"
    return {
        "tcp": f"tcp:127.0.0.1:{port}",
        "unix": f"unix:{places.path}",
        "tls": f"tls:127.0.0.1:{port}:{trust}",
        "ws": f"ws://127.0.0.1:{port}/soak",
        "wss": f"wss:127.0.0.1:{port}:path=/soak:{trust}",
        "udp": f"udp:127.0.0.1:{port}:probeTimeout=0.05",
        "udpOne": f"udp:127.0.0.1:{port}:probeTimeout=0.05",
    }[name]


def newPool(world: World, description: str, number: int, talkers: list[Talker], lossy: bool = False) -> Client:
    """A pool whose sessions each have a Talker, that is added to ``talkers``."""

    def newSession(session: Session) -> None:
        talker = Talker(world, lossy)
        talkers.append(talker)
        configure(session, talker)

    return Client(
        newSession,
        description,
        number=number,
        reconnectInterval=RECONNECT,
        connectTimeout=NEVER,
        handshakeTimeout=NEVER,
        reactor=world.reactor,
    )


async def pool(world: World, act: Act) -> None:
    """A pool talks over one of the endpoints, its sessions end in one of the ways, and it is closed."""
    random = act.random()
    name = random.choice(("tcp", "tcp", "tls", "unix", "ws", "wss"))
    await _pool(world, act, random, name, plan.ending(random))


async def startTLS(world: World, act: Act) -> None:
    """The same, with TLS begun in the middle of it."""
    random = act.random()
    await _pool(world, act, random, "tcp", plan.ending(random), secure=True)


async def _pool(world: World, act: Act, random: Random, name: str, ending: str, secure: bool = False) -> None:
    number = random.randint(1, 3)
    scripts = [plan.bursts(random) for _ in range(number)]
    lasts = [plan.burst(random) for _ in range(number)]
    where = f"{act}, {name}, {ending}{', with startTLS' if secure else ''}"
    world.tally.add(f"pool: {ending}")
    talkers: list[Talker] = []
    client = newPool(world, endpoint(world, name), number, talkers)
    client.startService()
    try:
        await client.whenReady(number, world.patience)
        first = [_talkerOf(session) for session in client.sessions]
        if secure:
            for talker in first:
                talker.ask(Op.STARTTLS, 10)
            for talker in first:
                await talker.answered()
        await gatherResults(
            [
                Deferred.fromCoroutine(_converse(world, talker, script, last, ending, where, random))
                for talker, script, last in zip(first, scripts, lasts, strict=True)
            ],
            consumeErrors=True,
        )
        if ending in REPLACED:
            await client.whenReady(number, world.patience)
            for session in client.sessions:
                talker = _talkerOf(session)
                talker.ask(size=100)
                await talker.answered()
                talker.over(True, f"{where}, the replacement")
    finally:
        await within(world, client.close())
    for talker in talkers:
        if not talker.isClosed and talker.conversation.asked:
            world.finding(where, "events", "the pool is closed, and not its sessions")
        if ending in ("close", "closeAtOnce", "poolClose") and talker.error is not None:
            world.finding(where, "errors", f"a session failed: {talker.error!r}")


def _talkerOf(session: Session) -> Talker:
    listener: Any = session.listener
    return listener  # type: ignore[no-any-return]  # as newPool has set it


async def _converse(
    world: World,
    talker: Talker,
    script: list[list[plan.Request]],
    last: list[plan.Request],
    ending: str,
    where: str,
    random: Random,
) -> None:
    """One session's part of the act, up to its end."""
    await talker.talk(script, random)
    session = talker.session
    if session is None or session.isClosed:
        talker.over(True, where)
        world.finding(where, "lost", f"the session ended before its time: {talker.error!r}")
        return
    if ending == "close":
        session.close()
    elif ending == "closeAtOnce":
        talker.ask(Op.REMEMBER)
        await talker.askAll(last)
        session.close()
    elif ending == "bye":
        await talker.askAll(last)
        talker.ask(Op.BYE, 10)
    elif ending == "raise":
        await talker.askAll(last)
        talker.ask(Op.RAISE, 10)
    elif ending == "serverAbort":
        await talker.askAll(last)
        talker.ask(Op.ABORT, 10)
    elif ending == "ownRaise":
        talker.raises = True
        talker.ask(size=10)
    elif ending == "ownError":
        await talker.askAll(last)
        session.close(PlannedError("the plan wants this session to fail"))
    elif ending == "abort":
        await talker.askAll(last)
        session.abort()
    else:
        # The pool's close() ends it.
        talker.over(True, where)
        return
    await talker.closed()
    talker.over(ending in LIVED or ending == "raise", where)
    if ending in ARRIVED:
        await _haveArrived(world, talker, where)


async def _haveArrived(world: World, talker: Talker, where: str) -> None:
    """What was written before a close() has come to the server, all of it."""
    asked, number = talker.conversation.asked, talker.conversation.number
    talkers: list[Talker] = []
    client = newPool(world, endpoint(world, "tcp"), 1, talkers)
    answers: list[int] = []
    client.startService()
    try:
        await client.whenReady(1, world.patience)
        asker = talkers[-1]
        asker.heard = lambda session, message: answers.append(message.argument)  # type: ignore[method-assign]
        for _ in range(int(world.patience / 0.05)):
            asker.ask(Op.ASK, argument=number)
            await asker.answered()
            if answers[-1] != UNKNOWN:
                break
            await world.sleep(0.05)
        asker.over(True, where)
    finally:
        await within(world, client.close())
    if answers[-1] != asked:
        arrived = "nothing is known" if answers[-1] == UNKNOWN else f"{answers[-1]} came"
        world.finding(where, "lost", f"{asked} requests were written before the close, and {arrived}")


async def datagrams(world: World, act: Act) -> None:
    """Connected sockets talk over UDP, where messages may be lost, but neither altered nor doubled nor reordered."""
    random = act.random()
    name = random.choice(("udp", "udpOne"))
    number = random.randint(1, 2)
    talkers: list[Talker] = []
    client = newPool(world, endpoint(world, name), number, talkers, lossy=True)
    client.startService()
    try:
        await client.whenReady(number, world.patience)
        for talker in [_talkerOf(session) for session in client.sessions]:
            for _ in range(random.randint(1, 10)):
                for _ in range(random.randint(1, 8)):
                    talker.ask(size=random.choice((0, 1, 100, 1400, 8000)))
                try:
                    await talker.answered(seconds=1.0)
                except TimeoutError:
                    break
            if random.random() < 0.2 and not talker.isClosed:
                talker.ask(Op.RAISE)
            if not talker.conversation.heard:
                world.finding(act, "lost", "not one datagram came back")
            talker.over(lived=True)
    finally:
        await within(world, client.close())


async def kill(world: World, act: Act) -> None:
    """The victim is killed and started again; ``StandingPools`` have to be whole again then."""
    random = act.random()
    pools = world.standing
    if pools.isDown:
        world.tally.add("event: kill left out")
        return
    pools.isDown = True
    world.tally.add("event: server killed")
    # What it has found would be lost with it.
    world.findings.take(await world.victimProcess.report())
    await world.sleep(random.uniform(0, 0.3))
    await world.victimProcess.kill()
    await world.sleep(random.uniform(0, 0.6))
    world.victimProcess = ServerProcess(world.reactor, world.serverOptions, world.victim, world.findings)
    await world.victimProcess.start()
    await pools.whole(act)
    await world.sleep(random.uniform(0, 1))
    pools.isDown = False


class StandingPools:
    """
    The pools of the server that is killed now and then: they talk as long as it lives, and dial as long as it does not.

    :ivar isDown: the server is dead, or starts, or has just started.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.isDown = False
        self._talking = 0
        self._clients = [
            Client(
                self._newSession,
                endpoint(world, name, world.victim),
                number=number,
                reconnectInterval=RECONNECT,
                handshakeTimeout=NEVER,
                reactor=world.reactor,
            )
            for name, number in (("tcp", 4), ("unix", 2))
        ]

    def start(self) -> None:
        """Dial."""
        for client in self._clients:
            client.startService()

    async def whole(self, who: object) -> None:
        """Every session is there again, or it is a finding."""
        for client in self._clients:
            try:
                await client.whenReady(client.number, self.world.patience)
            except Exception as error:
                self.world.finding(str(who), "hung", f"a pool is not whole again: {error}")

    async def close(self) -> None:
        """End all of it."""
        for client in self._clients:
            await within(self.world, client.close())

    def _newSession(self, session: Session) -> None:
        talker = _EndlessTalker(self.world)
        configure(session, talker)


class _EndlessTalker(Talker):
    """Talks until its session is lost."""

    def onOpen(self, session: Session) -> None:
        super().onOpen(session)
        Deferred.fromCoroutine(self._talkOn()).addErrback(self._failed)

    async def _talkOn(self) -> None:
        random = Random(f"{self.world.seed}/standing/{self.conversation.number}")
        while self.session is not None and not self.session.isClosed and not self.world.over:
            try:
                await self.talk([plan.burst(random)], random)
            except SessionClosedError:
                break
            await self.world.sleep(random.uniform(0, 0.2))
        # Whoever was not killed has heard everything.
        self.over(lived=self.session is not None and not self.session.isClosed)

    def _failed(self, failure: Any) -> None:
        self.world.findings.add("hung", f"a standing pool: {failure.getTraceback()}")


#: The acts by kind.
ACTS = {"pool": pool, "startTLS": startTLS, "datagrams": datagrams, "kill": kill}
