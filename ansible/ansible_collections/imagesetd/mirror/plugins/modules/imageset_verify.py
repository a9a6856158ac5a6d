#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_verify
short_description: Ask whether the mirror still holds what was mirrored
description:
  - Has the daemon ask the mirror for everything that was mirrored, and returns what is lost.
  - With O(repair) what is lost is copied again.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
attributes:
  check_mode:
    support: full
    details: Checks, and repairs nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  imagesets:
    description: The image sets to check. Without it, everything that was mirrored.
    type: list
    elements: str
  depth:
    description: How closely the mirror is looked at. V(quick) asks for manifests and tags, V(deep) for blobs too, V(read) reads everything once.
    type: str
    choices: [quick, deep, read]
    default: quick
  repair:
    description: Whether what is lost is copied again.
    type: bool
    default: false
  fail_on_drift:
    description: Whether the task fails where something is lost and was not repaired, or the mirror did not say. V(false) leaves that to RV(ok).
    type: bool
    default: true
seealso:
  - module: imagesetd.mirror.imageset_apply
"""

EXAMPLES = r"""
- name: Check that the mirror holds every manifest and tag
  imagesetd.mirror.imageset_verify:

- name: Check blobs of an image set too, and bring back what is lost
  imagesetd.mirror.imageset_verify:
    imagesets:
      - prod/tools
    depth: deep
    repair: true
"""

RETURN = r"""
ok:
  description: Whether everything is there, or was brought back.
  type: bool
  returned: success
  sample: true
verification:
  description: What the check came to, as C(imagesetd verify --output json) prints it.
  type: dict
  returned: success
  contains:
    image_sets:
      description: The image sets that were checked.
      type: list
      elements: str
    manifests:
      description: Manifests that were looked at.
      type: int
    blobs:
      description: Blobs that were looked at.
      type: int
    progress:
      description: What it came to in numbers, RV(ignore:checked), RV(ignore:total), RV(ignore:lost), RV(ignore:unknown) and RV(ignore:bytes_read).
      type: dict
    losses:
      description: What is lost, the first 1000. Each has RV(ignore:kind), RV(ignore:reference), RV(ignore:message) and RV(ignore:images).
      type: list
      elements: dict
    repairs:
      description: How image sets were repaired, each with RV(ignore:image_set), RV(ignore:run) and RV(ignore:message).
      type: list
      elements: dict
error_code:
  description: A stable word for why the task failed, V(DRIFT) where something is lost or not known.
  type: str
  returned: on failure
  sample: DRIFT
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client

# Exit codes that come with what was found; a repair ends as its run does.
ENDINGS = (_client.DONE, _client.OTHER, _client.UNAVAILABLE, _client.PARTIAL)


def what_is_lost(found):
    """Returns what is lost or not known, as one text."""
    progress = found["progress"] or {}
    texts = [loss["message"] for loss in found["losses"][:5]]
    more = progress.get("lost", 0) - len(texts)
    if more > 0:
        texts.append("and %d more" % more)
    if progress.get("unknown"):
        texts.append("of %d things the mirror did not say: %s" % (progress["unknown"], found["unknown_reason"]))
    return "; ".join(texts) or "not everything could be repaired"


def run(module):
    client = _client.Client(module)
    params = module.params
    verb = ["verify", "--depth", params["depth"]]
    if params["repair"] and not module.check_mode:
        verb.append("--repair")
    code, found = client.call(verb, params["imagesets"] or (), ENDINGS)
    found.pop("schema")
    repaired = any(repair["run"] for repair in found["repairs"])
    would = params["repair"] and module.check_mode and bool((found["progress"] or {}).get("lost"))
    result = dict(changed=repaired or would, ok=code == _client.DONE, verification=found)
    if not result["ok"] and params["fail_on_drift"] and not would:
        module.fail_json(msg=what_is_lost(found), error_code="DRIFT", **result)
    module.exit_json(**result)


def main():
    options = dict(
        imagesets=dict(type="list", elements="str"),
        depth=dict(type="str", choices=["quick", "deep", "read"], default="quick"),
        repair=dict(type="bool", default=False),
        fail_on_drift=dict(type="bool", default=True),
    )
    _client.main(run, options)


if __name__ == "__main__":
    main()
