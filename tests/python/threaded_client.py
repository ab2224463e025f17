"""python-socketio's threaded client."""

import queue
import sys
from contextlib import contextmanager

import socketio
from checks import BURST, BYTES, CLIENT_LEFT, DEADLINE, NESTED, TEXTS, TRANSPORTS
from checks import arguments, checks_of, ends_on, result, tell

URL, MODE = arguments()


class Inbox:
    """The arguments of an event's arrivals, one after the other."""

    def __init__(self, sio, event, namespace="/"):
        self.queue = queue.Queue()
        sio.on(event, lambda *args: self.queue.put(args), namespace=namespace)

    def next(self):
        return self.queue.get(timeout=DEADLINE)


@contextmanager
def connected(prepare=lambda sio: None, **options):
    sio = socketio.Client(reconnection=False, handle_sigint=False)
    prepared = prepare(sio)
    sio.connect(URL, transports=TRANSPORTS[MODE], wait_timeout=DEADLINE, **options)
    try:
        yield sio, prepared
    finally:
        sio.disconnect()


def check_connects():
    with connected() as (sio, _):
        whoami = sio.call("whoami", timeout=DEADLINE)
        assert whoami == {"id": sio.get_sid(), "transport": ends_on(MODE), "revision": 4}, whoami
        assert sio.transport() == ends_on(MODE)


def check_events_carry_several_arguments():
    with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for args in [(), (None,), ("a", 1, -2.5, True, {"nested": [1, {"x": "y"}]}, [])]:
            sio.emit("message", args)
            assert back.next() == args
        for text in TEXTS:
            sio.emit("message", text)
            assert back.next() == (text,)


def check_binary_both_ways():
    with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for args in [(BYTES,), (b"",), NESTED]:
            sio.emit("message", args)
            assert back.next() == args


def check_the_server_acknowledges():
    with connected() as (sio, _):
        for args in [(1, "2", [3]), NESTED]:
            assert sio.call("message-with-ack", args, timeout=DEADLINE) == args


def check_the_client_acknowledges():
    def prepare(sio):
        asked = Inbox(sio, "emit-with-ack")
        put = sio.handlers["/"]["emit-with-ack"]

        def acknowledge(*args):
            put(*args)
            return args

        sio.on("emit-with-ack", acknowledge)
        return asked

    with connected(prepare) as (sio, asked):
        for args in [("é", 1), NESTED]:
            sio.emit("emit-with-ack", args)
            assert asked.next() == args, "what the server emitted"
            assert asked.next() == args, "what was acknowledged"


def check_namespaces_have_their_own_auth_and_id():
    def prepare(sio):
        return [Inbox(sio, "auth", namespace) for namespace in ("/", "/chat")]

    auth = {"token": "a b", "user": "é"}
    with connected(prepare, namespaces=["/", "/chat"], auth=auth) as (sio, auths):
        assert [each.next() for each in auths] == [(auth,), (auth,)]
        whoami = sio.call("whoami", namespace="/chat", timeout=DEADLINE)
        assert whoami["id"] == sio.get_sid("/chat") != sio.get_sid("/")


def check_500_events_arrive_once():
    # This client calls each handler in a thread of its own: their order says nothing.
    with connected(lambda sio: Inbox(sio, "message-back")) as (sio, back):
        for start in range(0, 500, BURST):
            burst = range(start, start + BURST)
            for i in burst:
                sio.emit("ordered", i)
                sio.emit("message", i)
            assert sorted(back.next() for _ in burst) == [(i,) for i in burst]
        assert sio.call("order", timeout=DEADLINE) == list(range(500))


def check_disconnect_by_the_client():
    with connected(lambda sio: Inbox(sio, "disconnect")) as (sio, gone):
        sid = sio.get_sid()
        sio.disconnect()
        assert gone.next() == ("client disconnect",)
        tell(left=sid, reasons=CLIENT_LEFT)


def check_disconnect_by_the_server():
    with connected(lambda sio: Inbox(sio, "disconnect")) as (sio, gone):
        sid = sio.get_sid()
        sio.emit("disconnect-me")
        assert gone.next() == ("server disconnect",)
        tell(left=sid, reasons=["server namespace disconnect"])


for check in checks_of(sys.modules["__main__"]):
    try:
        check()
        result(check, None)
    except Exception as error:
        result(check, error)
