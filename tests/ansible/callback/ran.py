"""Beside any other: writes which tasks ran, as lines `STATE FILE:LINE NAME` with tabs between, to the file RAN."""

import os

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ran"
    CALLBACK_NEEDS_ENABLED = True

    def told(self, state, task):
        with open(os.environ["RAN"], "a") as file:
            file.write("%s\t%s\t%s\n" % (state, task.get_path(), task.get_name()))

    def v2_runner_on_ok(self, result):
        self.told("ok", result._task)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.told("failed", result._task)

    def v2_runner_on_skipped(self, result):
        self.told("skipped", result._task)

    def v2_playbook_on_include(self, included_file):
        self.told("ok", included_file._task)
