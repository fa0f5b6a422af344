// SPDX-License-Identifier: Apache-2.0
// How the owner wants the panel: language, theme, size of text. Opened by a long press on Temperature.
import QtQuick

Sheet {
    id: page

    required property var fridge
    required property string face

    signal done()

    objectName: "settings-page"
    name: qsTr("Settings")

    component Setting: Row {
        id: setting

        required property string caption
        required property string name
        // [value, label] each
        required property var values
        required property string current

        spacing: 16

        Text {
            width: 180
            anchors.verticalCenter: parent.verticalCenter
            text: setting.caption
            color: page.theme.soft
            font.family: page.face
            font.pixelSize: page.theme.body
            wrapMode: Text.Wrap
        }
        Repeater {
            // by number, so that another language makes no other buttons
            model: setting.values.length

            Choice {
                required property int index
                readonly property string value: setting.values[index][0]
                objectName: setting.name + "-" + value
                theme: page.theme
                face: page.face
                width: 168
                height: 76
                label: setting.values[index][1]
                chosen: setting.current === value
                onUsed: page.fridge.prefer(setting.name, value)
            }
        }
    }

    Column {
        x: 32
        y: 24
        spacing: 16

        Text {
            objectName: "settings-title"
            text: page.name
            color: page.theme.ink
            font.family: page.face
            font.pixelSize: 36
        }
        Setting {
            caption: qsTr("Language")
            name: "language"
            // each in its own words, so that who chose wrongly finds back
            values: [["en", "English"], ["de", "Deutsch"]]
            current: page.fridge.choices.language
        }
        Setting {
            caption: qsTr("Colours")
            name: "theme"
            values: [["auto", qsTr("Automatic")], ["day", qsTr("Day")], ["night", qsTr("Night")]]
            current: page.fridge.choices.theme
        }
        Setting {
            caption: qsTr("Text size")
            name: "text"
            values: [["normal", qsTr("Normal")], ["large", qsTr("Large")]]
            current: page.fridge.choices.large_text ? "large" : "normal"
        }
    }

    Choice {
        objectName: "settings-done"
        theme: page.theme
        face: page.face
        x: parent.width - width - 32
        y: parent.height - height - 20
        width: 220
        height: 76
        main: true
        label: qsTr("Done")
        onUsed: page.done()
    }
}
