# Copyright: (c) 2026, The iotops.fleet project
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes that the collection's modules declare: check mode, diff mode, idempotence."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments for ``extends_documentation_fragment: iotops.fleet.attributes[.part]``."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff
      mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
"""

    # Use together with the standard fragment
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""

    # Use together with the standard fragment, where nothing is to be added
    FULL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    ACTIONGROUP_IOTHUB = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/iotops.fleet.iothub) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - iotops.fleet.iothub
"""

    ACTIONGROUP_PROVISIONING = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/iotops.fleet.provisioning) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - iotops.fleet.provisioning
"""
