// SPDX-License-Identifier: GPL-3.0-or-later
// Tokens run out and are renewed. All transports wait at the same time.
'use strict';

const assert = require('node:assert/strict');
const { after, describe, test } = require('node:test');
const { Message } = require('azure-iot-device');
const hub = require('./hub');

after(hub.closeAll);

describe('a token is renewed, and the device outlives the old one', { concurrency: true }, () => {
  for (const [name, Transport] of Object.entries(hub.streams)) {
    test(name, async () => {
      const identity = await hub.newDevice(`sas-${name}`);
      const client = hub.device(identity, Transport);
      let disconnects = 0;
      client.on('disconnect', () => disconnects++);
      await client.setOptions({ tokenRenewal: { tokenValidTimeInSeconds: 20, tokenRenewalMarginInSeconds: 12 } });
      await client.open();
      await client.sendEvent(new Message('before'));
      await hub.sleep(58_000); // the hub waits 30 s before it cuts off whose token ran out
      await client.sendEvent(new Message('after'));
      if (name.startsWith('Amqp')) assert.equal(disconnects, 0); // MQTT has to connect again
      assert.equal((await hub.eventsOf(identity.deviceId, 2)).length, 2);
    });
  }
});
