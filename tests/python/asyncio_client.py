"""python-socketio's asyncio client."""

import asyncio
import sys
from contextlib import asynccontextmanager

import socketio
from checks import BURST, BYTES, CLIENT_LEFT, DEADLINE, NESTED, TEXTS, TRANSPORTS
from checks import arguments, checks_of, ends_on, result, tell

URL, MODE = arguments()


class Inbox:
    """The arguments of an event's arrivals, one after the other."""

    def __init__(self, sio, event, namespace="/"):
        self.queue = asyncio.Queue()
        sio.on(event, lambda *args: self.queue.put_nowait(args), namespace=namespace)

    async def next(self):
        return await asyncio.wait_for(self.queue.get(), DEADLINE)


@asynccontextmanager
async def connected(prepare=lambda sio: None, **options):
    sio = socketio.AsyncClient(reconnection=False)
    prepared = prepare(sio)
    await sio.connect(URL, transports=TRANSPORTS[MODE], wait_timeout=DEADLINE, **options)
    try:
        yield sio, prepared
    finally:
        await sio.disconnect()


async def check_connects():
    async with connected() as (sio, _):
        whoami = await sio.call("whoami", timeout=DEADLINE)
        assert whoami == {"id": sio.get_sid(), "transport": ends_on(MODE), "revision": 4}, whoami
        assert sio.transport() == ends_on(MODE)


async def check_events_carry_several_arguments():
    async with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for args in [(), (None,), ("a", 1, -2.5, True, {"nested": [1, {"x": "y"}]}, [])]:
            await sio.emit("message", args)
            assert await back.next() == args
        for text in TEXTS:
            await sio.emit("message", text)
            assert await back.next() == (text,)


async def check_binary_both_ways():
    async with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for args in [(BYTES,), (b"",), NESTED]:
            await sio.emit("message", args)
            assert await back.next() == args


async def check_the_server_acknowledges():
    async with connected() as (sio, _):
        for args in [(1, "2", [3]), NESTED]:
            assert await sio.call("message-with-ack", args, timeout=DEADLINE) == args


async def check_the_client_acknowledges():
    def prepare(sio):
        asked = Inbox(sio, "emit-with-ack")
        put = sio.handlers["/"]["emit-with-ack"]

        def acknowledge(*args):
            put(*args)
            return args

        sio.on("emit-with-ack", acknowledge)
        return asked

    async with connected(prepare) as (sio, asked):
        for args in [("é", 1), NESTED]:
            await sio.emit("emit-with-ack", args)
            assert await asked.next() == args, "what the server emitted"
            assert await asked.next() == args, "what was acknowledged"


async def check_namespaces_have_their_own_auth_and_id():
    def prepare(sio):
        return [Inbox(sio, "auth", namespace) for namespace in ("/", "/chat")]

    auth = {"token": "a b", "user": "é"}
    async with connected(prepare, namespaces=["/", "/chat"], auth=auth) as (sio, auths):
        assert [await each.next() for each in auths] == [(auth,), (auth,)]
        assert sio.get_sid("/") != sio.get_sid("/chat")
        whoami = await sio.call("whoami", namespace="/chat", timeout=DEADLINE)
        assert whoami["id"] == sio.get_sid("/chat")


async def check_rooms_and_broadcasts():
    inbox = lambda sio: (Inbox(sio, "hello"), Inbox(sio, "broadcast"))
    async with connected(inbox) as (one, (hellos_one, _)), connected(inbox) as (other, (hellos, all)):
        room = f"room of {other.get_sid()}"
        await other.call("join", room, timeout=DEADLINE)
        await one.emit("to", ([room, other.get_sid()], "hello", 1))
        assert await hellos.next() == (1,)
        await one.emit("broadcast", (2, BYTES))
        assert await all.next() == (2, BYTES)
        await one.call("message-with-ack", timeout=DEADLINE)
        assert hellos.queue.empty() and hellos_one.queue.empty()


async def check_500_events_keep_their_order():
    async with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for start in range(0, 500, BURST):
            burst = range(start, start + BURST)
            for i in burst:
                await sio.emit("ordered", i)
                await sio.emit("message", i)
            assert [await back.next() for _ in burst] == [(i,) for i in burst]
        assert await sio.call("order", timeout=DEADLINE) == list(range(500))


async def check_a_middleware_refuses():
    sio = socketio.AsyncClient(reconnection=False)
    errors = Inbox(sio, "connect_error", "/auth")
    try:
        await sio.connect(URL, transports=TRANSPORTS[MODE], namespaces=["/auth"], auth={"token": "no"})
    except socketio.exceptions.ConnectionError:
        pass
    else:
        raise AssertionError("the middleware let it in")
    assert await errors.next() == ({"message": "not authorized", "data": {"code": "E_AUTH"}},)
    await sio.disconnect()


async def check_disconnect_by_the_client():
    async with connected(lambda sio: Inbox(sio, "disconnect")) as (sio, gone):
        sid = sio.get_sid()
        await sio.disconnect()
        assert await gone.next() == ("client disconnect",)
        tell(left=sid, reasons=CLIENT_LEFT)


async def check_disconnect_by_the_server():
    async with connected(lambda sio: Inbox(sio, "disconnect")) as (sio, gone):
        sid = sio.get_sid()
        await sio.emit("disconnect-me")
        assert await gone.next() == ("server disconnect",)
        tell(left=sid, reasons=["server namespace disconnect"])


async def main():
    for check in checks_of(sys.modules["__main__"]):
        try:
            await asyncio.wait_for(check(), 3 * DEADLINE)
            result(check, None)
        except Exception as error:
            result(check, error)


asyncio.run(main())
