# -*- coding: utf-8 -*-
# Copyright (c) imagesetd contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type


class ModuleDocFragment(object):

    DOCUMENTATION = r"""
options:
  endpoint:
    description:
      - Where the daemon listens, V(unix:///PATH), V(http://HOST:PORT) on the managed host itself, or V(https://HOST:PORT).
      - If not set, the environment variable E(IMAGESETD_ENDPOINT) of the managed host is used, else V(unix:///run/imagesetd/imagesetd.sock).
    type: str
  token:
    description:
      - A bearer token. It is handed to C(imagesetd) in its environment, never on a command line.
      - If neither this nor O(token_file) is set, the environment variables E(IMAGESETD_TOKEN_FILE) and E(IMAGESETD_TOKEN) of the managed
        host are used.
      - Ansible masks the token wherever it appears in results, so do not use one that is a common word.
    type: str
  token_file:
    description: A file on the managed host that holds the bearer token.
    type: path
  ca_file:
    description:
      - A PEM file on the managed host with the CA certificates that are trusted instead of the system's.
      - If not set, the environment variable E(IMAGESETD_CA_FILE) of the managed host is used.
    type: path
  client_cert:
    description:
      - A PEM file on the managed host with the client certificate.
      - If not set, the environment variable E(IMAGESETD_CLIENT_CERT) of the managed host is used.
    type: path
  client_key:
    description:
      - A PEM file on the managed host with the key of O(client_cert).
      - If not set, the environment variable E(IMAGESETD_CLIENT_KEY) of the managed host is used.
    type: path
  server_name:
    description:
      - The name that the daemon's certificate has to be for, where it is not the host of O(endpoint).
      - If not set, the environment variable E(IMAGESETD_SERVER_NAME) of the managed host is used.
    type: str
  request_timeout:
    description:
      - How many seconds the daemon may leave a request without an answer; then the task fails with RV(ignore:error_code=REQUEST_TIMED_OUT). What takes
        long, such as plans and runs, goes on for as long as the daemon gives signs of life, and else fails with
        RV(ignore:error_code=CONNECTION_LOST).
      - If not set, the environment variable E(IMAGESETD_REQUEST_TIMEOUT) of the managed host is used, such as V(90s), else it is 60.
    type: int
  binary_path:
    description:
      - The C(imagesetd) binary on the managed host.
      - If not set, it is looked for in E(PATH), then in C(/usr/local/bin) and C(/opt/imagesetd/bin).
    type: path
requirements:
  - The C(imagesetd) binary on the managed host; no Python package is needed.
notes:
  - Certificates are always verified.
  - All files and environment variables are those of the managed host.
"""
