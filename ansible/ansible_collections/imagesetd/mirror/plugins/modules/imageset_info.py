#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_info
short_description: Say how the daemon and its image sets are
description:
  - Returns the status of the daemon and of its image sets, or waits until they are ready.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
  - imagesetd.mirror.attributes.info
options:
  imageset:
    description: Only this image set.
    type: str
  wait:
    description:
      - Whether to wait until every image set asked for is ready, all that is wanted is mirrored and the documents say so.
      - The task fails with RV(error_code=NOT_READY) as soon as one of them is stalled, so that a person has to act.
    type: bool
    default: false
  revision:
    description: With O(wait), wait for this commit (its full hash or at least 7 digits) or this whole revision, not for an earlier one.
    type: str
  wait_timeout:
    description: How many seconds to wait at most; then the task fails with RV(error_code=TIMED_OUT).
    type: int
    default: 86400
"""

EXAMPLES = r"""
- name: Ask how everything is
  imagesetd.mirror.imageset_info:
  register: mirror

- name: Name what needs a person
  ansible.builtin.debug:
    msg: "{{ mirror.imagesets | rejectattr('ready') | map(attribute='name') }}"

- name: Wait until an image set is in the mirror
  imagesetd.mirror.imageset_info:
    imageset: prod/tools
    wait: true
    wait_timeout: 7200
"""

RETURN = r"""
ready:
  description: Whether the daemon and every image set asked for are ready.
  type: bool
  returned: success
  sample: true
daemon:
  description: The daemon, with RV(ignore:directory), RV(ignore:revision), RV(ignore:version), RV(ignore:conditions) and more.
  type: dict
  returned: success
imagesets:
  description: The image sets, sorted by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
      sample: prod/ocp-4.16
    ready:
      description: Whether its condition C(Ready) holds.
      type: bool
    target:
      description: Where it is mirrored to.
      type: str
      sample: registry.example.com:5000/ocp
    observed_revision:
      description: The revision that was last read.
      type: str
    applied_revision:
      description: The revision whose content has landed whole; empty where none has.
      type: str
    conditions:
      description: What can be said of it, V(Ready) first. Each has RV(ignore:type), RV(ignore:status), RV(ignore:reason) and RV(ignore:message).
      type: list
      elements: dict
    plan_id:
      description: Its newest plan.
      type: str
    pending_reason:
      description: Why that plan waits for a person.
      type: str
    run_id:
      description: Its current run, else its last.
      type: str
    progress:
      description: How far the current run is; null where none goes on.
      type: dict
    images_wanted:
      description: How many images are wanted.
      type: int
    images_mirrored:
      description: How many of them the mirror holds.
      type: int
    problems:
      description: What is wrong with its file.
      type: list
      elements: dict
error_code:
  description: A stable word for why the task failed.
  type: str
  returned: on failure
  sample: IMAGE_SET_NOT_FOUND
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client


def is_ready(thing):
    """Whether the condition Ready holds."""
    return any(condition["type"] == "Ready" and condition["status"] == "true" for condition in thing["conditions"])


def what_is_wrong(things):
    """Returns why things are not ready, as one text."""
    texts = []
    for name, thing in things:
        for condition in thing["conditions"]:
            if condition["type"] == "Ready" and condition["status"] != "true":
                texts.append("%s: %s" % (name, condition["message"] or condition["reason"]))
    return "; ".join(texts) or "no reason is given"


def run(module):
    client = _client.Client(module)
    params = module.params
    verb, answers = ["status"], [_client.DONE]
    if params["wait"]:
        verb += ["--wait", "ready", "--timeout", "%ds" % params["wait_timeout"]]
        verb += ["--revision=" + params["revision"]] if params["revision"] else []
        answers += [_client.PRECONDITION, _client.TIMED_OUT]
    code, document = client.call(verb, [params["imageset"]] if params["imageset"] else (), answers)
    daemon, sets = document["daemon"], document["image_sets"]
    for known in sets:
        known["ready"] = is_ready(known)
    result = dict(changed=False, ready=is_ready(daemon) and all(known["ready"] for known in sets), daemon=daemon, imagesets=sets)
    if code != _client.DONE:
        why = what_is_wrong([("the daemon", daemon)] + [(known["name"], known) for known in sets])
        word = {_client.TIMED_OUT: "TIMED_OUT"}.get(code, "NOT_READY")
        module.fail_json(msg=why, error_code=word, **result)
    module.exit_json(**result)


def main():
    options = dict(
        imageset=dict(type="str"),
        wait=dict(type="bool", default=False),
        revision=dict(type="str"),
        wait_timeout=dict(type="int", default=86400),
    )
    _client.main(run, options)


if __name__ == "__main__":
    main()
