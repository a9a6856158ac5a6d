#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_apply
short_description: Bring an image set into the mirror
description:
  - Plans an image set and applies the plan, or applies a plan that was reviewed (O(plan_id)). What the mirror holds already costs nothing, and
    a second time is not C(changed). Nothing is ever deleted.
  - The run belongs to the daemon. A connection that is lost stops nothing, and running the task again attaches to the same run.
  - In check mode it only plans, and says whether something would change. With C(--diff) the images and the cluster documents are shown before and
    after.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
attributes:
  check_mode:
    support: full
    details: Plans, checks the guards, and changes nothing.
  diff_mode:
    support: full
    details: Shows the images that are copied (1000 at most) and every document that changes.
  idempotent:
    support: full
options:
  imageset:
    description:
      - The image set, by its name (its file's path in the watched directory without the extension).
      - With O(plan_id), the image set that the plan has to be of.
    type: str
  plan_id:
    description:
      - Apply this plan or nothing. The task fails with RV(error_code=STALE_PLAN) where planning again would give another one, is not C(changed) where
        the plan was applied already, and attaches to its run where that is under way.
      - It may be shortened while it is unique.
    type: str
  refresh:
    description: Whether tags, channels, signatures and referrers are looked up again upstream first. Without effect with O(plan_id).
    type: bool
    default: false
  max_bytes:
    description:
      - Refuse a plan that downloads more than this, with RV(error_code=MAX_BYTES_EXCEEDED). Bytes, or a number with a unit (V(500GiB), V(20GB)).
    type: str
  max_impact:
    description:
      - Refuse a plan whose documents do more than this to the nodes of a cluster that applies them, with RV(error_code=MAX_IMPACT_EXCEEDED).
      - An effect that is not known counts as a drain. A reboot, which some clusters ask for, is more than a drain.
      - If not set, every effect is allowed.
    type: str
    choices: [none, reload, drain]
  wait:
    description: Whether to wait for the end of the run. Without it, M(imagesetd.mirror.imageset_run_info) tells how it goes.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds to wait at most; then the task fails with RV(error_code=TIMED_OUT), and the run goes on.
    type: int
    default: 86400
  on_partial:
    description:
      - What to do where some images failed, or could not be found out, while the others landed. V(fail) fails the task, V(warn) warns.
    type: str
    choices: [fail, warn]
    default: fail
seealso:
  - module: imagesetd.mirror.imageset_plan
  - module: imagesetd.mirror.imageset_run_info
"""

EXAMPLES = r"""
- name: Bring an image set into the mirror
  imagesetd.mirror.imageset_apply:
    imageset: prod/tools

- name: The same, but neither much data nor a drain without a person
  imagesetd.mirror.imageset_apply:
    imageset: prod/tools
    max_bytes: 500GiB
    max_impact: reload

- name: Plan first
  imagesetd.mirror.imageset_plan:
    imageset: prod/tools
  register: planned

- name: Apply exactly what was planned
  imagesetd.mirror.imageset_apply:
    plan_id: "{{ planned.plan.id }}"

- name: Begin a long run and leave it to the daemon
  imagesetd.mirror.imageset_apply:
    imageset: prod/tools
    wait: false
  register: begun

- name: Wait for it, with a look every second
  imagesetd.mirror.imageset_run_info:
    imageset: prod/tools
  register: looked
  until: looked.runs[0].state != "running"
  retries: 600
  delay: 1
"""

RETURN = r"""
plan_id:
  description: The plan that was applied, or would be.
  type: str
  returned: when there is a plan
  sample: 4f1c9a77880c2b7b7a26ea5d0d9d1f0f2a3c0d7ae6a1b8e4f35b0d1c2e3f4a5b
run_id:
  description: The run; empty where none was needed.
  type: str
  returned: when there is a plan
  sample: 20261124T043420Z-32c0c7
state:
  description:
    - How it stands. V(applied) where there was nothing left to do, V(planned) in check mode, else the state of the run (V(succeeded), V(partial),
      V(failed), V(cancelled), V(interrupted), V(running)).
  type: str
  returned: when there is a plan
  sample: succeeded
summary:
  description: What the plan says, in numbers.
  type: dict
  returned: when there is a plan
  contains:
    wanted:
      description: Images that are wanted.
      type: int
    unchanged:
      description: How many of them the mirror held.
      type: int
    to_copy:
      description: How many are copied.
      type: int
    unwanted:
      description: How many were mirrored and are wanted no longer. They stay.
      type: int
    bytes:
      description: How much is downloaded.
      type: int
    impact:
      description: The worst that the documents do to nodes, V(none), V(reload), V(drain) or V(reboot).
      type: str
resources:
  description: The cluster documents, and what happens to each.
  type: list
  elements: dict
  returned: when there is a plan
  contains:
    kind:
      description: The object's kind.
      type: str
    name:
      description: The object's name.
      type: str
    file_name:
      description: The file in the output folder.
      type: str
    change:
      description: V(added), V(changed), V(unchanged) or V(removed).
      type: str
unresolved:
  description: What is wanted and could not be found out, each with RV(ignore:subject), RV(ignore:reason) and RV(ignore:transient).
  type: list
  elements: dict
  returned: when there is a plan
failures:
  description: The images that did not land, each with RV(ignore:image), RV(ignore:target), RV(ignore:cause) and RV(ignore:attempts).
  type: list
  elements: dict
  returned: when a run was begun or attached to
run:
  description: The run.
  type: dict
  returned: when a run was begun or attached to
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
  description:
    - A stable word for why the task failed. Those of the API (V(STALE_PLAN), V(IMAGE_SET_INVALID), V(RUN_ACTIVE), V(TOKEN_REFUSED), ...), those of the
      client (V(DAEMON_UNREACHABLE), ...), and of this collection V(BINARY_MISSING), V(SCHEMA_MISMATCH), V(MAX_BYTES_EXCEEDED),
      V(MAX_IMPACT_EXCEEDED), V(IMPACT_REFUSED), V(PARTIAL), V(UNRESOLVED), V(TIMED_OUT), V(RUN_FAILED), V(RUN_CANCELLED), V(RUN_INTERRUPTED).
  type: str
  returned: on failure
  sample: STALE_PLAN
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client, _daemon, _plan


def planned(client, params, with_steps):
    """Returns the plan that is meant, and its steps where they are wanted."""
    if params["plan_id"]:
        return _daemon.show_plan(client, params["plan_id"], with_steps, params["imageset"])
    plan = _daemon.make_plan(client, params["imageset"], params["refresh"])
    return plan, _daemon.show_plan(client, plan["id"], True)[1] if with_steps and plan["step_count"] else None


def described(plan, state):
    """Returns what is known before anything was done."""
    return dict(
        changed=False,
        plan_id=plan["id"],
        run_id=plan["run_id"],
        state=state,
        summary=dict(
            wanted=plan["wanted_count"],
            unchanged=plan["unchanged_count"],
            to_copy=plan["step_count"],
            unwanted=plan["unwanted_count"],
            bytes=plan["bytes"],
            impact=_plan.impact(plan),
        ),
        resources=[dict((key, document[key]) for key in ("kind", "name", "file_name", "change")) for document in plan["documents"]],
        unresolved=plan["unresolved"],
    )


def check_unresolved(module, plan, result):
    """What could not be found out did not land either."""
    text = _plan.unresolved(plan)
    if text is None:
        return
    text = "%s of %s could not be found out: %s" % (plan["unresolved_count"], plan["image_set"], text)
    if module.params["on_partial"] == "fail":
        module.fail_json(msg=text, error_code="UNRESOLVED", **result)
    module.warn(text)


def check_ending(module, code, run, result):
    """Fails the task where the run did not bring everything."""
    state, about = run["state"], "run %s of %s" % (run["id"], run["image_set"])
    if code == _client.TIMED_OUT:
        message = "%s goes on in the daemon after %d seconds; the same task attaches to it again" % (about, module.params["wait_timeout"])
        module.fail_json(msg=message, error_code="TIMED_OUT", **result)
    if state in ("succeeded", "running"):
        return
    failed = "; ".join("%s: %s" % (failure["image"], failure["cause"]) for failure in run["failures"][:5])
    why = run["message"] or failed or "no reason is given"
    if state == "partial":
        message = "%s: %d images failed: %s" % (about, run["progress"]["images_failed"], failed or why)
        if module.params["on_partial"] == "fail":
            module.fail_json(msg=message, error_code="PARTIAL", **result)
        module.warn(message)
        return
    word = {"cancelled": "was cancelled", "interrupted": "was interrupted"}.get(state, "failed")
    module.fail_json(msg="%s %s: %s" % (about, word, why), error_code="RUN_" + state.upper(), **result)


def perform(module, client, plan, result):
    """Applies the plan, or attaches to the run that does."""
    params = module.params
    how = ["--timeout", "%ds" % params["wait_timeout"]] if params["wait"] else ["--detach"]
    code, document = client.call(["apply"] + how, [plan["id"]], _daemon.ENDINGS)
    run = document["run"]
    progress = run["progress"] or {}
    # A run that goes on or ended well does what the plan says; else what landed counts.
    changed = run["state"] in ("succeeded", "running") or progress.get("images_done", 0) > 0
    result.update(changed=changed, run_id=run["id"], state=run["state"], failures=run["failures"], run=run)
    check_ending(module, code, run, result)


def run(module):
    client = _client.Client(module)
    params = module.params
    most = None if params["max_bytes"] is None else _plan.size(params["max_bytes"])
    plan, steps = planned(client, params, module._diff)
    for text in _plan.warnings(plan):
        module.warn(text)
    changes = _plan.has_changes(plan)
    result = described(plan, "planned" if changes else "applied")
    if plan["freshness"] == "stale":
        raise _client.ClientError("plan %s is stale: %s" % (plan["id"][:12], plan["stale_reason"]), "STALE_PLAN", **result)
    if changes:
        if plan["freshness"] != "running":
            _plan.guard(plan, most, params["max_impact"])
        result["changed"] = True
        if module._diff:
            result["diff"] = _plan.diff(plan, steps)
        if not module.check_mode:
            result["changed"] = False
            perform(module, client, plan, result)
    check_unresolved(module, plan, result)
    module.exit_json(**result)


def main():
    options = dict(
        imageset=dict(type="str"),
        plan_id=dict(type="str"),
        refresh=dict(type="bool", default=False),
        max_bytes=dict(type="str"),
        max_impact=dict(type="str", choices=["none", "reload", "drain"]),
        wait=dict(type="bool", default=True),
        wait_timeout=dict(type="int", default=86400),
        on_partial=dict(type="str", choices=["fail", "warn"], default="fail"),
    )
    _client.main(run, options, required_one_of=[("imageset", "plan_id")])


if __name__ == "__main__":
    main()
