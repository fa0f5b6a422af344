// SPDX-License-Identifier: Apache-2.0
// Line icons, drawn: 40 by 40, one stroke width, any colour. (No image plugins in the layer.)
import QtQuick

Canvas {
    id: icon

    property string name
    property color tint

    width: 40
    height: 40
    onNameChanged: requestPaint()
    onTintChanged: requestPaint()

    onPaint: {
        const c = getContext("2d")
        c.reset()
        c.strokeStyle = tint
        c.fillStyle = tint
        c.lineWidth = 3
        c.lineCap = "round"
        c.lineJoin = "round"
        c.beginPath()
        switch (name) {
        case "power":
            c.arc(20, 22, 13, -Math.PI / 2 + 0.65, Math.PI * 1.5 - 0.65)
            c.moveTo(20, 5)
            c.lineTo(20, 20)
            break
        case "target":
            c.moveTo(16, 24)
            c.lineTo(16, 9)
            c.arc(20, 9, 4, Math.PI, 0)
            c.lineTo(24, 24)
            c.arc(20, 29, 7, -0.97, Math.PI + 0.97)
            c.moveTo(20, 15)
            c.lineTo(20, 29)
            break
        case "snow":
            for (let i = 0; i < 3; ++i) {
                const a = i * Math.PI / 3 + Math.PI / 2
                c.moveTo(20 - 15 * Math.cos(a), 20 - 15 * Math.sin(a))
                c.lineTo(20 + 15 * Math.cos(a), 20 + 15 * Math.sin(a))
                for (const s of [-1, 1]) {
                    const x = 20 + s * 10 * Math.cos(a), y = 20 + s * 10 * Math.sin(a)
                    for (const t of [-0.7, 0.7]) {
                        c.moveTo(x, y)
                        c.lineTo(x + s * 5 * Math.cos(a + t), y + s * 5 * Math.sin(a + t))
                    }
                }
            }
            break
        case "bolt":
            c.moveTo(23, 4)
            c.lineTo(10, 23)
            c.lineTo(19, 23)
            c.lineTo(16, 36)
            c.lineTo(30, 16)
            c.lineTo(21, 16)
            c.closePath()
            break
        case "bell":
            c.moveTo(7, 29)
            c.lineTo(33, 29)
            c.moveTo(10, 29)
            c.lineTo(10, 18)
            c.arc(20, 18, 10, Math.PI, 0)
            c.lineTo(30, 29)
            c.moveTo(17, 34)
            c.lineTo(23, 34)
            c.moveTo(20, 8)
            c.lineTo(20, 5)
            break
        case "door":
            c.rect(10, 5, 20, 30)
            c.moveTo(10, 17)
            c.lineTo(30, 17)
            c.moveTo(15, 10)
            c.lineTo(15, 13)
            c.moveTo(15, 21)
            c.lineTo(15, 26)
            break
        case "suitcase":
            c.rect(5, 14, 30, 20)
            c.moveTo(14, 14)
            c.lineTo(14, 7)
            c.lineTo(26, 7)
            c.lineTo(26, 14)
            c.moveTo(13, 14)
            c.lineTo(13, 34)
            c.moveTo(27, 14)
            c.lineTo(27, 34)
            break
        case "mute":
            c.moveTo(5, 16)
            c.lineTo(11, 16)
            c.lineTo(19, 9)
            c.lineTo(19, 31)
            c.lineTo(11, 24)
            c.lineTo(5, 24)
            c.closePath()
            c.moveTo(26, 15)
            c.lineTo(36, 25)
            c.moveTo(36, 15)
            c.lineTo(26, 25)
            break
        case "lock":
            c.rect(9, 18, 22, 16)
            c.moveTo(13, 18)
            c.lineTo(13, 13)
            c.arc(20, 13, 7, Math.PI, 0)
            c.lineTo(27, 18)
            break
        case "warning":
            c.moveTo(20, 5)
            c.lineTo(36, 33)
            c.lineTo(4, 33)
            c.closePath()
            c.moveTo(20, 15)
            c.lineTo(20, 23)
            c.moveTo(20, 28)
            c.lineTo(20, 28.5)
            break
        }
        c.stroke()
    }
}
