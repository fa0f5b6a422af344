# SPDX-License-Identifier: Apache-2.0
"""From the core's state to what stands on the panel."""

from __future__ import annotations

from .control import Alarm, Inputs, Outputs, State
from .seam import Shown


def showing(state: State, inputs: Inputs, outputs: Outputs) -> Shown:
    """What the core's last step looks like."""
    return Shown(
        power=state.power,
        # tenths, so that a probe's noise is no message
        air=None if inputs.air is None else round(inputs.air, 1),
        setpoint=state.setpoint,
        target=state.target,
        mode=str(state.mode),
        locked=state.locked,
        cooling=state.compressor,
        door=inputs.door_open,
        alarms=tuple(str(alarm) for alarm in Alarm if alarm in state.alarms),
        silenced=bool(state.alarms) and state.alarms == state.silenced,
        sounding=outputs.buzzer,
        setting=state.setting_until is not None,
        recall=state.warmest if state.recall_until is not None else None,
        refused=state.refused_until is not None,
        brightness=outputs.brightness,
    )
