#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_run
short_description: Stop a run
description:
  - Asks a run to stop. It starts nothing more, and what has landed is kept and recorded.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  run_id:
    description: The run. It may be shortened while it is unique.
    type: str
  imageset:
    description: The image set whose current run is meant. Where none goes on, there is nothing to do.
    type: str
  state:
    description: What is wanted.
    type: str
    choices: [canceled]
    default: canceled
  wait:
    description: Whether to wait for the end of the run.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds to wait at most; then the task fails with RV(error_code=TIMED_OUT).
    type: int
    default: 300
seealso:
  - module: imagesetd.mirror.imageset_run_info
"""

EXAMPLES = r"""
- name: Stop what is brought over for an image set, if anything is
  imagesetd.mirror.imageset_run:
    imageset: prod/tools
    state: canceled
"""

RETURN = r"""
run:
  description: The run; null where the image set has none.
  type: dict
  returned: success
  contains:
    id:
      description: Its id.
      type: str
      sample: 20261124T043420Z-32c0c7
    image_set:
      description: The image set.
      type: str
    plan_id:
      description: The plan that it applies.
      type: str
    state:
      description: V(running), V(succeeded), V(partial), V(failed), V(cancelled) or V(interrupted).
      type: str
      sample: succeeded
    trigger:
      description: What began it, V(commit), V(refresh), V(request), V(retry) or V(repair).
      type: str
    started_at:
      description: When it began.
      type: str
      sample: "2026-11-24T04:34:20Z"
    finished_at:
      description: When it ended; null while it goes on.
      type: str
    progress:
      description: How far it is, or was when it ended. Counts of images, blobs and bytes, and RV(ignore:eta_seconds).
      type: dict
    failures:
      description: What failed, sorted by image, each with RV(ignore:image), RV(ignore:target), RV(ignore:cause) and RV(ignore:attempts).
      type: list
      elements: dict
    message:
      description: Why the run as a whole could not go on; empty where it did.
      type: str
error_code:
  description: A stable word for why the task failed.
  type: str
  returned: on failure
  sample: RUN_NOT_FOUND
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client, _daemon


def run(module):
    client = _client.Client(module)
    params = module.params
    found = _daemon.find_run(client, params["run_id"], params["imageset"])
    running = found is not None and found["state"] == "running"
    if not running or module.check_mode:
        module.exit_json(changed=running, run=found)
    try:
        found = client.call(["runs", "cancel"], [found["id"]])[1]["run"]
    except _client.ClientError as error:
        # It ended between the look and the word.
        if error.code != "RUN_FINISHED":
            raise
        module.exit_json(changed=False, run=_daemon.show_run(client, found["id"]))
    if params["wait"]:
        code, found = _daemon.watch_run(client, found["id"], params["wait_timeout"])
        if code == _client.TIMED_OUT:
            message = "run %s has not ended within %d seconds; it was asked to" % (found["id"], params["wait_timeout"])
            module.fail_json(msg=message, error_code="TIMED_OUT", changed=True, run=found)
    module.exit_json(changed=True, run=found)


def main():
    options = dict(
        run_id=dict(type="str"),
        imageset=dict(type="str"),
        state=dict(type="str", choices=["canceled"], default="canceled"),
        wait=dict(type="bool", default=True),
        wait_timeout=dict(type="int", default=300),
    )
    _client.main(run, options, exclusive=[("run_id", "imageset")], required_one_of=[("run_id", "imageset")])


if __name__ == "__main__":
    main()
