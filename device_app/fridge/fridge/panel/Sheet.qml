// SPDX-License-Identifier: Apache-2.0
// A page over the panel. Nothing below it can be touched through it, and an alarm is never covered by it.
import QtQuick

Rectangle {
    id: sheet

    required property Theme theme
    required property string name

    color: theme.ground
    Accessible.role: Accessible.Dialog
    Accessible.name: name

    MouseArea { anchors.fill: parent }
}
