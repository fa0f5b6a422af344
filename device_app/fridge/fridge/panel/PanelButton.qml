// SPDX-License-Identifier: Apache-2.0
// One of the four: a tap and a three-second hold are two commands.
import QtQuick

Rectangle {
    id: button

    property string icon
    property string label
    property string hint
    property string fontName
    property bool lit: false
    property bool dimmed: false

    signal used(bool hold)

    Accessible.role: Accessible.Button
    Accessible.name: label
    Accessible.description: hint
    Accessible.onPressAction: used(false)

    width: 172
    height: 104
    radius: 16
    color: touch.pressed ? "#2c4256" : lit ? "#17344a" : "#16222d"
    border.width: 2
    border.color: touch.pressed || lit ? "#5cc8ff" : "#263848"
    scale: touch.pressed ? 0.97 : 1

    Icon {
        anchors.horizontalCenter: parent.horizontalCenter
        y: 18
        name: button.icon
        tint: button.dimmed ? "#4a5d6e" : button.lit ? "#5cc8ff" : "#dbe7f0"
    }

    Text {
        anchors.horizontalCenter: parent.horizontalCenter
        y: 66
        text: button.label
        color: button.dimmed ? "#5f7385" : "#dbe7f0"
        font.family: button.fontName
        font.pixelSize: 20
    }

    TapHandler {
        id: touch
        // a finger that slides off the button changes its mind
        gesturePolicy: TapHandler.ReleaseWithinBounds
        longPressThreshold: 3
        onTapped: button.used(false)
        onLongPressed: button.used(true)
    }
}
