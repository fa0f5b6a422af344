# SPDX-License-Identifier: GPL-3.0-or-later
"""That nothing but the app is on the screen.

A container has neither screen nor udev: what can be seen here is what systemd, logind and udev read; the app on a real
kernel's screen is `make kiosk-test`.
"""

from __future__ import annotations

from typing import Any


def test_no_login_waits_on_the_screen_and_none_can_be_started(host: Any) -> None:
    assert "masked" in host.run("systemctl start getty@tty1.service").stderr


def test_no_key_opens_a_console_or_ends_the_device(host: Any) -> None:
    said = host.check_output(
        "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager "
        "NAutoVTs HandlePowerKey HandleLidSwitch IdleAction"
    )
    assert said.split("\n") == ["u 0", 's "ignore"', 's "ignore"', 's "ignore"']


def test_the_kernel_neither_blanks_nor_talks_and_keeps_its_other_parameters(host: Any) -> None:
    lines = host.file("/boot/firmware/cmdline.txt").content_string.splitlines()
    assert lines == [
        "console=tty1 root=PARTUUID=f41d6e01-02 rootwait quiet consoleblank=0 vt.global_cursor_default=0 logo.nologo "
        "loglevel=3"
    ]


def test_the_apps_unit_reaches_screen_touch_and_pins_only(host: Any) -> None:
    shown = host.check_output("systemctl show -p DevicePolicy -p DeviceAllow -p ActiveState -p Conflicts fridge-app")
    assert "DevicePolicy=closed" in shown
    for device in ("char-drm", "char-fb", "char-input", "char-tty", "char-gpiochip"):
        assert f"DeviceAllow={device} rw" in shown
    assert "ActiveState=active" in shown
    assert "getty@tty1.service" in shown


def test_the_rules_are_what_udev_understands(host: Any) -> None:
    host.check_output("apt-get update -qq && apt-get install -qq -y --no-install-recommends udev >/dev/null 2>&1")
    said = host.run("udevadm verify --resolve-names=late /etc/udev/rules.d")
    assert said.rc == 0, said.stdout + said.stderr
    assert "Success: 1" in said.stdout


def test_the_console_is_cleared_at_boot_on_a_device(host: Any) -> None:
    assert host.service("kiosk-console").is_enabled
    host.check_output("systemctl start kiosk-console")
    assert "ConditionResult=no" in host.check_output("systemctl show -p ConditionResult kiosk-console")
