// SPDX-License-Identifier: Apache-2.0
// A large button of a page. `chosen` is shown by a frame and a mark, not by colour alone.
import QtQuick

Rectangle {
    id: choice

    required property Theme theme
    required property string face
    required property string label
    property bool main: false
    property bool chosen: false

    signal used()

    Accessible.role: Accessible.Button
    Accessible.name: label
    Accessible.checkable: true
    Accessible.checked: chosen
    Accessible.focusable: true
    Accessible.onPressAction: used()

    width: 320
    height: 88
    radius: 18
    color: main ? (touch.pressed ? theme.soft : theme.cold) : touch.pressed ? theme.buttonDown : chosen ? theme.buttonLit : theme.button
    border.width: chosen ? 3 : main ? 0 : 2
    border.color: chosen ? theme.cold : theme.edge

    Text {
        anchors.centerIn: parent
        text: (choice.chosen ? "✓ " : "") + choice.label
        color: choice.main ? choice.theme.onCold : choice.theme.ink
        font.family: choice.face
        font.pixelSize: choice.theme.body + 4
    }
    TapHandler {
        id: touch
        gesturePolicy: TapHandler.ReleaseWithinBounds
        onTapped: choice.used()
    }
}
