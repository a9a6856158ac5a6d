# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json

import pytest

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client
from ansible_collections.imagesetd.mirror.plugins.modules import imageset_apply
from ansible_collections.imagesetd.mirror.tests.unit.plugins.double import Module, ended

PLAN = dict(
    id="4f1c9a7788" + "0" * 54,
    image_set="a",
    run_id="",
    freshness="fresh",
    stale_reason="",
    wanted_count=2,
    unchanged_count=1,
    unwanted_count=0,
    step_count=1,
    bytes=1024,
    documents=[],
    node_impact=None,
    warnings=[],
    unsupported=[],
    release_signatures_ignored=False,
    unresolved=[],
    unresolved_count=0,
)


def planned(**more):
    plan = dict(PLAN, **more)
    return 0, dict(schema=1, plans=[plan], unplanned=[], problems=[]), ""


def ran(state, code=0, done=1, failed=0, **more):
    failures = [dict(image="x:%d" % number, target="m/x", cause="gone", attempts=1) for number in range(failed)]
    run = dict(id="r1", image_set="a", state=state, message="", failures=failures, progress=dict(images_done=done, images_failed=failed))
    run.update(more)
    return code, dict(schema=1, run=run), ""


def apply(*answers, **params):
    options = dict(imageset="a", plan_id=None, refresh=False, max_bytes=None, max_impact=None, wait=True, wait_timeout=60, on_partial="fail")
    check, diff = params.pop("check", False), params.pop("diff", False)
    options.update(params)
    module = Module(answers, **options)
    module.check_mode, module._diff = check, diff
    return ended(imageset_apply.run, module), module


def test_what_landed_is_changed():
    said, module = apply(planned(), ran("succeeded"))
    assert (said["changed"], said["state"], said["run_id"], said["failures"]) == (True, "succeeded", "r1", [])
    assert module.calls[1][0][1:] == ["apply", "--timeout", "60s", "--output", "json", "--", PLAN["id"]]


def test_nothing_to_do_is_not_changed_and_begins_nothing():
    said, module = apply(planned(freshness="applied"), max_bytes="0", max_impact="none")
    assert (said["changed"], said["state"]) == (False, "applied")
    assert len(module.calls) == 1


def test_check_mode_begins_nothing():
    said, module = apply(planned(), check=True)
    assert (said["changed"], said["state"]) == (True, "planned")
    assert len(module.calls) == 1


def test_a_diff_has_the_images():
    steps = (0, dict(schema=1, plan=PLAN, steps=[dict(target="m/x:1", digest="sha256:a")]), "")
    said, module = apply(planned(), steps, check=True, diff=True)
    assert said["diff"][0]["after"] == "m/x:1 sha256:a\n"


def test_a_stale_plan_is_not_applied():
    show = (0, dict(schema=1, plan=dict(PLAN, freshness="stale", stale_reason="the directory changed")), "")
    said, module = apply(show, plan_id="4f1c")
    assert (said["failed"], said["error_code"], said["changed"]) == (True, "STALE_PLAN", False)
    assert said["msg"] == "plan 4f1c9a778800 is stale: the directory changed"


def test_a_plan_that_runs_is_attached_to_whatever_its_size():
    said, module = apply(planned(freshness="running"), ran("succeeded"), max_bytes="1")
    assert said["state"] == "succeeded"


def test_limits_hold():
    said, module = apply(planned(), max_bytes="1KB")
    assert (said["error_code"], len(module.calls)) == ("MAX_BYTES_EXCEEDED", 1)


@pytest.mark.parametrize(
    "answer, code, changed",
    [
        (ran("partial", 6, done=1, failed=1), "PARTIAL", True),
        (ran("failed", 1, done=0, failed=1), "RUN_FAILED", False),
        (ran("failed", 1, done=0, message="the disk is full"), "RUN_FAILED", False),
        (ran("cancelled", 1, done=1), "RUN_CANCELLED", True),
        (ran("interrupted", 5, done=0), "RUN_INTERRUPTED", False),
        (ran("running", 7, done=0), "TIMED_OUT", True),
    ],
)
def test_every_other_ending_has_its_word(answer, code, changed):
    said, module = apply(planned(), answer)
    assert (said["failed"], said["error_code"], said["changed"]) == (True, code, changed)
    assert said["failures"] == json.loads(json.dumps(answer[1]["run"]["failures"]))


def test_what_failed_is_named():
    said, module = apply(planned(), ran("partial", 6, done=1, failed=7))
    assert said["msg"] == "run r1 of a: 7 images failed: x:0: gone; x:1: gone; x:2: gone; x:3: gone; x:4: gone"


def test_a_partial_run_may_warn():
    said, module = apply(planned(), ran("partial", 6, done=1, failed=1), on_partial="warn")
    assert "failed" not in said and said["changed"]
    assert module.warnings == ["run r1 of a: 1 images failed: x:0: gone"]


def test_what_could_not_be_found_out_counts_too():
    lacking = planned(freshness="applied", unresolved_count=1, unresolved=[dict(subject="x:1", reason="gone", transient=False)])
    said, module = apply(lacking)
    assert (said["error_code"], said["msg"]) == ("UNRESOLVED", "1 of a could not be found out: x:1: gone")
    said, module = apply(lacking, on_partial="warn")
    assert "failed" not in said and len(module.warnings) == 1


def test_a_run_may_be_left_alone():
    said, module = apply(planned(), ran("running", done=0), wait=False)
    assert (said["changed"], said["state"]) == (True, "running")
    assert module.calls[1][0][1:3] == ["apply", "--detach"]


def test_a_refusal_of_the_daemon_keeps_its_word():
    refused = dict(schema=1, error=dict(code="RUN_ACTIVE", grpc_code="ALREADY_EXISTS", message="another plan is being applied", details={}))
    said, module = apply(planned(), (3, refused, ""))
    assert (said["error_code"], said["grpc_code"], said["exit_code"]) == ("RUN_ACTIVE", "ALREADY_EXISTS", 3)
    assert _client.PRECONDITION == 3
