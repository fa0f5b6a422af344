// SPDX-License-Identifier: Apache-2.0
// Asks the owner for an update, over the panel: what is new, what happens, yes or later.
import QtQuick

Rectangle {
    id: page

    required property var fridge
    required property color ink
    required property color soft
    required property color ice
    required property string face

    objectName: "update-page"
    // an alarm is never covered by a question
    visible: page.fridge.updateAsked && page.fridge.alarm === ""
    color: "#0b1218"
    Accessible.role: Accessible.Dialog
    Accessible.name: qsTr("New software is ready")

    // nothing below may be touched through the page
    MouseArea { anchors.fill: parent }

    Column {
        x: 48
        y: 44
        width: parent.width - 96
        spacing: 18

        Text {
            objectName: "update-title"
            text: qsTr("New software is ready")
            color: page.ink
            font.family: page.face
            font.pixelSize: 42
        }
        Text {
            objectName: "update-version"
            text: qsTr("Version %1").arg(page.fridge.updateVersion)
            color: page.ice
            font.family: page.face
            font.pixelSize: 28
        }
        Text {
            objectName: "update-notes"
            width: parent.width
            text: page.fridge.updateNotes
            textFormat: Text.PlainText
            color: page.ink
            font.family: page.face
            font.pixelSize: 24
            wrapMode: Text.Wrap
            maximumLineCount: 4
            elide: Text.ElideRight
        }
        Text {
            width: parent.width
            text: qsTr("This panel goes dark for a few seconds. Your food stays cold all the while.")
            color: page.soft
            font.family: page.face
            font.pixelSize: 22
            wrapMode: Text.Wrap
        }
    }

    Row {
        anchors.bottom: parent.bottom
        anchors.bottomMargin: 36
        anchors.horizontalCenter: parent.horizontalCenter
        spacing: 32

        Choice {
            objectName: "update-later"
            label: qsTr("Later")
            yes: false
        }
        Choice {
            objectName: "update-install"
            label: qsTr("Install now")
            yes: true
        }
    }

    component Choice: Rectangle {
        id: choice

        required property string label
        required property bool yes

        Accessible.role: Accessible.Button
        Accessible.name: choice.label
        Accessible.onPressAction: page.fridge.answer(choice.yes)
        width: 320
        height: 92
        radius: 18
        color: choice.yes ? (touch.pressed ? "#3aa6dd" : page.ice) : (touch.pressed ? "#2a3b4b" : "#1b2a38")

        Text {
            anchors.centerIn: parent
            text: choice.label
            color: choice.yes ? "#06222f" : page.ink
            font.family: page.face
            font.pixelSize: 30
        }
        TapHandler {
            id: touch
            onTapped: page.fridge.answer(choice.yes)
        }
    }
}
