#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: imageset_resources_info
short_description: Return the cluster documents of image sets
description:
  - Returns the documents that clusters are to apply, IDMS, ITMS and signatures among others, as objects that go straight into
    C(kubernetes.core.k8s), and as YAML.
  - They describe what has landed, not what is wanted, and are the same bytes while their meaning is the same.
version_added: "0.1.0"
author:
  - imagesetd contributors (@imagesetd)
extends_documentation_fragment:
  - imagesetd.mirror.connection
  - imagesetd.mirror.attributes
  - imagesetd.mirror.attributes.info
options:
  imageset:
    description: Only the documents of this image set.
    type: str
  kinds:
    description: Only documents of these kinds, such as V(ImageDigestMirrorSet), V(ImageTagMirrorSet) or V(ConfigMap).
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Get the documents of an image set
  imagesetd.mirror.imageset_resources_info:
    imageset: prod/tools
  register: documents

- name: Keep them in a file
  ansible.builtin.copy:
    content: "{{ documents.yaml }}"
    dest: /tmp/imagesetd-documents.yaml
    mode: "0644"

- name: Get the mirror rules by digest alone
  imagesetd.mirror.imageset_resources_info:
    kinds:
      - ImageDigestMirrorSet
"""

RETURN = r"""
resources:
  description: The objects, sorted by image set and file name.
  type: list
  elements: dict
  returned: success
  sample:
    - apiVersion: config.openshift.io/v1
      kind: ImageDigestMirrorSet
      metadata:
        name: idms-prod-tools-additional
      spec:
        imageDigestMirrors: []
documents:
  description: The documents that the objects are in, in the same order.
  type: list
  elements: dict
  returned: success
  contains:
    image_set:
      description: The image set.
      type: str
    name:
      description: The object's name.
      type: str
    kind:
      description: The object's kind.
      type: str
    file_name:
      description: The file in the output folder.
      type: str
    retirable:
      description: The sources of those of its rules that no image set needs any longer.
      type: list
      elements: str
yaml:
  description: All documents as one stream of YAML, each after C(---) and byte by byte as it is in the output folder.
  type: str
  returned: success
checksum:
  description: The SHA-256 of RV(yaml), to tell whether anything changed.
  type: str
  returned: success
error_code:
  description: A stable word for why the task failed.
  type: str
  returned: on failure
  sample: IMAGE_SET_NOT_FOUND
"""

import hashlib

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client


def stream(texts):
    """Joins documents into one stream of YAML."""
    parts = []
    for text in texts:
        parts.append(text if text.startswith("---") else "---\n" + text)
        if not text.endswith("\n"):
            parts.append("\n")
    return "".join(parts)


def run(module):
    client = _client.Client(module)
    params = module.params
    verb = ["resources", "print"] + ["--kind=" + kind for kind in params["kinds"] or ()]
    found = client.call(verb, [params["imageset"]] if params["imageset"] else ())[1]["resources"]
    yaml = stream(document["text"] for document in found)
    module.exit_json(
        changed=False,
        resources=[document["value"] for document in found],
        documents=[dict((key, document[key]) for key in ("image_set", "name", "kind", "file_name", "retirable")) for document in found],
        yaml=yaml,
        checksum=hashlib.sha256(yaml.encode("utf-8")).hexdigest(),
    )


def main():
    options = dict(
        imageset=dict(type="str"),
        kinds=dict(type="list", elements="str"),
    )
    _client.main(run, options)


if __name__ == "__main__":
    main()
