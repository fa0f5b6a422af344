// SPDX-License-Identifier: Apache-2.0
// The whole panel, 800 by 480: temperature on the left, what is set on the right, four buttons below.
import QtQuick

Rectangle {
    id: panel

    required property var fridge

    readonly property color ink: "#eaf2f8"
    readonly property color soft: "#8fa3b5"
    readonly property color ice: "#5cc8ff"
    readonly property color warn: "#ffb02e"
    readonly property color bad: "#ff5a4f"

    width: 800
    height: 480
    color: "#0b1218"

    FontLoader { id: light; source: "../fonts/Roboto-Light.ttf" }
    FontLoader { id: regular; source: "../fonts/Roboto-Regular.ttf" }

    Rectangle {
        anchors.fill: parent
        gradient: Gradient {
            GradientStop { position: 0.0; color: "#132231" }
            GradientStop { position: 0.72; color: "#0b1218" }
        }
    }

    // ---- the temperature --------------------------------------------------------------------------------------
    Item {
        id: reading
        visible: panel.fridge.power
        x: 48
        y: 34
        width: 380
        height: panel.fridge.alarm === "" ? 270 : 216

        Text {
            id: degrees
            objectName: "temperature"
            Accessible.role: Accessible.StaticText
            Accessible.name: qsTr("Temperature inside")
            Accessible.description: qsTr("%1 degrees Celsius").arg(text)
            anchors.verticalCenter: parent.verticalCenter
            text: panel.fridge.temperature
            color: panel.fridge.alarm === "warm" ? panel.warn : panel.ink
            font.family: light.name
            font.pixelSize: panel.fridge.alarm === "" ? 232 : 176
            font.weight: Font.Light
        }

        Text {
            anchors.left: degrees.right
            anchors.leftMargin: 10
            anchors.top: degrees.top
            anchors.topMargin: degrees.font.pixelSize * 0.19
            text: "°C"
            color: panel.soft
            font.family: light.name
            font.pixelSize: 58
            font.weight: Font.Light
        }
    }

    Text {
        objectName: "off"
        visible: !panel.fridge.power
        Accessible.role: Accessible.StaticText
        Accessible.name: qsTr("Switched off")
        anchors.horizontalCenter: parent.horizontalCenter
        y: 130
        text: qsTr("Off")
        color: panel.soft
        font.family: light.name
        font.pixelSize: 96
        font.weight: Font.Light
    }

    // ---- what is set ------------------------------------------------------------------------------------------
    Column {
        visible: panel.fridge.power
        x: 486
        y: 62
        spacing: 16

        Row {
            spacing: 14
            Icon { name: "target"; tint: panel.soft; anchors.verticalCenter: parent.verticalCenter }
            Text {
                objectName: "setpoint"
                Accessible.role: Accessible.StaticText
                Accessible.name: qsTr("Set temperature")
                Accessible.description: text
                text: qsTr("Set to %1 °C").arg(panel.fridge.setpoint)
                color: panel.ink
                font.family: regular.name
                font.pixelSize: 30
            }
        }

        Row {
            spacing: 14
            Icon { name: "snow"; tint: panel.fridge.cooling ? panel.ice : "#33475a"; anchors.verticalCenter: parent.verticalCenter }
            Text {
                objectName: "cooling"
                Accessible.role: Accessible.StaticText
                Accessible.name: text
                text: panel.fridge.cooling ? qsTr("Cooling") : qsTr("Resting")
                color: panel.fridge.cooling ? panel.ice : panel.soft
                font.family: regular.name
                font.pixelSize: 26
            }
        }

        Row {
            visible: panel.fridge.supercool
            spacing: 14
            Icon { name: "bolt"; tint: panel.ice; anchors.verticalCenter: parent.verticalCenter }
            Text {
                objectName: "supercool-shown"
                Accessible.role: Accessible.StaticText
                Accessible.name: text
                text: qsTr("SuperCool")
                color: panel.ice
                font.family: regular.name
                font.pixelSize: 26
            }
        }

        Row {
            visible: panel.fridge.locked
            spacing: 14
            Icon { name: "lock"; tint: panel.warn; anchors.verticalCenter: parent.verticalCenter }
            Text {
                objectName: "locked-shown"
                Accessible.role: Accessible.StaticText
                Accessible.name: text
                text: qsTr("Locked")
                color: panel.warn
                font.family: regular.name
                font.pixelSize: 26
            }
        }
    }

    // ---- alarm ------------------------------------------------------------------------------------------------
    Rectangle {
        objectName: "banner"
        visible: panel.fridge.alarm !== ""
        Accessible.role: Accessible.AlertMessage
        Accessible.name: panel.fridge.alarmTitle
        Accessible.description: panel.fridge.alarmText
        x: 32
        y: 262
        width: 736
        height: 78
        radius: 14
        color: panel.fridge.silenced ? "#3a2a14" : "#4a1512"
        border.width: 2
        border.color: panel.fridge.silenced ? panel.warn : panel.bad

        Icon {
            id: sign
            x: 22
            anchors.verticalCenter: parent.verticalCenter
            name: "warning"
            tint: panel.fridge.silenced ? panel.warn : panel.bad
        }

        Column {
            anchors.left: sign.right
            anchors.leftMargin: 18
            anchors.verticalCenter: parent.verticalCenter
            Text {
                objectName: "banner-title"
                text: panel.fridge.alarmTitle
                color: panel.ink
                font.family: regular.name
                font.pixelSize: 26
            }
            Text {
                text: panel.fridge.alarmText
                color: panel.ink
                opacity: 0.8
                font.family: regular.name
                font.pixelSize: 18
            }
        }
    }

    // ---- buttons ----------------------------------------------------------------------------------------------
    Row {
        x: 32
        y: 356
        spacing: 16

        PanelButton {
            objectName: "power"
            icon: "power"
            label: qsTr("Power")
            hint: panel.fridge.power ? qsTr("Hold three seconds to switch off") : qsTr("Tap to switch on")
            lit: panel.fridge.power
            dimmed: panel.fridge.locked
            fontName: regular.name
            onUsed: hold => panel.fridge.press("power", hold)
        }
        PanelButton {
            objectName: "temp"
            icon: "target"
            label: qsTr("Temperature")
            hint: qsTr("Tap to set it one degree colder, from 2 on to 8 again")
            dimmed: panel.fridge.locked || !panel.fridge.power
            fontName: regular.name
            onUsed: hold => panel.fridge.press("temp", hold)
        }
        PanelButton {
            objectName: "supercool"
            icon: "bolt"
            label: qsTr("SuperCool")
            hint: qsTr("Tap to cool fast for six hours")
            lit: panel.fridge.supercool
            dimmed: panel.fridge.locked || !panel.fridge.power
            fontName: regular.name
            onUsed: hold => panel.fridge.press("supercool", hold)
        }
        PanelButton {
            objectName: "alarm"
            icon: panel.fridge.locked ? "lock" : "bell"
            label: panel.fridge.locked ? qsTr("Unlock") : qsTr("Alarm")
            hint: qsTr("Tap to silence an alarm, hold three seconds to lock or unlock")
            lit: panel.fridge.locked
            fontName: regular.name
            onUsed: hold => panel.fridge.press("alarm", hold)
        }
    }

    Text {
        objectName: "version"
        Accessible.role: Accessible.StaticText
        Accessible.name: qsTr("Software version")
        Accessible.description: panel.fridge.version
        anchors.right: parent.right
        anchors.rightMargin: 34
        y: 16
        text: panel.fridge.version
        color: panel.soft
        font.family: regular.name
        font.pixelSize: 16
    }

    Text {
        objectName: "update-progress"
        visible: panel.fridge.updateProgress >= 0
        Accessible.role: Accessible.StaticText
        Accessible.name: text
        x: 34
        y: 16
        text: qsTr("Fetching new software: %1 %").arg(panel.fridge.updateProgress)
        color: panel.soft
        font.family: regular.name
        font.pixelSize: 16
    }

    UpdatePage {
        anchors.fill: parent
        fridge: panel.fridge
        ink: panel.ink
        soft: panel.soft
        ice: panel.ice
        face: regular.name
    }
}
