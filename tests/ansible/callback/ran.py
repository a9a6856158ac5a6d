"""Beside any other: writes where the tasks stand that ran, as lines `FILE:LINE`, to the file RAN."""

import os

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ran"
    CALLBACK_NEEDS_ENABLED = True

    def told(self, task):
        with open(os.environ["RAN"], "a") as file:
            file.write(task.get_path() + "\n")

    def v2_runner_on_ok(self, result):
        self.told(result._task)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.told(result._task)

    def v2_playbook_on_include(self, included_file):
        self.told(included_file._task)
