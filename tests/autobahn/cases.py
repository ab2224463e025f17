"""Runs Autobahn's test cases against a WebSocket echo server, with kosoku as the fuzzing client.

`cases.py ADDRESS all|quick` prints a line of JSON for each case. Quick are all but the cases of
compression (12 and 13) that send a thousand messages of more than 8 KiB.
"""

import asyncio
import json
import sys

from kosoku import FailureError, run_fuzzingclient
from kosoku.cases import CASES

LARGEST_QUICK = 8_192


def takes_plain_messages(case):
    """kosoku 0.1.0 gives the cases of compression `str` for a message that came uncompressed,
    which any message may (RFC 7692, section 6), but they hash `bytes`."""
    on_message = case.onMessage

    def with_bytes(self, message, binary):
        if isinstance(message, str):
            message = message.encode("latin-1" if binary else "utf-8")
        return on_message(self, message, binary)

    case.onMessage = with_bytes


async def run(address, selection):
    include = []
    for name, case in CASES.items():
        length = getattr(case, "LEN", 0)
        if name.startswith(("12.", "13.")):
            takes_plain_messages(case)
            if selection == "quick" and length > LARGEST_QUICK:
                continue
        include.append(name)
    try:
        results = await run_fuzzingclient(address, include, None, concurrency=4)
    except FailureError as failure:
        results = failure.results
    for result in results:
        said = f"{result.behavior.value}: {result.result}"
        closed = f"{result.behavior_close.value}: {result.result_close}"
        line = {"case": result.case_id, "passed": result.passed, "said": f"{said}; closing {closed}"}
        print(json.dumps(line), flush=True)
    print(json.dumps({"selected": len(include)}), flush=True)


asyncio.run(run(*sys.argv[1:]))
