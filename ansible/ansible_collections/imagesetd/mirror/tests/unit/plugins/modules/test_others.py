# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import pytest

from ansible_collections.imagesetd.mirror.plugins.modules import imageset_run, imageset_run_info, imageset_validate, imageset_verify
from ansible_collections.imagesetd.mirror.tests.unit.plugins.double import Module, ended


def module(*answers, **params):
    check = params.pop("check", False)
    made = Module(answers, **params)
    made.check_mode = check
    return made


def verified(code, lost=(), unknown=0, runs=()):
    losses = [dict(kind="manifest", reference=name, message="%s is gone" % name, images=[name]) for name in lost]
    progress = dict(checked=9, total=9, lost=len(lost), unknown=unknown, bytes_read=0)
    repairs = [dict(image_set="a", run=run, message="") for run in runs]
    said = dict(schema=1, image_sets=["a"], manifests=9, blobs=0, progress=progress, losses=losses, repairs=repairs, unknown_reason="it is away")
    return code, said, ""


@pytest.mark.parametrize(
    "answer, params, expected",
    [
        (verified(0), {}, (False, True, None)),
        (verified(1, lost=["x"]), {}, (False, False, "DRIFT")),
        (verified(1, lost=["x"]), dict(fail_on_drift=False), (False, False, None)),
        (verified(5, unknown=2), {}, (False, False, "DRIFT")),
        (verified(0, lost=["x"], runs=[{"id": "r"}]), dict(repair=True), (True, True, None)),
        (verified(6, lost=["x"], runs=[{"id": "r"}]), dict(repair=True), (True, False, "DRIFT")),
        (verified(1, lost=["x"]), dict(repair=True, check=True), (True, False, None)),
    ],
)
def test_verifying(answer, params, expected):
    options = dict(imagesets=["a"], depth="deep", repair=False, fail_on_drift=True)
    options.update(params)
    asked = module(answer, **options)
    said = ended(imageset_verify.run, asked)
    assert (said["changed"], said["ok"], said.get("error_code")) == expected
    repairs = "--repair" in asked.calls[0][0]
    assert repairs == (options["repair"] and not options.get("check", False))
    assert "schema" not in said["verification"]


def test_losses_are_named_and_counted():
    said = ended(imageset_verify.run, module(verified(1, lost=list("abcdefg"), unknown=3), imagesets=None, depth="quick", repair=False, fail_on_drift=True))
    assert said["msg"] == (
        "a is gone; b is gone; c is gone; d is gone; e is gone; and 2 more; of 3 things the mirror did not say: it is away"
    )


def problem(severity, **more):
    return dict(dict(severity=severity, file="a.yaml", line=4, column=3, path="mirror", message="no such key", hint=""), **more)


def checked(problems, **params):
    valid = not [one for one in problems if one["severity"] == "error"]
    answer = dict(schema=1, valid=valid, image_sets=[], problems=problems)
    asked = module((0 if valid else 3, answer, ""), **params)
    return ended(imageset_validate.run, asked), asked


def test_problems_have_their_place_and_hint():
    said, asked = checked([problem("error", hint="did you mean x?"), problem("error", line=0, column=0)], paths=["-a"], fail_on_invalid=True)
    assert said["error_code"] == "IMAGE_SET_INVALID"
    assert said["msg"] == "a.yaml:4:3: no such key (did you mean x?); a.yaml: no such key"
    assert asked.calls[0][0][1:] == ["validate", "--output", "json", "--", "-a"]


def test_many_problems_are_counted():
    said, asked = checked([problem("error")] * 7, paths=["a"], fail_on_invalid=True)
    assert said["msg"].endswith("; and 2 more")


def test_warnings_warn_and_errors_may_pass():
    said, asked = checked([problem("warning")], paths=None, fail_on_invalid=True)
    assert said["valid"] and asked.warnings == ["a.yaml:4:3: no such key"]
    assert asked.calls[0][0][1:] == ["validate", "--watched", "--output", "json"]
    said, asked = checked([problem("error")], paths=["a"], fail_on_invalid=False)
    assert "failed" not in said and not said["valid"]


def shown(state):
    return dict(id="r1", image_set="a", state=state, message="", failures=[], progress={})


def listed(*runs):
    return 0, dict(schema=1, runs=list(runs)), ""


def one(state, code=0):
    return code, dict(schema=1, run=shown(state)), ""


def looked(*answers, **params):
    options = dict(run_id=None, imageset=None, limit=20, wait=False, wait_timeout=5)
    options.update(params)
    asked = module(*answers, **options)
    return ended(imageset_run_info.run, asked), asked


def test_runs_are_listed_the_first_with_its_failures():
    said, asked = looked(listed(dict(id="r1"), dict(id="r0")), one("succeeded"), imageset="a")
    assert said["runs"] == [shown("succeeded"), dict(id="r0")] and not said["changed"]


def test_no_run_is_an_answer():
    said, asked = looked(listed(), imageset="a", wait=True)
    assert said["runs"] == []


def test_waiting_ends_with_the_run_or_the_time():
    said, asked = looked(one("running"), one("succeeded"), run_id="r1", wait=True)
    assert [run["state"] for run in said["runs"]] == ["succeeded"]
    said, asked = looked(one("running"), one("running", 7), run_id="r1", wait=True)
    assert (said["error_code"], said["msg"]) == ("TIMED_OUT", "run r1 goes on after 5 seconds")


def test_what_has_ended_is_not_stopped():
    asked = module(listed(dict(id="r1")), one("succeeded"), run_id=None, imageset="a", state="canceled", wait=True, wait_timeout=5)
    said = ended(imageset_run.run, asked)
    assert not said["changed"] and said["run"]["state"] == "succeeded"
    assert not [command for command, environment in asked.calls if "cancel" in command]
