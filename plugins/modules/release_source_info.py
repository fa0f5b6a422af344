#!/usr/bin/python
# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_source_info
short_description: Tell which release a Git checkout makes
version_added: 0.1.0
description:
  - Derives the release's id and version from the commit that is checked out, so that the same commit always makes
    the same release.
  - The version is the base version's first two numbers and the count of commits, for example V(0.1.57); the id adds
    the commit, V(0.1.57-g1a2b3c4).
author: The iotops.fleet project (@iotops-fleet)
options:
  path:
    description: The checkout.
    type: path
    required: true
  base_version:
    description: Version whose first two numbers the release takes.
    type: str
    required: true
  version:
    description: Overrides the version, for builds whose checkout has no full history.
    type: str
    default: ""
  allow_dirty:
    description:
      - Release tracked files as they stand, though they differ from the commit. The version says so.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Reads only.
  idempotent:
    support: full
    description: Reads only.
"""

EXAMPLES = r"""
- name: Read the release's name from Git
  iotops.fleet.release_source_info:
    path: "{{ playbook_dir }}/.."
    base_version: 0.1.0
  register: source
"""

RETURN = r"""
release:
  description: What the checkout makes.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the release.
      type: str
    version:
      description: Version of the release.
      type: str
    commit:
      description: The commit's full hash.
      type: str
    committed_at:
      description: Time of the commit, UTC, ISO 8601.
      type: str
    dirty:
      description: Whether tracked files differ from the commit.
      type: bool
    tree:
      description: What to export, a commit that holds the released files.
      type: str
    subject:
      description: First line of the commit's message.
      type: str
untracked:
  description: Untracked files, which are never released.
  returned: success
  type: list
  elements: str
"""

import re
import subprocess
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class SourceError(Exception):
    """The checkout makes no release; the text says why and what to do."""


class Checkout:
    """A Git work tree."""

    def __init__(self, path: str) -> None:
        self.path = path

    def release(self, base_version: str, version: str, allow_dirty: bool) -> dict[str, Any]:
        """The release that the checkout makes.

        Raises:
            SourceError: no Git, no commit, shallow, or dirty without `allow_dirty`.
        """
        commit, committed, subject = self._git("log", "-1", "--format=%H%n%ct%n%s").split("\n", 2)
        changed = self._git("status", "--porcelain", "--untracked-files=no").splitlines()
        if changed and not allow_dirty:
            names = ", ".join(line[3:] for line in changed[:5]) + (" ..." if len(changed) > 5 else "")
            raise SourceError(
                f"{len(changed)} tracked files differ from commit {commit[:7]} ({names}): "
                "commit them, or release them as they stand with -e release_allow_dirty=true"
            )
        tree = self._git("stash", "create").strip() or commit if changed else commit
        number = version or self._version(base_version)
        if changed:
            digest = self._git("rev-parse", f"{tree}^{{tree}}")[:8]
            number = f"{number}+dirty.{digest}"
        when = datetime.fromtimestamp(int(committed), UTC).isoformat().replace("+00:00", "Z")
        return {
            "id": f"{number.replace('+', '-')}-g{commit[:7]}",
            "version": number,
            "commit": commit,
            "committed_at": when,
            "dirty": bool(changed),
            "tree": tree,
            "subject": subject.strip(),
        }

    def untracked(self) -> list[str]:
        """Files that Git neither tracks nor ignores."""
        return self._git("ls-files", "--others", "--exclude-standard").splitlines()

    def _version(self, base: str) -> str:
        match = re.match(r"(\d+)\.(\d+)", base)
        if not match:
            raise SourceError(f"base version '{base}' does not begin with two numbers")
        if self._git("rev-parse", "--is-shallow-repository").strip() == "true":
            raise SourceError(
                "the checkout is shallow, so its commits cannot be counted: fetch the full history "
                "(git fetch --unshallow) or give -e release_version=..."
            )
        return f"{match[1]}.{match[2]}.{self._git('rev-list', '--count', 'HEAD').strip()}"

    def _git(self, *words: str) -> str:
        command = ["git", "-c", "safe.directory=*", "-C", self.path, *words]
        try:
            # AnsibleModule.run_command has no time limit
            # pylint: disable-next=ansible-bad-function
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise SourceError(f"git did not run in {self.path}: {exc}") from exc
        if done.returncode != 0:
            raise SourceError(f"git {words[0]} in {self.path}: {done.stderr.strip().splitlines()[-1:] or 'failed'}")
        return done.stdout.strip("\n")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "base_version": {"type": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "allow_dirty": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    p = module.params
    checkout = Checkout(p["path"])
    try:
        release, untracked = checkout.release(p["base_version"], p["version"], p["allow_dirty"]), checkout.untracked()
    except SourceError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, release=release, untracked=untracked)


if __name__ == "__main__":
    main()
