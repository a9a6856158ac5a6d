# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens in imagesetd, as events of Event-Driven Ansible. Runs `imagesetd events --follow`, again where the daemon went away."""

from __future__ import absolute_import, annotations, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
short_description: Tell what happens in imagesetd
description:
  - Tells of image sets that changed, plans that are ready, and runs that began, finished or failed. What happened is RV(ignore:event.imagesetd), as
    C(imagesetd events --output ndjson) prints it.
  - It begins with what stands, plans that wait and runs that go on (C(standing)), and does so again after the daemon was away.
options:
  imageset:
    description: Only events of this image set.
    type: str
  kinds:
    description: Only events of these kinds, such as V(plan_ready) or V(run_failed).
    type: list
    elements: str
  endpoint:
    description:
      - Where the daemon listens. Where the rulebook runs in a container, this is V(https://HOST:PORT).
      - This and what follows, where it is not set or empty, is taken from the environment (E(IMAGESETD_ENDPOINT), E(IMAGESETD_TOKEN),
        E(IMAGESETD_TOKEN_FILE), E(IMAGESETD_CA_FILE), ...), which is where credentials of an Event-Driven Ansible controller can put it.
    type: str
    default: unix:///run/imagesetd/imagesetd.sock
  token:
    description: The bearer token. It is handed to C(imagesetd) in its environment, never on a command line.
    type: str
  token_file:
    description: A file that holds the bearer token.
    type: str
  ca_file:
    description: A PEM file with the CA certificates that are trusted.
    type: str
  client_cert:
    description: A PEM file with the certificate that is shown to the daemon.
    type: str
  client_key:
    description: A PEM file with its key.
    type: str
  server_name:
    description: The name that the daemon's certificate has to be for, where that is not the endpoint's.
    type: str
  request_timeout:
    description: How many seconds the daemon may be silent, also where nothing happens; then it is asked again.
    type: int
    default: 60
  binary_path:
    description: The C(imagesetd) binary.
    type: str
    default: imagesetd
  retry_delay:
    description: How many seconds to wait before a daemon that went away is asked again.
    type: float
    default: 5
"""

EXAMPLES = r"""
- imagesetd.mirror.events:
    endpoint: "{{ imagesetd_endpoint | default('') }}"
    token: "{{ imagesetd_token | default('') }}"
    kinds:
      - plan_ready
      - run_failed
"""

import asyncio
import json
import logging
import os

LOGGER = logging.getLogger(__name__)

# Errors that pass by themselves: the daemon is restarted, or not up yet.
PASSING = 5

# A line holds a run with its failures, the first 1000.
LONGEST_LINE = 16 * 1024 * 1024


def command(args):
    """Returns the words that follow events."""
    words = [args.get("binary_path") or "imagesetd", "events", "--follow", "--output", "ndjson"]
    words += ["--kind=%s" % kind for kind in args.get("kinds") or []]
    return words + (["--", args["imageset"]] if args.get("imageset") else [])


def environment(args):
    """Returns the environment that says where the daemon is."""
    said = dict(os.environ)
    for name in ("endpoint", "token", "token_file", "ca_file", "client_cert", "client_key", "server_name"):
        if args.get(name):
            said["IMAGESETD_" + name.upper()] = str(args[name])
    if args.get("request_timeout"):
        said["IMAGESETD_REQUEST_TIMEOUT"] = "%ds" % int(args["request_timeout"])
    # An argument counts for more than what the environment says of the other.
    if args.get("token") and not args.get("token_file"):
        said["IMAGESETD_TOKEN_FILE"] = ""
    return said


async def follow(queue, args):
    """Puts events into the queue until the daemon goes away. Returns the exit code and the error, where there is one."""
    process = await asyncio.create_subprocess_exec(
        *command(args), env=environment(args), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE
    )
    error = None
    try:
        async for line in process.stdout:
            told = json.loads(line)
            if "error" in told:
                error = told["error"]
            else:
                await queue.put({"imagesetd": told})
        return await process.wait(), error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main(queue, args):
    """Follows the daemon for as long as the rulebook runs."""
    while True:
        code, error = await follow(queue, args)
        message = (error or {}).get("message", "imagesetd events ended with exit code %s" % code)
        if code not in (0, PASSING):
            raise RuntimeError(message)
        LOGGER.warning("%s; asking again", message)
        await asyncio.sleep(float(args.get("retry_delay") or 5))
