// SPDX-License-Identifier: Apache-2.0
// The most important alarm: what is wrong, what to do; how many more there are. Silenced is told by an icon as well.
import QtQuick

Rectangle {
    id: banner

    required property var fridge
    required property Theme theme
    required property string face

    readonly property string alarm: fridge.shown.alarms.length > 0 ? fridge.shown.alarms[0] : ""
    readonly property bool silenced: fridge.shown.silenced
    readonly property string title: {
        switch (alarm) {
        case "sensor": return qsTr("Temperature sensor lost")
        case "outage": return qsTr("The power was out")
        case "warm": return qsTr("It is too warm inside")
        case "cold": return qsTr("It is too cold inside")
        case "door": return qsTr("The door is open")
        case "button": return qsTr("A button is stuck")
        default: return ""
        }
    }
    readonly property string advice: {
        switch (alarm) {
        case "sensor": return qsTr("Cooling goes on by the clock. Please call service.")
        case "outage": return qsTr("It got warm inside. Tap Alarm to see how warm, and check the food.")
        case "warm": return qsTr("Check the food, and that the door is shut.")
        case "cold": return qsTr("Food may freeze. Please call service if it goes on.")
        case "door": return qsTr("Please close it. Tap Alarm to silence.")
        case "button": return qsTr("Is something leaning on the panel? It is ignored until then.")
        default: return ""
        }
    }

    objectName: "banner"
    visible: alarm !== ""
    Accessible.role: Accessible.AlertMessage
    Accessible.name: title
    Accessible.description: advice
    radius: 14
    color: silenced ? theme.warnGround : theme.badGround
    border.width: 2
    border.color: silenced ? theme.warn : theme.bad

    Icon {
        id: sign
        x: 22
        anchors.verticalCenter: parent.verticalCenter
        name: banner.alarm === "door" ? "door" : "warning"
        tint: banner.silenced ? banner.theme.warn : banner.theme.bad

        SequentialAnimation on opacity {
            running: banner.visible && banner.fridge.shown.sounding && !banner.fridge.still
            loops: Animation.Infinite
            alwaysRunToEnd: true
            PropertyAction { value: 1 }
            PauseAnimation { duration: 500 }
            PropertyAction { value: 0.15 }
            PauseAnimation { duration: 500 }
            PropertyAction { value: 1 }
        }
    }

    Text {
        id: heading
        objectName: "banner-title"
        anchors.left: sign.right
        anchors.leftMargin: 18
        y: 8
        text: banner.title
        color: banner.theme.ink
        font.family: banner.face
        font.pixelSize: banner.theme.title - 2
    }
    Text {
        objectName: "banner-advice"
        anchors.left: heading.left
        anchors.right: more.left
        anchors.rightMargin: 8
        anchors.top: heading.bottom
        anchors.bottom: parent.bottom
        anchors.bottomMargin: 6
        verticalAlignment: Text.AlignVCenter
        text: banner.advice
        color: banner.theme.ink
        font.family: banner.face
        font.pixelSize: banner.theme.small
        // long advice in large text takes two lines, and a little less size where it must
        wrapMode: Text.Wrap
        fontSizeMode: Text.Fit
        minimumPixelSize: 15
        maximumLineCount: 2
    }

    Row {
        id: more
        anchors.right: parent.right
        anchors.rightMargin: 20
        anchors.verticalCenter: parent.verticalCenter
        spacing: 10
        Text {
            objectName: "banner-more"
            visible: banner.fridge.shown.alarms.length > 1
            anchors.verticalCenter: parent.verticalCenter
            text: qsTr("+%1 more").arg(banner.fridge.shown.alarms.length - 1)
            color: banner.theme.ink
            font.family: banner.face
            font.pixelSize: banner.theme.small
        }
        Icon {
            objectName: "banner-silenced"
            visible: banner.silenced
            name: "mute"
            tint: banner.theme.warn
        }
    }
}
