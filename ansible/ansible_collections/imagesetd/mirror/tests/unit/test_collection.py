# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import importlib
import os

import pytest
import yaml

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def names(*folder):
    files = os.listdir(os.path.join(ROOT, *folder))
    return sorted(name[: -len(".py")] for name in files if name.endswith(".py") and not name.startswith("_"))


MODULES = names("plugins", "modules")


def test_the_action_group_has_all_modules():
    with open(os.path.join(ROOT, "meta", "runtime.yml")) as file:
        runtime = yaml.safe_load(file)
    assert runtime["action_groups"] == {"mirror": MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_documents_its_errors_and_attributes(name):
    module = importlib.import_module("ansible_collections.imagesetd.mirror.plugins.modules." + name)
    returned = yaml.safe_load(module.RETURN)
    assert returned["error_code"]["returned"] == "on failure"
    said = yaml.safe_load(module.DOCUMENTATION)
    fragments = said["extends_documentation_fragment"]
    assert fragments[:2] == ["imagesetd.mirror.connection", "imagesetd.mirror.attributes"]
    if fragments[2:] != ["imagesetd.mirror.attributes.info"]:
        assert sorted(said["attributes"]) == ["check_mode", "diff_mode", "idempotent"]


def keys(returned):
    found = list(returned)
    for said in returned.values():
        found += keys(said.get("contains") or {})
    return found


@pytest.mark.parametrize("name", MODULES)
def test_templates_reach_every_return_value(name):
    # In a template `result.copy` is the method of the dictionary.
    module = importlib.import_module("ansible_collections.imagesetd.mirror.plugins.modules." + name)
    assert not [key for key in keys(yaml.safe_load(module.RETURN)) if hasattr(dict, key)]
