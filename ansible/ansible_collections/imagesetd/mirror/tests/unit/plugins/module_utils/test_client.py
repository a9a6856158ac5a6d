# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import pytest

from ansible_collections.imagesetd.mirror.plugins.module_utils import _client
from ansible_collections.imagesetd.mirror.tests.unit.plugins.double import Module


def refusal(module, *arguments, **more):
    with pytest.raises(_client.ClientError) as refused:
        _client.Client(module).call(*arguments, **more)
    return refused.value


def test_secrets_travel_in_the_environment_alone():
    module = Module([(0, {"schema": 1}, "")], endpoint="https://m:1", token="canary", client_key="/k", client_cert="/c", request_timeout=5)
    assert _client.Client(module).call(["plan"], ["-x"]) == (0, {"schema": 1})
    command, environment = module.calls[0]
    assert command == ["/usr/bin/imagesetd", "plan", "--output", "json", "--", "-x"]
    assert environment["IMAGESETD_TOKEN"] == "canary"
    assert environment["IMAGESETD_TOKEN_FILE"] == ""
    assert environment["IMAGESETD_ENDPOINT"] == "https://m:1"
    assert environment["IMAGESETD_CLIENT_KEY"] == "/k"
    assert environment["IMAGESETD_REQUEST_TIMEOUT"] == "5s"
    assert "IMAGESETD_CA_FILE" not in environment


def test_what_is_not_said_is_left_to_the_hosts_environment():
    module = Module([(0, {"schema": 1}, "")])
    _client.Client(module).call(["status"])
    assert sorted(module.calls[0][1]) == ["LANGUAGE", "LC_ALL"]


def test_a_token_file_counts_for_more_than_a_token_of_the_environment():
    module = Module([(0, {"schema": 1}, "")], token_file="/t")
    _client.Client(module).call(["status"])
    assert module.calls[0][1]["IMAGESETD_TOKEN"] == ""


def test_a_binary_that_is_missing_is_named_with_the_remedy():
    with pytest.raises(_client.ClientError) as refused:
        _client.Client(Module(found=None))
    assert refused.value.code == "BINARY_MISSING"
    for word in ("binary_path", "/usr/local/bin", "imagesetd.mirror.install"):
        assert word in refused.value.message
    refused = refusal(Module([OSError(2, "No such file or directory")], binary_path="/x/imagesetd"), ["status"])
    assert refused.code == "BINARY_MISSING"
    assert refused.message.startswith("running /x/imagesetd: No such file or directory")


def test_an_error_keeps_its_words():
    error = dict(code="STALE_PLAN", grpc_code="FAILED_PRECONDITION", message="plan x is stale", details={"plan_id": "x"})
    refused = refusal(Module([(3, {"schema": 1, "error": error}, "")]), ["apply"], answers=(0, 3))
    assert (refused.code, refused.message) == ("STALE_PLAN", "plan x is stale")
    assert refused.more == dict(grpc_code="FAILED_PRECONDITION", exit_code=3, details={"plan_id": "x"})


@pytest.mark.parametrize(
    "answer, code, says",
    [
        ((0, "not json", "one\n\ntwo\n"), "NO_ANSWER", "one two"),
        ((101, "", ""), "NO_ANSWER", "exit code 101"),
        ((0, [], ""), "NO_ANSWER", "without an answer"),
        ((0, {"schema": 2}, ""), "SCHEMA_MISMATCH", "this imagesetd writes 2"),
        ((9, {"schema": 1}, "odd\n"), "UNEXPECTED", "exit code 9: odd"),
    ],
)
def test_what_is_no_answer_is_refused(answer, code, says):
    refused = refusal(Module([answer]), ["status"])
    assert refused.code == code
    assert says in refused.message


def test_failing_tells_all_that_is_known():
    class Failing(object):
        def fail_json(self, **said):
            self.said = said

    module = Failing()
    _client.fail(module, _client.ClientError("no", "X", exit_code=3, grpc_code=None), changed=False)
    assert module.said == dict(msg="no", error_code="X", exit_code=3, changed=False)
