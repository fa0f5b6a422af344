# SPDX-License-Identifier: Apache-2.0
"""Times and limits of the appliance, each with its source.

Degrees Celsius and seconds. "manual" sources are household and commercial refrigerator manuals, listed in README.md;
"ours" says that none was found and why we chose it.
"""

from __future__ import annotations

SETPOINT_MIN, SETPOINT_MAX, SETPOINT_FACTORY = 2, 8, 4  # Bosch/Siemens style manual
SETTING_SECONDS = 5.0  # ours: how long the set temperature blinks after a tap
SUPERCOOL_TARGET = 2.0  # Blaupunkt 5FS300SE0: quick-cool holds 2 C
SUPERCOOL_SECONDS = 6 * 3600.0  # ours: ends by itself, so that a forgotten one costs little
HOLIDAY_TARGET = 15.0  # ours: an empty, shut cabinet grows no mould and uses little (vacation mode: Blaupunkt)

LONG_PRESS_SECONDS = 3.0  # Blaupunkt 5FS300SE0: lock 3 s
STUCK_SECONDS = 30.0  # ours: no finger stays that long; something leans on the glass
REFUSED_SECONDS = 2.0  # ours: how long the lock is pointed at after a refused press

DOOR_ALARM_SECONDS = 120.0  # Blaupunkt 5FS300SE0: buzzer after 2 min
LIGHT_SECONDS = 600.0  # ours: a lamp that burns on in a cabinet left open heats the food
WARM_LIMIT = 10.0  # ours: food is not safe for long above
WARM_SECONDS = 30 * 60.0  # ours: longer than a big shopping takes to be put in
HOLIDAY_WARM_MARGIN = 5.0  # ours
PULL_DOWN_SECONDS = 12 * 3600.0  # ours: a first pull-down that takes longer is a fault, and no longer excused
COLD_LIMIT = -2.0  # ours: food freezes
COLD_SECONDS = 15 * 60.0  # ours: a relay that sticks shows like that
OUTAGE_LIMIT = 8.0  # ours: as warm as a fridge may be set
SENSOR_LOST_SECONDS = 30.0  # ours
RECALL_SECONDS = 5.0  # Gaggenau RF411: ALARM shows the warmest temperature for 5 s

HYSTERESIS = 1.5  # ours, above the target before the compressor starts (NEXO CMS100: 4 K in all)
HYSTERESIS_LOW = 0.5  # ours, below the target before it stops
MIN_OFF_SECONDS = 180.0  # NEXO CMS100, LAE BD1-28: rest 3 min
MIN_ON_SECONDS = 150.0  # Hoshizaki RH1: 2.5 min
RESTART_DELAY_SECONDS = 180.0  # ECR UNHV: 3 min after an outage, pressures must level out
BLIND_ON_SECONDS, BLIND_OFF_SECONDS = 240.0, 360.0  # LAE BD1-28: 4 min on, 6 min off without a probe

DIM_SECONDS = 60.0  # ours
BRIGHT, DIM, DARK = 100, 25, 5  # ours: percent, in use, unattended, and off
