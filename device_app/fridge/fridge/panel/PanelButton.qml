// SPDX-License-Identifier: Apache-2.0
// One of the four. It tells of fingers only; what is a tap and what a long press, the core decides.
import QtQuick

Rectangle {
    id: button

    required property Theme theme
    required property string face
    required property string icon
    required property string label
    required property string hint
    property bool lit: false
    property bool dimmed: false

    // down, up or away
    signal finger(string what)

    Accessible.role: Accessible.Button
    Accessible.name: label
    Accessible.description: hint
    Accessible.focusable: true
    Accessible.onPressAction: {
        finger("down")
        finger("up")
    }

    width: 172
    height: 104
    radius: 16
    color: touch.pressed ? theme.buttonDown : lit ? theme.buttonLit : theme.button
    border.width: 2
    border.color: touch.pressed || lit ? theme.cold : theme.edge
    scale: touch.pressed ? 0.97 : 1

    Icon {
        anchors.horizontalCenter: parent.horizontalCenter
        y: 16
        name: button.icon
        tint: button.dimmed ? button.theme.faint : button.lit ? button.theme.cold : button.theme.ink
    }

    Text {
        anchors.horizontalCenter: parent.horizontalCenter
        y: 64
        text: button.label
        color: button.dimmed ? button.theme.soft : button.theme.ink
        font.family: button.face
        font.pixelSize: button.theme.label
    }

    TapHandler {
        id: touch
        // a finger that slides off the button changes its mind
        gesturePolicy: TapHandler.ReleaseWithinBounds
        longPressThreshold: 0
        property bool told: false
        onPressedChanged: if (pressed) {
            told = true
            button.finger("down")
        }
        onTapped: {
            told = false
            button.finger("up")
        }
        onCanceled: if (told) {
            told = false
            button.finger("away")
        }
    }
}
