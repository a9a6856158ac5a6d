#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_validate
short_description: Check ImageSetConfiguration files
description:
  - Checks image set files as the daemon reads them and returns all problems of all files at once, each with file, line and column.
  - With O(paths) neither the daemon nor a network is needed; without it the daemon is asked about the directory that it watches.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
  - imagesetd.mirror.attributes.info
options:
  paths:
    description:
      - Files to check, or folders of them, on the managed host.
      - If not set, the daemon checks the directory that it watches.
    type: list
    elements: path
  fail_on_invalid:
    description: Whether the task fails where a file has an error. Warnings never fail it.
    type: bool
    default: true
seealso:
  - module: imagesetd.mirror.imageset_plan
"""

EXAMPLES = r"""
- name: Check the files of a checkout, in the pipeline of a pull request
  imagesetd.mirror.imageset_validate:
    paths:
      - /srv/imagesets

- name: Look at what is wrong with the watched directory, without failing
  imagesetd.mirror.imageset_validate:
    fail_on_invalid: false
  register: checked

- name: Name the files with errors
  ansible.builtin.debug:
    msg: "{{ checked.problems | selectattr('severity', 'eq', 'error') | map(attribute='file') | unique }}"
"""

RETURN = r"""
valid:
  description: Whether no problem is an error.
  type: bool
  returned: when the files could be read
  sample: true
imagesets:
  description: The image sets that were found, valid or not, sorted by name.
  type: list
  elements: dict
  returned: when the files could be read
  contains:
    name:
      description: Its name, the file's path without the extension.
      type: str
      sample: prod/ocp-4.16
    file:
      description: The file.
      type: str
      sample: /srv/imagesets/prod/ocp-4.16.yaml
    valid:
      description: Whether no problem of its own is an error.
      type: bool
problems:
  description: Everything that is wrong, sorted by file, line and column.
  type: list
  elements: dict
  returned: when the files could be read
  contains:
    severity:
      description: V(error) or V(warning).
      type: str
      sample: error
    file:
      description: The file.
      type: str
    line:
      description: The line, from 1; 0 where the whole file is meant.
      type: int
    column:
      description: The column, from 1; 0 where the whole file is meant.
      type: int
    path:
      description: Where in the document.
      type: str
      sample: mirror.platform.channels[0].name
    message:
      description: What is wrong.
      type: str
    hint:
      description: What to do; empty where the message says it all.
      type: str
error_code:
  description: A stable word for why the task failed, V(IMAGE_SET_INVALID) where a file has an error.
  type: str
  returned: on failure
  sample: IMAGE_SET_INVALID
"""

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client


def told(problem):
    """Returns a problem as one line."""
    place = ":".join(str(part) for part in (problem["file"], problem["line"], problem["column"]) if part)
    hint = " (%s)" % problem["hint"] if problem["hint"] else ""
    return "%s: %s%s" % (place, problem["message"], hint)


def run(module):
    client = _client.Client(module)
    paths = module.params["paths"]
    verb = ["validate"] if paths else ["validate", "--watched"]
    document = client.call(verb, paths or (), (_client.DONE, _client.PRECONDITION))[1]
    result = dict(changed=False, valid=document["valid"], imagesets=document["image_sets"], problems=document["problems"])
    errors = [problem for problem in document["problems"] if problem["severity"] == "error"]
    for problem in document["problems"]:
        if problem["severity"] != "error":
            module.warn(told(problem))
    if errors and module.params["fail_on_invalid"]:
        more = len(errors) - 5
        text = "; ".join(told(problem) for problem in errors[:5]) + ("; and %d more" % more if more > 0 else "")
        module.fail_json(msg=text, error_code="IMAGE_SET_INVALID", **result)
    module.exit_json(**result)


def main():
    options = dict(
        paths=dict(type="list", elements="path"),
        fail_on_invalid=dict(type="bool", default=True),
    )
    _client.main(run, options)


if __name__ == "__main__":
    main()
