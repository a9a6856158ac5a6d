# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client


class Module(object):
    """What the client needs of AnsibleModule; answers what it is told to."""

    def __init__(self, answers=(), found="/usr/bin/imagesetd", **params):
        self.params = dict.fromkeys(_client.connection_options())
        self.params.update(params)
        self.answers = list(answers)
        self.found = found
        self.calls = []
        self.warnings = []
        self.check_mode = False
        self._diff = False

    def get_bin_path(self, name, required, opt_dirs):
        assert (name, required, opt_dirs) == ("imagesetd", False, _client.FOLDERS)
        return self.found

    def run_command(self, command, environ_update, handle_exceptions):
        assert not handle_exceptions
        self.calls.append((command, environ_update))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        code, document, err = answer
        return code, document if isinstance(document, str) else json.dumps(document), err

    def exit_json(self, **said):
        raise Ended(said)

    def fail_json(self, **said):
        raise Ended(dict(said, failed=True))

    def warn(self, text):
        self.warnings.append(text)


class Ended(Exception):
    """How a module ended."""

    def __init__(self, said):
        super(Ended, self).__init__(str(said))
        self.said = said


def ended(run, module):
    """Runs a module to its end and returns what it said; an error of the client ends it as it does for all."""
    try:
        try:
            run(module)
        except _client.ClientError as error:
            _client.fail(module, error)
    except Ended as how:
        return how.said
    raise AssertionError("the module did not end")
