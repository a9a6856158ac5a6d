# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import pytest

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client, _daemon
from ansible_collections.imagesetd.mirror.tests.unit.plugins.double import Module


def client(*answers):
    return _client.Client(Module(answers))


def words(client):
    return [command[1:] for command, environment in client.module.calls]


def error(code, message="no"):
    return {"schema": 1, "error": {"code": code, "message": message}}


def test_an_image_set_is_planned():
    answer = dict(schema=1, plans=[{"id": "p"}], unplanned=[], problems=[])
    asked = client((0, answer, ""))
    assert _daemon.make_plan(asked, "-a", refresh=True) == {"id": "p"}
    assert words(asked) == [["plan", "--refresh", "--output", "json", "--", "-a"]]


def test_files_are_planned_where_they_lie():
    answer = dict(schema=1, plans=[{"id": "p"}], unplanned=[], problems=[])
    asked = client((0, answer, ""))
    assert _daemon.make_plan(asked, None, paths=["/a", "-b"]) == {"id": "p"}
    assert words(asked) == [["plan", "--config=/a", "--config=-b", "--output", "json"]]


def test_plans_that_are_none_or_several_are_refused():
    def made(code, **document):
        answer = dict(schema=1, plans=[], unplanned=[], problems=[])
        answer.update(document)
        with pytest.raises(_client.ClientError) as refused:
            _daemon.make_plan(_client.Client(Module([(code, answer, "")])), "a")
        return refused.value.code, refused.value.message

    unplanned = dict(image_set="a", reason="PlanStale", message="it moved")
    problem = dict(severity="error", file="a.yaml", line=1, column=2, message="no such key")
    assert made(3, unplanned=[unplanned]) == ("STALE_PLAN", "a cannot be planned: it moved")
    assert made(0, problems=[problem]) == ("IMAGE_SET_INVALID", "a.yaml:1:2: no such key")
    assert made(0)[0] == "IMAGE_SET_UNCLEAR"
    assert made(0, plans=[dict(image_set="a"), dict(image_set="b")])[1].startswith("one image set is planned at a time, and there are a, b")


@pytest.mark.parametrize(
    "reason, word",
    [
        ("MirrorUnavailable", "MIRROR_UNAVAILABLE"),
        ("PlanStale", "STALE_PLAN"),
        ("RunUnderWay", "RUN_ACTIVE"),
        ("Stopping", "SHUTTING_DOWN"),
        ("Unfit", "UNFIT"),
    ],
)
def test_a_reason_becomes_a_word_of_errors(reason, word):
    assert _daemon.shouted(reason) == word


def test_the_newest_run_of_an_image_set_is_found():
    module = Module([(0, {"schema": 1, "runs": [{"id": "r2"}]}, ""), (0, {"schema": 1, "run": {"id": "r2", "failures": []}}, "")])
    assert _daemon.find_run(_client.Client(module), None, "-a") == {"id": "r2", "failures": []}
    assert module.calls[0][0][1:] == ["runs", "list", "--limit", "1", "--output", "json", "--", "-a"]
    assert _daemon.find_run(_client.Client(Module([(0, {"schema": 1, "runs": []}, "")])), None, "a") is None


def test_watching_keeps_the_exit_code():
    module = Module([(7, {"schema": 1, "run": {"id": "r1"}}, "")])
    assert _daemon.watch_run(_client.Client(module), "r1", 5) == (7, {"id": "r1"})
    assert module.calls[0][0][1:5] == ["runs", "watch", "--timeout", "5s"]


def test_a_plan_is_shown_with_its_steps():
    module = Module([(0, {"schema": 1, "plan": {"id": "p"}, "steps": []}, "")])
    assert _daemon.show_plan(_client.Client(module), "p", True) == ({"id": "p"}, [])


def test_a_plan_of_another_image_set_is_refused():
    asked = client((0, {"schema": 1, "plan": {"id": "4f1c9a77880c2b", "image_set": "b"}}, ""))
    with pytest.raises(_client.ClientError) as refused:
        _daemon.show_plan(asked, "4f1c", False, "a")
    assert (refused.value.code, refused.value.message) == ("PLAN_OF_ANOTHER", "plan 4f1c9a77880c is of image set b, not of a")
    assert words(asked) == [["plan", "show", "--output", "json", "--", "4f1c"]]


def test_a_run_is_found_by_its_id():
    assert _daemon.find_run(client((0, {"schema": 1, "run": {"id": "r1"}}, "")), "r1", None) == {"id": "r1"}


def test_runs_of_all_image_sets_are_listed():
    asked = client((0, {"schema": 1, "runs": []}, ""))
    assert _daemon.list_runs(asked, None, 3) == []
    assert words(asked) == [["runs", "list", "--limit", "3", "--output", "json"]]


def test_watching_says_how_the_run_is_where_it_heard_nothing_in_time():
    asked = client((5, error("TIMED_OUT"), ""), (0, {"schema": 1, "run": {"id": "r1", "state": "running"}}, ""))
    assert _daemon.watch_run(asked, "r1", 1) == (_client.TIMED_OUT, {"id": "r1", "state": "running"})


def test_watching_passes_other_errors_on():
    with pytest.raises(_client.ClientError) as refused:
        _daemon.watch_run(client((3, error("RUN_NOT_FOUND"), "")), "r1", 1)
    assert refused.value.code == "RUN_NOT_FOUND"
