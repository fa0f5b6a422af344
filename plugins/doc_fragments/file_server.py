# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every module that speaks to a file server: where it is, who we are to it, whom to trust."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for ``extends_documentation_fragment: iotops.fleet.file_server``."""

    DOCUMENTATION = r"""
options:
  url:
    description: >-
      Where it is: C(ftp://host:port/path), C(ftps://) (explicit TLS with session reuse), C(sftp://) or C(file:///path).
    type: str
    required: true
  username:
    description: User name at the server.
    type: str
    default: anonymous
  password:
    description: Password at the server.
    type: str
    default: ""
  ca_file:
    description: PEM of the authority behind the server's certificate, for FTPS with a private one.
    type: path
  host_key:
    description: The server's public key line, needed for SFTP.
    type: str
  private_key:
    description: File of an OpenSSH key to log in with over SFTP; O(password) is its passphrase then.
    type: path
  timeout:
    description: Seconds to wait for one answer of the server.
    type: int
    default: 30
"""
