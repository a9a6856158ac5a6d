# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""What several modules ask the daemon."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client

# Exit codes of a run that has ended, or goes on.
ENDINGS = (_client.DONE, _client.OTHER, _client.UNAVAILABLE, _client.PARTIAL, _client.TIMED_OUT)

# Reasons that the API has other words for where they end a call.
OTHERWISE = {"PLAN_STALE": "STALE_PLAN", "RUN_UNDER_WAY": "RUN_ACTIVE", "STOPPING": "SHUTTING_DOWN"}


def make_plan(client, imageset, refresh=False, paths=None):
    """Plans an image set, or files, and returns the one plan."""
    verb = ["plan"] + (["--refresh"] if refresh else [])
    for path in paths or ():
        verb += ["--config=" + path]
    # Files with errors and what could not be planned have exit codes of their own, and say more in the document.
    answers = (_client.DONE, _client.OTHER, _client.PRECONDITION, _client.AUTHENTICATION, _client.UNAVAILABLE)
    code, document = client.call(verb, [imageset] if imageset else (), answers)
    for unplanned in document["unplanned"]:
        raise _client.ClientError(
            "%s cannot be planned: %s" % (unplanned["image_set"], unplanned["message"]),
            shouted(unplanned["reason"]),
            exit_code=code,
            problems=document["problems"],
        )
    plans = document["plans"]
    errors = [problem for problem in document["problems"] if problem["severity"] == "error"]
    if errors and not plans:
        first = errors[0]
        message = "%s:%s:%s: %s" % (first["file"], first["line"], first["column"], first["message"])
        raise _client.ClientError(message, "IMAGE_SET_INVALID", exit_code=code, problems=document["problems"])
    if len(plans) != 1:
        found = ", ".join(plan["image_set"] for plan in plans) or "none"
        raise _client.ClientError("one image set is planned at a time, and there are %s; say which with imageset" % found, "IMAGE_SET_UNCLEAR")
    return plans[0]


def show_plan(client, plan_id, with_steps, imageset=None):
    """Returns a plan, which has to be of the image set where one is named, and its steps or None."""
    document = client.call(["plan", "show"] + (["--steps"] if with_steps else []), [plan_id])[1]
    plan = document["plan"]
    if imageset and plan["image_set"] != imageset:
        raise _client.ClientError("plan %s is of image set %s, not of %s" % (plan["id"][:12], plan["image_set"], imageset), "PLAN_OF_ANOTHER")
    return plan, document.get("steps")


def show_run(client, run_id):
    """Returns a run with its failures."""
    return client.call(["runs", "show"], [run_id])[1]["run"]


def list_runs(client, imageset, limit):
    """Returns runs, current ones first."""
    return client.call(["runs", "list", "--limit", str(limit)], [imageset] if imageset else ())[1]["runs"]


def find_run(client, run_id, imageset):
    """Returns the run that is named, or the newest of an image set; None where that has none."""
    if run_id:
        return show_run(client, run_id)
    runs = list_runs(client, imageset, 1)
    return show_run(client, runs[0]["id"]) if runs else None


def watch_run(client, run_id, seconds):
    """Waits for the end of a run. Returns the exit code and the run."""
    try:
        code, document = client.call(["runs", "watch", "--timeout", "%ds" % seconds], [run_id], ENDINGS)
    except _client.ClientError as error:
        # Not even how it stands came within the time.
        if error.code != "TIMED_OUT":
            raise
        return _client.TIMED_OUT, show_run(client, run_id)
    return code, document["run"]


def shouted(reason):
    """Returns a reason in camel case as errors have them: `ImageSetInvalid` is IMAGE_SET_INVALID."""
    word = ""
    for letter in reason:
        if letter.isupper() and word:
            word += "_"
        word += letter.upper()
    return OTHERWISE.get(word, word)
