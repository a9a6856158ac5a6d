"""Runs the event source as ansible-rulebook does: with a queue, and arguments from the command line. Prints an event a line, COUNT of them."""

import asyncio
import importlib.util
import json
import sys


async def run(source, count, args):
    queue = asyncio.Queue()
    following = asyncio.ensure_future(source.main(queue, args))
    for _ in range(count):
        next_one = asyncio.ensure_future(queue.get())
        await asyncio.wait([next_one, following], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
        print(json.dumps(await next_one), flush=True)
    following.cancel()


spec = importlib.util.spec_from_file_location("source", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
try:
    asyncio.run(run(module, int(sys.argv[2]), json.loads(sys.argv[3])))
except RuntimeError as error:
    sys.exit("refused: %s" % error)
