# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type
import hashlib

import pytest

from ansible_collections.imagesetd.mirror.plugins.modules import imageset_info, imageset_plan, imageset_resources_info, imageset_run
from ansible_collections.imagesetd.mirror.tests.unit.plugins.double import Module, ended


def standing(name, ready):
    condition = dict(type="Ready", status="true" if ready else "false", message="" if ready else "it waits", reason="Waiting")
    return dict(name=name, conditions=[condition])


def status(code, *sets):
    return code, dict(schema=1, daemon=standing("", True), image_sets=[standing(name, ready) for name, ready in sets]), ""


def info(answer, **params):
    options = dict(imageset=None, wait=False, revision=None, wait_timeout=5)
    options.update(params)
    module = Module([answer], **options)
    return ended(imageset_info.run, module), module.calls[0][0][1:]


def test_all_have_to_be_ready():
    said, words = info(status(0, ("a", True), ("b", False)))
    assert not said["ready"] and [known["ready"] for known in said["imagesets"]] == [True, False]
    assert words == ["status", "--output", "json"]
    assert info(status(0, ("a", True)))[0]["ready"]


@pytest.mark.parametrize("code, word", [(7, "TIMED_OUT"), (3, "NOT_READY")])
def test_waiting_in_vain_says_what_for(code, word):
    said, words = info(status(code, ("a", True), ("b", False)), imageset="b", wait=True, revision="0123456")
    assert (said["error_code"], said["msg"]) == (word, "b: it waits")
    assert words == ["status", "--wait", "ready", "--timeout", "5s", "--revision=0123456", "--output", "json", "--", "b"]


PLAN = dict(
    id="4f1c",
    image_set="a",
    freshness="fresh",
    step_count=2,
    documents=[],
    node_impact=None,
    warnings=["the disk is nearly full"],
    unsupported=[],
    release_signatures_ignored=False,
)


def plan(*answers, **params):
    options = dict(imageset="a", plan_id=None, paths=None, refresh=False, detail="summary", max_images=1)
    options.update(params)
    module = Module(answers, **options)
    return ended(imageset_plan.run, module), module


def made():
    return 0, dict(schema=1, plans=[PLAN], unplanned=[], problems=[]), ""


def shown(**more):
    return 0, dict(dict(schema=1, plan=PLAN), **more), ""


def test_a_plan_is_never_changed_and_says_whether_it_would_change_something():
    said, module = plan(made())
    assert (said["changed"], said["has_changes"], said["impact"], said["plan"]) == (False, True, "none", PLAN)
    assert "steps" not in said and module.warnings == ["the disk is nearly full"]


def test_steps_are_bounded():
    said, module = plan(made(), shown(steps=[{"number": 1}, {"number": 2}]), detail="images")
    assert (said["steps"], said["steps_truncated"]) == ([{"number": 1}], True)
    said, module = plan(shown(steps=[{"number": 1}]), plan_id="4f1c", detail="images")
    assert (said["steps"], said["steps_truncated"]) == ([{"number": 1}], False)


def test_documents_are_one_stream_with_a_checksum():
    rest = dict(image_set="a", name="x", kind="ConfigMap", retirable=[])
    found = [dict(rest, text="a: 1\n", value={"a": 1}, file_name="1.yaml"), dict(rest, text="---\nb: 2", value={"b": 2}, file_name="2.yaml")]
    module = Module([(0, dict(schema=1, resources=found), "")], imageset="a", kinds=["ConfigMap"])
    said = ended(imageset_resources_info.run, module)
    assert said["yaml"] == "---\na: 1\n---\nb: 2\n"
    assert said["checksum"] == hashlib.sha256(said["yaml"].encode("utf-8")).hexdigest()
    assert said["resources"] == [{"a": 1}, {"b": 2}]
    assert said["documents"] == [dict(rest, file_name="1.yaml"), dict(rest, file_name="2.yaml")]
    assert module.calls[0][0][1:] == ["resources", "print", "--kind=ConfigMap", "--output", "json", "--", "a"]


def run(state, code=0):
    return code, dict(schema=1, run=dict(id="r1", state=state)), ""


def stop(*answers, **params):
    check = params.pop("check", False)
    options = dict(run_id="r1", imageset=None, state="canceled", wait=True, wait_timeout=5)
    options.update(params)
    module = Module(answers, **options)
    module.check_mode = check
    return ended(imageset_run.run, module), [command[1:3] for command, environment in module.calls]


def test_what_goes_on_is_stopped():
    said, words = stop(run("running"), run("running"), run("cancelled", 1))
    assert (said["changed"], said["run"]["state"]) == (True, "cancelled")
    assert words == [["runs", "show"], ["runs", "cancel"], ["runs", "watch"]]
    said, words = stop(run("running"), run("running"), wait=False)
    assert (said["changed"], words) == (True, [["runs", "show"], ["runs", "cancel"]])


def test_check_mode_stops_nothing():
    said, words = stop(run("running"), check=True)
    assert (said["changed"], words) == (True, [["runs", "show"]])


def test_a_run_that_takes_long_to_end_is_said():
    said, words = stop(run("running"), run("running"), run("running", 7))
    assert (said["failed"], said["error_code"], said["changed"]) == (True, "TIMED_OUT", True)


def test_a_run_that_ends_between_the_look_and_the_word_is_not_changed():
    late = 3, dict(schema=1, error=dict(code="RUN_FINISHED", message="it has ended")), ""
    said, words = stop(run("running"), late, run("succeeded"))
    assert (said["changed"], said["run"]["state"]) == (False, "succeeded")
    refused = 4, dict(schema=1, error=dict(code="RIGHTS_MISSING", message="no")), ""
    said, words = stop(run("running"), refused)
    assert said["error_code"] == "RIGHTS_MISSING"
