// SPDX-License-Identifier: Apache-2.0
// The whole panel, 800 by 480: temperature on the left, what is set on the right, four buttons below.
import QtQuick

Rectangle {
    id: panel

    required property var fridge

    readonly property var shown: fridge.shown
    readonly property bool alarmed: shown.alarms.length > 0
    property bool settingsOpen: false

    width: 800
    height: 480
    color: look.ground
    focus: true

    // on a desk: the keys 1 to 4 are the four buttons
    Keys.onPressed: event => key(event, "down")
    Keys.onReleased: event => key(event, "up")

    function key(event, finger) {
        const button = ["power", "temp", "supercool", "alarm"][event.key - Qt.Key_1]
        if (button !== undefined && !event.isAutoRepeat)
            fridge.touch(button, finger)
    }

    Theme {
        id: look
        night: panel.fridge.night
        large: panel.fridge.choices.large_text
    }

    FontLoader { id: light; source: "../fonts/Roboto-Light.ttf" }
    FontLoader { id: regular; source: "../fonts/Roboto-Regular.ttf" }

    Connections {
        target: panel.fridge
        function onMenu_asked() { panel.settingsOpen = true }
    }

    Rectangle {
        anchors.fill: parent
        gradient: Gradient {
            GradientStop { position: 0.0; color: look.sky }
            GradientStop { position: 0.72; color: look.ground }
        }
    }

    // ---- the temperature --------------------------------------------------------------------------------------
    Item {
        id: reading
        visible: panel.shown.power
        x: 48
        y: 34
        width: 420
        height: panel.alarmed ? 216 : 270

        readonly property bool recalled: panel.shown.recall !== null && panel.shown.recall !== undefined

        Text {
            id: degrees
            objectName: "temperature"
            Accessible.role: Accessible.StaticText
            Accessible.name: caption.text
            Accessible.description: qsTr("%1 degrees Celsius").arg(text)
            anchors.verticalCenter: parent.verticalCenter
            text: {
                if (reading.recalled)
                    return panel.shown.recall.toFixed(0)
                if (panel.shown.setting)
                    return panel.shown.setpoint
                const air = panel.shown.air
                return air === null || air === undefined ? "--" : air.toFixed(0)
            }
            color: panel.shown.setting ? look.cold : reading.recalled || panel.shown.alarms.includes("warm") ? look.warn : look.ink
            font.family: light.name
            font.pixelSize: panel.alarmed ? 168 : 224
            font.weight: Font.Light

            // the set temperature blinks while it is being set
            SequentialAnimation on opacity {
                running: panel.shown.setting && !panel.fridge.still
                loops: Animation.Infinite
                alwaysRunToEnd: true
                PropertyAction { value: 1 }
                PauseAnimation { duration: 600 }
                PropertyAction { value: 0.2 }
                PauseAnimation { duration: 300 }
                PropertyAction { value: 1 }
            }
        }

        Text {
            anchors.left: degrees.right
            anchors.leftMargin: 10
            anchors.top: degrees.top
            anchors.topMargin: degrees.font.pixelSize * 0.19
            text: "°C"
            color: look.soft
            font.family: light.name
            font.pixelSize: 58
            font.weight: Font.Light
        }

        Text {
            id: caption
            objectName: "temperature-caption"
            anchors.left: degrees.right
            anchors.leftMargin: 14
            anchors.bottom: degrees.bottom
            anchors.bottomMargin: degrees.font.pixelSize * 0.22
            text: reading.recalled ? qsTr("Warmest") : panel.shown.setting ? qsTr("Set to") : qsTr("Inside")
            color: panel.shown.setting ? look.cold : reading.recalled ? look.warn : look.soft
            font.family: regular.name
            font.pixelSize: look.body
        }
    }

    Column {
        objectName: "off"
        visible: !panel.shown.power
        Accessible.role: Accessible.StaticText
        Accessible.name: qsTr("Switched off")
        anchors.horizontalCenter: parent.horizontalCenter
        y: 110
        spacing: 8
        Text {
            anchors.horizontalCenter: parent.horizontalCenter
            text: qsTr("Off")
            color: look.soft
            font.family: light.name
            font.pixelSize: 96
            font.weight: Font.Light
        }
        Text {
            anchors.horizontalCenter: parent.horizontalCenter
            text: qsTr("It does not cool. Tap Power to switch on.")
            color: look.soft
            font.family: regular.name
            font.pixelSize: look.body
        }
    }

    // ---- what is set ------------------------------------------------------------------------------------------
    component Fact: Row {
        id: fact

        required property string icon
        required property string name
        required property string text
        property color tint: look.ink
        property color words: tint

        spacing: 14
        Icon { name: fact.icon; tint: fact.tint; anchors.verticalCenter: parent.verticalCenter }
        Text {
            objectName: fact.name
            Accessible.role: Accessible.StaticText
            Accessible.name: text
            anchors.verticalCenter: parent.verticalCenter
            width: Math.min(implicitWidth, 252)
            fontSizeMode: Text.HorizontalFit
            minimumPixelSize: 16
            text: fact.text
            color: fact.words
            font.family: regular.name
            font.pixelSize: look.title - 2
        }
    }

    Column {
        visible: panel.shown.power
        x: 470
        y: panel.alarmed ? 48 : 62
        spacing: panel.alarmed ? 8 : 14

        Fact {
            icon: "target"
            name: "setpoint"
            text: qsTr("Set to %1 °C").arg(panel.shown.target.toFixed(0))
            tint: look.soft
            words: look.ink
        }
        Fact {
            icon: "snow"
            name: "cooling"
            text: panel.shown.cooling ? qsTr("Cooling") : qsTr("Resting")
            tint: panel.shown.cooling ? look.cold : look.faint
            words: panel.shown.cooling ? look.cold : look.soft
        }
        Fact {
            visible: panel.shown.mode === "supercool"
            icon: "bolt"
            name: "supercool-shown"
            text: qsTr("SuperCool")
            tint: look.cold
        }
        Fact {
            visible: panel.shown.mode === "holiday"
            icon: "suitcase"
            name: "holiday-shown"
            text: qsTr("Holiday: keep empty")
            tint: look.warn
        }
        Fact {
            visible: panel.shown.locked
            icon: "lock"
            name: "locked-shown"
            text: panel.shown.refused ? qsTr("Locked: hold Unlock") : qsTr("Locked")
            tint: look.warn
        }
    }

    AlarmBanner {
        fridge: panel.fridge
        theme: look
        face: regular.name
        x: 32
        y: 252
        width: 736
        height: 88
    }

    // ---- buttons ----------------------------------------------------------------------------------------------
    Row {
        x: 32
        y: 356
        spacing: 16

        PanelButton {
            objectName: "power"
            theme: look
            face: regular.name
            icon: "power"
            label: qsTr("Power")
            hint: panel.shown.power ? qsTr("Hold three seconds to switch off") : qsTr("Tap to switch on")
            lit: panel.shown.power
            dimmed: panel.shown.locked
            onFinger: what => panel.fridge.touch("power", what)
        }
        PanelButton {
            objectName: "temp"
            theme: look
            face: regular.name
            icon: "target"
            label: qsTr("Temperature")
            hint: qsTr("Tap to set it one degree colder, from 2 on to 8 again. Hold three seconds for settings")
            lit: panel.shown.setting
            dimmed: panel.shown.locked || !panel.shown.power
            onFinger: what => panel.fridge.touch("temp", what)
        }
        PanelButton {
            objectName: "supercool"
            theme: look
            face: regular.name
            icon: panel.shown.mode === "holiday" ? "suitcase" : "bolt"
            label: panel.shown.mode === "holiday" ? qsTr("Holiday") : qsTr("SuperCool")
            hint: qsTr("Tap to cool fast for six hours. Hold three seconds for holiday")
            lit: panel.shown.mode !== "normal"
            dimmed: panel.shown.locked || !panel.shown.power
            onFinger: what => panel.fridge.touch("supercool", what)
        }
        PanelButton {
            objectName: "alarm"
            theme: look
            face: regular.name
            icon: panel.shown.locked ? "lock" : "bell"
            label: panel.shown.locked ? qsTr("Unlock") : qsTr("Alarm")
            hint: qsTr("Tap to silence an alarm, hold three seconds to lock or unlock")
            lit: panel.shown.locked
            onFinger: what => panel.fridge.touch("alarm", what)
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
        color: look.soft
        font.family: regular.name
        font.pixelSize: 16
    }

    Text {
        objectName: "update-progress"
        visible: panel.fridge.offer.state === "downloading"
        Accessible.role: Accessible.StaticText
        Accessible.name: text
        x: 34
        y: 16
        text: qsTr("Fetching new software: %1 %").arg(panel.fridge.offer.progress)
        color: look.soft
        font.family: regular.name
        font.pixelSize: 16
    }

    // pages are made when they are wanted: the first frame comes sooner without them. No page covers an alarm
    Loader {
        anchors.fill: parent
        active: panel.settingsOpen && !panel.alarmed
        sourceComponent: SettingsPage {
            theme: look
            fridge: panel.fridge
            face: regular.name
            onDone: panel.settingsOpen = false
        }
    }
    Loader {
        anchors.fill: parent
        active: (panel.fridge.offer.ask || panel.fridge.offer.state === "installing") && !panel.alarmed
        sourceComponent: UpdatePage {
            theme: look
            fridge: panel.fridge
            face: regular.name
        }
    }

    // a screen without a backlight of its own
    Rectangle {
        anchors.fill: parent
        visible: panel.fridge.dims && opacity > 0
        color: "black"
        opacity: 0.75 * (1 - panel.shown.brightness / 100)
    }
}
