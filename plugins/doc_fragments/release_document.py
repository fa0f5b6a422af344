# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the modules that write a document about a release, which is published beside its manifest."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment for ``extends_documentation_fragment: iotops.fleet.release_document``."""

    DOCUMENTATION = r"""
options:
  manifest:
    description: Manifest of the release.
    type: path
    required: true
  repository:
    description: Folder of the update repository.
    type: path
    required: true
  ring:
    description: Ring that the release is for.
    type: str
    required: true
  dest:
    description: File to write.
    type: path
    required: true
"""
