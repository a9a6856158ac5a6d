# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""What plans mean: whether they change something, what they cost, how they look as a diff. Nothing here asks the daemon."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import re

from ansible_collections.imagesetd.mirror.plugins.module_utils._client import ClientError

# What a change does to nodes, from harmless to not.
IMPACTS = ["none", "reload", "drain", "reboot"]

EFFECTS = {"reload": "reload their container engine", "drain": "drained", "reboot": "rebooted"}

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

# What a diff holds at most, so that results stay of a size that a terminal and a database take.
MOST_LINES = 1000
MOST_TEXT = 256 * 1024


def has_changes(plan):
    """Whether applying the plan would change the mirror or the documents."""
    if plan["freshness"] == "applied":
        return False
    return plan["step_count"] > 0 or any(document["change"] != "unchanged" for document in plan["documents"])


def impact(plan):
    """Returns the worst that the plan's documents do to nodes, as a word of IMPACTS."""
    said = plan.get("node_impact") or {}
    for word in ("reboot", "drain", "reload"):
        if said.get(word):
            return word
    return "none"


def size(text):
    """Reads a size as the settings file has them: bytes, or with a unit (KiB, MB)."""
    found = re.match(r"^([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)$", text.strip())
    unit = found.group(2).upper() if found else None
    if unit not in UNITS:
        raise ClientError(
            "`%s` is not a size; a number of bytes is, or one with KiB, MiB, GiB, TiB, KB, MB, GB or TB (`500GiB`)" % text, "INVALID_SIZE"
        )
    return int(float(found.group(1)) * UNITS[unit])


def guard(plan, max_bytes=None, max_impact=None):
    """Refuses a plan that is larger, or hits nodes harder, than is allowed."""
    if max_bytes is not None and plan["bytes"] > max_bytes:
        raise ClientError(
            "plan %s downloads %d bytes, more than the %d that max_bytes allows" % (plan["id"][:12], plan["bytes"], max_bytes),
            "MAX_BYTES_EXCEEDED",
        )
    if max_impact is None:
        return
    found = impact(plan)
    said = plan.get("node_impact") or {}
    if said.get("refused"):
        raise ClientError("plan %s: a cluster would refuse its documents: %s" % (plan["id"][:12], reasons(said)), "IMPACT_REFUSED")
    if IMPACTS.index(found) > IMPACTS.index(max_impact):
        unknown = ", as far as is known" if said.get("unknown") else ""
        raise ClientError(
            "plan %s would have nodes %s%s, and max_impact allows no more than `%s`: %s"
            % (plan["id"][:12], EFFECTS[found], unknown, max_impact, reasons(said)),
            "MAX_IMPACT_EXCEEDED",
        )


def reasons(said):
    """Returns why nodes are concerned, as one text."""
    texts = ["%s: %s" % (reason["scope"], reason["message"]) if reason["scope"] else reason["message"] for reason in said.get("reasons") or []]
    return "; ".join(texts[:5]) or said.get("note") or "no reason is given"


def warnings(plan):
    """Returns what a person should hear of a plan."""
    texts = list(plan["warnings"])
    texts += [stanza["message"] for stanza in plan["unsupported"]]
    if plan["release_signatures_ignored"]:
        texts.append("releases of %s are taken without a look at their signatures, as the settings say" % plan["image_set"])
    return texts


def unresolved(plan):
    """Returns what could not be found out, as one text; None where all could."""
    if not plan["unresolved_count"]:
        return None
    texts = ["%s: %s" % (thing["subject"], thing["reason"]) for thing in plan["unresolved"][:5]]
    more = plan["unresolved_count"] - len(texts)
    if more > 0:
        texts.append("and %d more" % more)
    return "; ".join(texts)


def diff(plan, steps):
    """Returns the plan as Ansible shows differences: the images that come, then every document that changes."""
    shown = []
    if steps:
        lines = ["%s %s" % (step["target"], step["digest"]) for step in steps[:MOST_LINES]]
        if len(steps) > MOST_LINES:
            lines.append("... and %d more" % (len(steps) - MOST_LINES))
        shown.append(
            dict(
                before_header="%s images in the mirror" % plan["image_set"],
                after_header="%s images in the mirror" % plan["image_set"],
                before="",
                after="\n".join(lines) + "\n",
            )
        )
    for document in plan["documents"]:
        if document["change"] == "unchanged":
            continue
        shown.append(
            dict(
                before_header=document["file_name"],
                after_header=document["file_name"],
                before=bounded(document["before"]),
                after=bounded(document["after"]),
            )
        )
    return shown


def bounded(text):
    """Returns a text, cut where it is too long."""
    if len(text) <= MOST_TEXT:
        return text
    return text[:MOST_TEXT] + "\n... cut, %d characters in all\n" % len(text)
