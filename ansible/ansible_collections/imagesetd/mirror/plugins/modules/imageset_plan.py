#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_plan
short_description: Say what applying an image set would do
description:
  - Has the daemon compare what an image set wants with what the mirror holds, and returns the plan.
  - Changes nothing in the mirror, in documents or in clusters, and never reports C(changed); RV(has_changes) says whether applying it would.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
  - imagesetd.mirror.attributes.info
options:
  imageset:
    description:
      - The image set, by its name (its file's path in the watched directory without the extension).
      - With O(paths), which of the image sets in the files is meant; needed only where there are several.
    type: str
  plan_id:
    description: Show this plan, which was made before, rather than making one. It may be shortened while it is unique.
    type: str
  paths:
    description:
      - Plan these files on the managed host, or all below these folders, instead of the watched directory, against what is mirrored now.
      - Such a plan is a preview. It can be applied only once the directory says the same.
    type: list
    elements: path
  refresh:
    description: Whether tags, channels, signatures and referrers are looked up again upstream first.
    type: bool
    default: false
  detail:
    description: V(images) also returns the steps of the plan, one for each image.
    type: str
    choices: [summary, images]
    default: summary
  max_images:
    description: How many steps are returned at most.
    type: int
    default: 1000
seealso:
  - module: imagesetd.mirror.imageset_apply
"""

EXAMPLES = r"""
- name: Plan an image set
  imagesetd.mirror.imageset_plan:
    imageset: prod/tools
  register: planned

- name: Say what it would cost
  ansible.builtin.debug:
    msg: "{{ planned.plan.step_count }} images, {{ planned.plan.bytes | human_readable }}, nodes: {{ planned.impact }}"
  when: planned.has_changes

- name: Plan it with every tag looked up again, and list the images
  imagesetd.mirror.imageset_plan:
    imageset: prod/tools
    refresh: true
    detail: images

- name: Say what a pull request would change, before it is merged
  imagesetd.mirror.imageset_plan:
    paths:
      - /srv/review

- name: Look at a plan again
  imagesetd.mirror.imageset_plan:
    plan_id: "{{ planned.plan.id }}"
"""

RETURN = r"""
has_changes:
  description: Whether applying the plan would change the mirror or the documents.
  type: bool
  returned: success
  sample: true
impact:
  description: The worst that the changed documents do to nodes, V(none), V(reload), V(drain) or V(reboot).
  type: str
  returned: success
  sample: reload
plan:
  description:
    - The plan as C(imagesetd plan show --output json) prints it; the fields below and those that C(imageset.v1.Plan) has besides.
  type: dict
  returned: success
  contains:
    id:
      description: Its id, the digest of what it says. The same difference has the same id.
      type: str
      sample: 4f1c9a77880c2b7b7a26ea5d0d9d1f0f2a3c0d7ae6a1b8e4f35b0d1c2e3f4a5b
    image_set:
      description: The image set.
      type: str
      sample: prod/ocp-4.16
    revision:
      description: The revision of the directory that it was made from.
      type: str
      sample: main@sha1:0123456789abcdef0123456789abcdef01234567
    freshness:
      description: V(fresh), V(stale), V(applied) or V(running).
      type: str
      sample: fresh
    pending_reason:
      description: Why it waits for a person, V(none) where it does not.
      type: str
      sample: manual
    run_id:
      description: The run that is applying it or has applied it.
      type: str
    wanted_count:
      description: How many images are wanted, whether mirrored or not.
      type: int
    unchanged_count:
      description: How many of them the mirror holds.
      type: int
    step_count:
      description: How many images are copied.
      type: int
    bytes:
      description: How many bytes are downloaded.
      type: int
    unwanted_count:
      description: How many images were mirrored and are wanted no longer. They stay.
      type: int
    unresolved_count:
      description: How many things that are wanted could not be found out.
      type: int
    unresolved:
      description: Those things, each with RV(ignore:subject), RV(ignore:reason) and RV(ignore:transient).
      type: list
      elements: dict
    documents:
      description: The cluster documents before and after.
      type: list
      elements: dict
      contains:
        file_name:
          description: The file in the output folder.
          type: str
        kind:
          description: The object's kind.
          type: str
          sample: ImageDigestMirrorSet
        name:
          description: The object's name.
          type: str
        change:
          description: V(added), V(changed), V(unchanged) or V(removed).
          type: str
        before:
          description: Its text now.
          type: str
        after:
          description: Its text afterwards.
          type: str
    node_impact:
      description: What applying the changed documents does to nodes.
      type: dict
      contains:
        reload:
          description: Whether nodes reload their container engine.
          type: bool
        drain:
          description: Whether nodes are drained.
          type: bool
        unknown:
          description: Whether that is not known; RV(ignore:reload) and RV(ignore:drain) are true then.
          type: bool
        reasons:
          description: Each cause.
          type: list
          elements: dict
steps:
  description: The images that are copied, at most O(max_images) of them.
  type: list
  elements: dict
  returned: when O(detail=images)
  contains:
    number:
      description: Its place in the plan, from 1.
      type: int
    kind:
      description: V(release), V(release_component) or V(additional), among others.
      type: str
    source:
      description: Where it comes from.
      type: str
    target:
      description: Where it lands.
      type: str
    digest:
      description: The digest of its manifest or index.
      type: str
    bytes:
      description: Bytes that this step adds to the download.
      type: int
steps_truncated:
  description: Whether there are more steps than were returned.
  type: bool
  returned: when O(detail=images)
error_code:
  description: A stable word for why the task failed.
  type: str
  returned: on failure
  sample: IMAGE_SET_NOT_FOUND
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client, _daemon, _plan


def run(module):
    client = _client.Client(module)
    params = module.params
    detailed = params["detail"] == "images"
    if params["plan_id"]:
        plan, steps = _daemon.show_plan(client, params["plan_id"], detailed, params["imageset"])
    else:
        plan = _daemon.make_plan(client, params["imageset"], params["refresh"], params["paths"])
        steps = _daemon.show_plan(client, plan["id"], True)[1] if detailed else None
    for text in _plan.warnings(plan):
        module.warn(text)
    result = dict(changed=False, has_changes=_plan.has_changes(plan), impact=_plan.impact(plan), plan=plan)
    if steps is not None:
        result.update(steps=steps[: params["max_images"]], steps_truncated=len(steps) > params["max_images"])
    module.exit_json(**result)


def main():
    options = dict(
        imageset=dict(type="str"),
        plan_id=dict(type="str"),
        paths=dict(type="list", elements="path"),
        refresh=dict(type="bool", default=False),
        detail=dict(type="str", choices=["summary", "images"], default="summary"),
        max_images=dict(type="int", default=1000),
    )
    _client.main(run, options, exclusive=[("plan_id", "paths")], required_one_of=[("imageset", "plan_id", "paths")])


if __name__ == "__main__":
    main()
