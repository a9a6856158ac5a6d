# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""Runs imagesetd and reads the one JSON document that it prints. All that modules know of the daemon comes through here."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json

from ansible.module_utils.basic import AnsibleModule

# The shape of the documents that this collection understands.
SCHEMA = 1

# Where the binary is looked for besides PATH: a shell that is no login shell lacks them.
FOLDERS = ["/usr/local/bin", "/opt/imagesetd/bin"]

# Exit codes of imagesetd that come with an answer all the same.
DONE = 0
OTHER = 1
PRECONDITION = 3
AUTHENTICATION = 4
UNAVAILABLE = 5
PARTIAL = 6
TIMED_OUT = 7


def connection_options():
    """Returns the options that every module has."""
    return dict(
        endpoint=dict(type="str"),
        token=dict(type="str", no_log=True),
        token_file=dict(type="path", no_log=False),
        ca_file=dict(type="path"),
        client_cert=dict(type="path"),
        client_key=dict(type="path", no_log=False),
        server_name=dict(type="str"),
        request_timeout=dict(type="int"),
        binary_path=dict(type="path"),
    )


def main(run, options, exclusive=(), **more):
    """Runs a module with these options and those of the connection; an error ends it in the same way for all modules."""
    spec = connection_options()
    spec.update(options)
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_together=[("client_cert", "client_key")],
        mutually_exclusive=[("token", "token_file")] + list(exclusive),
        **more
    )
    try:
        run(module)
    except ClientError as error:
        fail(module, error)


class ClientError(Exception):
    """Why something could not be done: a sentence, a stable word for it, and what else is known."""

    def __init__(self, message, code, **more):
        super(ClientError, self).__init__(message)
        self.message = message
        self.code = code
        self.more = more


class Client(object):
    """Calls verbs of imagesetd."""

    def __init__(self, module):
        self.module = module
        self.binary = self._binary()

    def _binary(self):
        path = self.module.params["binary_path"]
        if path:
            return path
        found = self.module.get_bin_path("imagesetd", required=False, opt_dirs=FOLDERS)
        if not found:
            raise ClientError(
                "there is no imagesetd on this host, neither in PATH nor in %s; install it, as the role imagesetd.mirror.install does, or say "
                "with binary_path where else it is" % " or ".join(FOLDERS),
                "BINARY_MISSING",
            )
        return found

    def environment(self):
        """Returns what the binary reads of the connection. Secrets go this way alone: an argument shows in process lists."""
        params = self.module.params
        said = dict(LC_ALL="C.UTF-8", LANGUAGE="C.UTF-8")
        for option in ("endpoint", "token", "token_file", "ca_file", "client_cert", "client_key", "server_name"):
            if params.get(option):
                said["IMAGESETD_" + option.upper()] = params[option]
        if params.get("request_timeout") is not None:
            said["IMAGESETD_REQUEST_TIMEOUT"] = "%ds" % params["request_timeout"]
        # An option counts for more than what the host's environment says of the other.
        if params.get("token"):
            said["IMAGESETD_TOKEN_FILE"] = ""
        if params.get("token_file"):
            said["IMAGESETD_TOKEN"] = ""
        return said

    def call(self, verb, words=(), answers=(DONE,)):
        """Runs a verb with `--output json` and returns its exit code and document.

        `verb` holds the verb and its options; `words` are what users give, which may begin with a dash. An exit code that is not among
        `answers` is an error, also where it comes with a document.
        """
        command = [self.binary] + list(verb) + ["--output", "json"]
        if words:
            command += ["--"] + list(words)
        try:
            code, out, err = self.module.run_command(command, environ_update=self.environment(), handle_exceptions=False)
        except OSError as error:
            raise ClientError(
                "running %s: %s; binary_path says where imagesetd is" % (self.binary, error.strerror or error), "BINARY_MISSING"
            )
        document = read(out, err, code)
        if "error" in document:
            raise failure(document["error"], code)
        if code not in answers:
            raise ClientError("imagesetd %s ended with exit code %d: %s" % (" ".join(verb), code, last_words(err)), "UNEXPECTED", exit_code=code)
        return code, document


def read(out, err, code):
    """Reads the document on standard output."""
    try:
        document = json.loads(out)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ClientError(
            "imagesetd ended with exit code %d and without an answer in JSON: %s" % (code, last_words(err or out)), "NO_ANSWER", exit_code=code
        )
    schema = document.get("schema")
    if schema != SCHEMA:
        raise ClientError(
            "this version of the collection reads documents of schema %d, and this imagesetd writes %s; install the version of the collection "
            "that came with imagesetd" % (SCHEMA, schema),
            "SCHEMA_MISMATCH",
        )
    return document


def failure(error, code):
    """Turns the document's error into the exception."""
    message = error.get("message") or "imagesetd ended with exit code %d" % code
    return ClientError(
        message,
        error.get("code") or "UNEXPECTED",
        grpc_code=error.get("grpc_code"),
        exit_code=code,
        details=error.get("details") or {},
    )


def last_words(text):
    """Returns the end of a text as one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " ".join(lines[-3:])[-1000:] or "it said nothing"


def fail(module, error, **result):
    """Ends the module with an error, and what is known beside it."""
    result.update((key, value) for key, value in error.more.items() if value is not None)
    module.fail_json(msg=error.message, error_code=error.code, **result)
