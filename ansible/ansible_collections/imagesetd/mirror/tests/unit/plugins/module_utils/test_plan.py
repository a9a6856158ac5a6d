# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import pytest

from ansible_collections.imagesetd.mirror.plugins.module_utils import _plan
from ansible_collections.imagesetd.mirror.plugins.module_utils._client import ClientError


def plan(**more):
    said = dict(
        id="4f1c9a7788" + "0" * 54,
        image_set="prod/tools",
        freshness="fresh",
        step_count=1,
        bytes=1024,
        documents=[],
        node_impact=dict(reload=False, drain=False, unknown=False, reboot=False, refused=False, reasons=[], note=""),
        warnings=[],
        unsupported=[],
        release_signatures_ignored=False,
        unresolved_count=0,
        unresolved=[],
    )
    said.update(more)
    return said


def document(change, before="a\n", after="b\n"):
    return dict(file_name="itms.yaml", name="itms", kind="ImageTagMirrorSet", change=change, before=before, after=after)


def impact(**more):
    said = plan()["node_impact"]
    said.update(more)
    return said


@pytest.mark.parametrize(
    "said, changes",
    [
        (dict(), True),
        (dict(freshness="applied"), False),
        (dict(freshness="running"), True),
        (dict(step_count=0), False),
        (dict(step_count=0, documents=[document("unchanged")]), False),
        (dict(step_count=0, documents=[document("changed")]), True),
        (dict(step_count=0, documents=[document("removed")]), True),
    ],
)
def test_a_plan_changes_something_where_images_or_documents_do(said, changes):
    assert _plan.has_changes(plan(**said)) is changes


@pytest.mark.parametrize(
    "text, number",
    [("0", 0), ("7", 7), ("7B", 7), ("1KiB", 1024), ("1.5 kib", 1536), ("20GB", 20 * 10**9), ("2TiB", 2 * 2**40), (" 3 MB ", 3 * 10**6)],
)
def test_sizes_are_read_as_in_the_settings(text, number):
    assert _plan.size(text) == number


@pytest.mark.parametrize("text", ["", "many", "-1", "1 2", "5 apples", "1e9", "KiB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ClientError) as refused:
        _plan.size(text)
    assert refused.value.code == "INVALID_SIZE"


@pytest.mark.parametrize(
    "said, word",
    [
        (dict(), "none"),
        (dict(reload=True), "reload"),
        (dict(reload=True, drain=True), "drain"),
        (dict(reload=True, drain=True, unknown=True), "drain"),
        (dict(reload=True, drain=True, reboot=True), "reboot"),
    ],
)
def test_the_worst_impact_counts(said, word):
    assert _plan.impact(plan(node_impact=impact(**said))) == word


def test_no_impact_is_none():
    assert _plan.impact(plan(node_impact=None)) == "none"


@pytest.mark.parametrize(
    "said, most, code",
    [
        (dict(), dict(max_bytes=1024), None),
        (dict(), dict(max_bytes=1023), "MAX_BYTES_EXCEEDED"),
        (dict(), dict(max_impact="none"), None),
        (dict(node_impact=impact(reload=True)), dict(max_impact="none"), "MAX_IMPACT_EXCEEDED"),
        (dict(node_impact=impact(reload=True)), dict(max_impact="reload"), None),
        (dict(node_impact=impact(reload=True, drain=True, unknown=True)), dict(max_impact="reload"), "MAX_IMPACT_EXCEEDED"),
        (dict(node_impact=impact(reload=True, drain=True)), dict(max_impact="drain"), None),
        (dict(node_impact=impact(drain=True, reboot=True)), dict(max_impact="drain"), "MAX_IMPACT_EXCEEDED"),
        (dict(node_impact=impact(drain=True, reboot=True)), dict(), None),
        (dict(node_impact=impact(refused=True)), dict(max_impact="drain"), "IMPACT_REFUSED"),
    ],
)
def test_limits_hold(said, most, code):
    if code is None:
        _plan.guard(plan(**said), **most)
        return
    with pytest.raises(ClientError) as refused:
        _plan.guard(plan(**said), **most)
    assert refused.value.code == code


def test_a_refusal_names_the_reasons():
    reasons = [dict(scope="quay.io/a", mirror="", drain=True, message="is new"), dict(scope="", mirror="", drain=True, message="all else")]
    with pytest.raises(ClientError) as refused:
        _plan.guard(plan(node_impact=impact(drain=True, reasons=reasons)), max_impact="none")
    assert refused.value.message == (
        "plan 4f1c9a778800 would have nodes drained, and max_impact allows no more than `none`: quay.io/a: is new; all else"
    )


def test_warnings_are_those_of_the_plan():
    said = plan(warnings=["disk"], unsupported=[dict(stanza="mirror.helm", message="no helm")], release_signatures_ignored=True)
    assert _plan.warnings(said) == ["disk", "no helm", "releases of prod/tools are taken without a look at their signatures, as the settings say"]


def test_unresolved_things_are_counted_and_named():
    things = [dict(subject="a:%d" % number, reason="gone") for number in range(7)]
    assert _plan.unresolved(plan()) is None
    assert _plan.unresolved(plan(unresolved_count=7, unresolved=things)) == "a:0: gone; a:1: gone; a:2: gone; a:3: gone; a:4: gone; and 2 more"


def test_a_diff_shows_images_and_changed_documents_alone():
    steps = [dict(target="m/a:1", digest="sha256:aa"), dict(target="m/b:1", digest="sha256:bb")]
    shown = _plan.diff(plan(documents=[document("changed"), document("unchanged")]), steps)
    assert [(part["after_header"], part["before"], part["after"]) for part in shown] == [
        ("prod/tools images in the mirror", "", "m/a:1 sha256:aa\nm/b:1 sha256:bb\n"),
        ("itms.yaml", "a\n", "b\n"),
    ]


def test_a_diff_is_bounded():
    steps = [dict(target="m/a:%d" % number, digest="sha256:aa") for number in range(1200)]
    large = "x" * (_plan.MOST_TEXT + 1)
    shown = _plan.diff(plan(documents=[document("changed", after=large)]), steps)
    assert shown[0]["after"].endswith("m/a:999 sha256:aa\n... and 200 more\n")
    assert shown[1]["after"] == large[: _plan.MOST_TEXT] + "\n... cut, %d characters in all\n" % len(large)
