"""An emitter of PyPI, `socket.io-emitter`: publishes as Node's emitter does. It knows no joins, and
says its lists as empty strings where there are none.

The only other one there, `socket.io-redis-emitter` 0.0.3, publishes under names without the `#` at their
end, which servers of Node don't listen to."""

import sys
from urllib.parse import urlsplit

import redis
from socket_io_emitter import Emitter

url = urlsplit(sys.argv[1])
emitter = Emitter({"client": redis.StrictRedis(host=url.hostname, port=url.port)})
emitter.Emit("all", 1, {"text": "ä", "list": [None, True, 2.5]})
emitter.To("room").Emit("room", "to the room")
emitter.Of("/chat").Emit("chat", "to the other namespace")
