#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_run_info
short_description: Say how runs go or ended
description:
  - Returns runs, current ones first, then newest first; or waits for the end of one.
  - It is the companion of O(imagesetd.mirror.imageset_apply#module:wait=false) in an C(until) loop.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
  - imagesetd.mirror.attributes.info
options:
  run_id:
    description: This run. It may be shortened while it is unique.
    type: str
  imageset:
    description: The runs of this image set.
    type: str
  limit:
    description: How many runs are returned at most.
    type: int
    default: 20
  wait:
    description: Whether to wait for the end of the run O(run_id), or of the newest run of O(imageset).
    type: bool
    default: false
  wait_timeout:
    description: How many seconds to wait at most; then the task fails with RV(error_code=TIMED_OUT).
    type: int
    default: 86400
seealso:
  - module: imagesetd.mirror.imageset_apply
"""

EXAMPLES = r"""
- name: Look at the last runs of an image set
  imagesetd.mirror.imageset_run_info:
    imageset: prod/tools
    limit: 3
  register: runs

- name: Wait until its newest run has ended
  imagesetd.mirror.imageset_run_info:
    imageset: prod/tools
    wait: true
    wait_timeout: 7200
"""

RETURN = r"""
runs:
  description:
    - The runs. With O(run_id) or O(wait), the one run. RV(ignore:failures) are filled for the first run only where neither is set.
  type: list
  elements: dict
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


def looked_up(client, params):
    """Returns the runs that are asked for; the first with its failures."""
    if params["run_id"]:
        return [_daemon.show_run(client, params["run_id"])]
    runs = _daemon.list_runs(client, params["imageset"], 1 if params["wait"] else params["limit"])
    return [_daemon.show_run(client, runs[0]["id"])] + runs[1:] if runs else []


def run(module):
    client = _client.Client(module)
    params = module.params
    runs = looked_up(client, params)
    if params["wait"] and runs and runs[0]["state"] == "running":
        code, ended = _daemon.watch_run(client, runs[0]["id"], params["wait_timeout"])
        runs = [ended]
        if code == _client.TIMED_OUT:
            message = "run %s goes on after %d seconds" % (ended["id"], params["wait_timeout"])
            module.fail_json(msg=message, error_code="TIMED_OUT", changed=False, runs=runs)
    module.exit_json(changed=False, runs=runs)


def main():
    options = dict(
        run_id=dict(type="str"),
        imageset=dict(type="str"),
        limit=dict(type="int", default=20),
        wait=dict(type="bool", default=False),
        wait_timeout=dict(type="int", default=86400),
    )
    _client.main(run, options, exclusive=[("run_id", "imageset")], required_if=[("wait", True, ("run_id", "imageset"), True)])


if __name__ == "__main__":
    main()
