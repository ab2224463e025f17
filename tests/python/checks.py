"""What the checks of both Python clients share.

A check is a function `check_..`. Each result is a JSON line on stdout, for `python.test.js`:
{"check": name, "error": text or null}, and {"left": socket id, "reasons": list} for the server's log.
"""

import inspect
import json
import os
import sys
import traceback

DEADLINE = 10

TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": None}

TEXTS = ["plain", "🦀 é 漢字", 'quote " newline \n nul \0 separator \x1e', "", "x" * 100_000]

BYTES = b"\x00\x01\x1e\xff"
NESTED = ({"a": BYTES, "list": [b"", {"deep": b"b"}]}, "between", b"\x04" * 50_000)


# This client may close its connection before its DISCONNECT packet is on the way.
CLIENT_LEFT = ["client namespace disconnect", "transport close"]

# It refuses polls of more than 16 packets, and then hangs. Node sends any number; Antiphon knows it by its User-Agent.
IS_REFERENCE = os.environ.get("SERVER") == "reference"
BURST = 10 if sys.argv[2] == "polling" and IS_REFERENCE else 100


def tell(**line):
    print(json.dumps(line), flush=True)


def ends_on(mode):
    """The transport that a client of this mode ends on."""
    return "polling" if mode == "polling" else "websocket"


def checks_of(module):
    return [check for name, check in inspect.getmembers(module) if name.startswith("check_")]


def result(check, error):
    text = error and "".join(traceback.format_exception(error))
    tell(check=check.__name__.removeprefix("check_").replace("_", " "), error=text)


def arguments():
    """The server's URL and the mode."""
    _, url, mode = sys.argv
    return url, mode
