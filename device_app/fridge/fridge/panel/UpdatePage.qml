// SPDX-License-Identifier: Apache-2.0
// Asks the owner for an update, and shows one that is being installed.
import QtQuick

Sheet {
    id: page

    required property var fridge
    required property string face

    readonly property bool asks: fridge.offer.ask

    objectName: "update-page"
    name: page.asks ? qsTr("New software is ready") : qsTr("Installing new software")

    Column {
        x: 48
        y: 28
        width: parent.width - 96
        spacing: 12

        Text {
            objectName: "update-title"
            text: page.name
            color: page.theme.ink
            font.family: page.face
            font.pixelSize: 42
        }
        Text {
            objectName: "update-version"
            Accessible.role: Accessible.StaticText
            Accessible.name: text
            text: qsTr("Version %1").arg(page.fridge.offer.version)
            color: page.theme.cold
            font.family: page.face
            font.pixelSize: page.theme.title
        }
        Text {
            objectName: "update-notes"
            Accessible.role: Accessible.StaticText
            Accessible.name: text
            visible: page.asks
            width: parent.width
            text: page.fridge.offer.notes
            textFormat: Text.PlainText
            color: page.theme.ink
            font.family: page.face
            font.pixelSize: page.theme.body
            wrapMode: Text.Wrap
            maximumLineCount: 4
            elide: Text.ElideRight
        }
        Text {
            Accessible.role: Accessible.StaticText
            Accessible.name: text
            width: parent.width
            text: qsTr("This panel goes dark for a few seconds. Your food stays cold all the while.")
            color: page.theme.soft
            font.family: page.face
            font.pixelSize: page.theme.body
            wrapMode: Text.Wrap
        }
    }

    Row {
        visible: page.asks
        anchors.bottom: parent.bottom
        anchors.bottomMargin: 32
        anchors.horizontalCenter: parent.horizontalCenter
        spacing: 32

        Choice {
            objectName: "update-later"
            theme: page.theme
            face: page.face
            label: qsTr("Later")
            onUsed: page.fridge.answer(false)
        }
        Choice {
            objectName: "update-install"
            theme: page.theme
            face: page.face
            main: true
            label: qsTr("Install now")
            onUsed: page.fridge.answer(true)
        }
    }
}
