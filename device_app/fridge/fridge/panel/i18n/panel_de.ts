<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de_DE">
<context>
    <name>AlarmBanner</name>
    <message>
        <source>Temperature sensor lost</source>
        <translation>Temperaturfühler ausgefallen</translation>
    </message>
    <message>
        <source>The power was out</source>
        <translation>Der Strom war weg</translation>
    </message>
    <message>
        <source>It is too warm inside</source>
        <translation>Innen ist es zu warm</translation>
    </message>
    <message>
        <source>It is too cold inside</source>
        <translation>Innen ist es zu kalt</translation>
    </message>
    <message>
        <source>The door is open</source>
        <translation>Die Tür ist offen</translation>
    </message>
    <message>
        <source>A button is stuck</source>
        <translation>Eine Taste klemmt</translation>
    </message>
    <message>
        <source>Cooling goes on by the clock. Please call service.</source>
        <translation>Er kühlt nach der Uhr weiter. Bitte den Kundendienst rufen.</translation>
    </message>
    <message>
        <source>It got warm inside. Tap Alarm to see how warm, and check the food.</source>
        <translation>Es wurde warm. Alarm antippen zeigt, wie warm. Bitte Lebensmittel prüfen.</translation>
    </message>
    <message>
        <source>Check the food, and that the door is shut.</source>
        <translation>Bitte Lebensmittel prüfen, und ob die Tür zu ist.</translation>
    </message>
    <message>
        <source>Food may freeze. Please call service if it goes on.</source>
        <translation>Lebensmittel können gefrieren. Hält es an, den Kundendienst rufen.</translation>
    </message>
    <message>
        <source>Please close it. Tap Alarm to silence.</source>
        <translation>Bitte schließen. Alarm antippen macht still.</translation>
    </message>
    <message>
        <source>Is something leaning on the panel? It is ignored until then.</source>
        <translation>Lehnt etwas am Bedienfeld? Sie wird so lange nicht beachtet.</translation>
    </message>
    <message>
        <source>+%1 more</source>
        <translation>+%1 weitere</translation>
    </message>
</context>
<context>
    <name>Panel</name>
    <message>
        <source>%1 degrees Celsius</source>
        <translation>%1 Grad Celsius</translation>
    </message>
    <message>
        <source>Warmest</source>
        <translation>Höchstwert</translation>
    </message>
    <message>
        <source>Set to</source>
        <translation>Eingestellt</translation>
    </message>
    <message>
        <source>Inside</source>
        <translation>Innen</translation>
    </message>
    <message>
        <source>Switched off</source>
        <translation>Ausgeschaltet</translation>
    </message>
    <message>
        <source>Off</source>
        <translation>Aus</translation>
    </message>
    <message>
        <source>It does not cool. Tap Power to switch on.</source>
        <translation>Er kühlt nicht. Ein/Aus antippen schaltet ein.</translation>
    </message>
    <message>
        <source>Set to %1 °C</source>
        <translation>Auf %1 °C gestellt</translation>
    </message>
    <message>
        <source>Cooling</source>
        <translation>Kühlt</translation>
    </message>
    <message>
        <source>Resting</source>
        <translation>Ruht</translation>
    </message>
    <message>
        <source>SuperCool</source>
        <translation>SuperCool</translation>
    </message>
    <message>
        <source>Holiday: keep empty</source>
        <translation>Urlaub: leer lassen</translation>
    </message>
    <message>
        <source>Locked: hold Unlock</source>
        <translation>Entsperren halten</translation>
    </message>
    <message>
        <source>Locked</source>
        <translation>Gesperrt</translation>
    </message>
    <message>
        <source>Power</source>
        <translation>Ein/Aus</translation>
    </message>
    <message>
        <source>Hold three seconds to switch off</source>
        <translation>Drei Sekunden halten schaltet aus</translation>
    </message>
    <message>
        <source>Tap to switch on</source>
        <translation>Antippen schaltet ein</translation>
    </message>
    <message>
        <source>Temperature</source>
        <translation>Temperatur</translation>
    </message>
    <message>
        <source>Tap to set it one degree colder, from 2 on to 8 again. Hold three seconds for settings</source>
        <translation>Antippen stellt ein Grad kälter, nach 2 wieder 8. Drei Sekunden halten öffnet die Einstellungen</translation>
    </message>
    <message>
        <source>Holiday</source>
        <translation>Urlaub</translation>
    </message>
    <message>
        <source>Tap to cool fast for six hours. Hold three seconds for holiday</source>
        <translation>Antippen kühlt sechs Stunden lang schnell. Drei Sekunden halten schaltet auf Urlaub</translation>
    </message>
    <message>
        <source>Unlock</source>
        <translation>Entsperren</translation>
    </message>
    <message>
        <source>Alarm</source>
        <translation>Alarm</translation>
    </message>
    <message>
        <source>Tap to silence an alarm, hold three seconds to lock or unlock</source>
        <translation>Antippen macht einen Alarm still, drei Sekunden halten sperrt oder entsperrt</translation>
    </message>
    <message>
        <source>Software version</source>
        <translation>Softwareversion</translation>
    </message>
    <message>
        <source>Fetching new software: %1 %</source>
        <translation>Neue Software wird geladen: %1 %</translation>
    </message>
</context>
<context>
    <name>SettingsPage</name>
    <message>
        <source>Settings</source>
        <translation>Einstellungen</translation>
    </message>
    <message>
        <source>Language</source>
        <translation>Sprache</translation>
    </message>
    <message>
        <source>Colours</source>
        <translation>Farben</translation>
    </message>
    <message>
        <source>Automatic</source>
        <translation>Automatik</translation>
    </message>
    <message>
        <source>Day</source>
        <translation>Tag</translation>
    </message>
    <message>
        <source>Night</source>
        <translation>Nacht</translation>
    </message>
    <message>
        <source>Text size</source>
        <translation>Schrift</translation>
    </message>
    <message>
        <source>Normal</source>
        <translation>Normal</translation>
    </message>
    <message>
        <source>Large</source>
        <translation>Groß</translation>
    </message>
    <message>
        <source>Done</source>
        <translation>Fertig</translation>
    </message>
</context>
<context>
    <name>UpdatePage</name>
    <message>
        <source>Installing new software</source>
        <translation>Neue Software wird eingespielt</translation>
    </message>
    <message>
        <source>New software is ready</source>
        <translation>Neue Software ist bereit</translation>
    </message>
    <message>
        <source>Version %1</source>
        <translation>Version %1</translation>
    </message>
    <message>
        <source>This panel goes dark for a few seconds. Your food stays cold all the while.</source>
        <translation>Das Bedienfeld wird einige Sekunden dunkel. Ihre Lebensmittel bleiben dabei kalt.</translation>
    </message>
    <message>
        <source>Later</source>
        <translation>Später</translation>
    </message>
    <message>
        <source>Install now</source>
        <translation>Jetzt einspielen</translation>
    </message>
</context>
</TS>
