// SPDX-License-Identifier: Apache-2.0
// Colours and sizes. Day is bright on dark blue, night is dim and warm. Nothing is told by colour alone: each colour
// that means something stands beside its own icon and words. (tests/ui/test_theme.py holds the contrasts.)
import QtQuick

QtObject {
    property bool night: false
    property bool large: false

    readonly property color ground: night ? "#080604" : "#0b1218"
    readonly property color sky: night ? "#0d0a07" : "#132231"
    readonly property color ink: night ? "#e6d3bd" : "#eaf2f8"
    readonly property color soft: night ? "#a08b74" : "#8fa3b5"
    readonly property color faint: night ? "#4a3d30" : "#33475a"
    readonly property color cold: night ? "#d9a86c" : "#5cc8ff"
    readonly property color warn: night ? "#e8a33d" : "#ffb02e"
    readonly property color bad: night ? "#f07a5a" : "#ff7a70"
    readonly property color badGround: night ? "#2a0f0a" : "#4a1512"
    readonly property color warnGround: night ? "#241a0b" : "#3a2a14"
    readonly property color button: night ? "#15110c" : "#16222d"
    readonly property color buttonLit: night ? "#2a2013" : "#17344a"
    readonly property color buttonDown: night ? "#3b2e1e" : "#2c4256"
    readonly property color edge: night ? "#33291e" : "#263848"
    readonly property color onCold: night ? "#1c1206" : "#06222f"

    // pixels; the panel has 800 by 480 on 7 inches, about 133 an inch
    readonly property int small: large ? 22 : 18
    readonly property int body: large ? 28 : 22
    readonly property int title: large ? 34 : 28
    readonly property int label: large ? 24 : 20
}
