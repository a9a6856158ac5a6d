"""Writes every result as a line of JSON to the file LINES."""

import json
import os

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lines"

    def told(self, result, failed):
        line = {"action": result._task.action, "task": result._task.get_name(), "failed": failed, "result": result._result}
        with open(os.environ["LINES"], "a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self.told(result, False)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.told(result, True)
        self._display.display(json.dumps(result._result, default=str))
