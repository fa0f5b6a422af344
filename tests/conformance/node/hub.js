// SPDX-License-Identifier: GPL-3.0-or-later
// The hub as the tests see it: connection strings, new identities, the transports by name, and waiting.
'use strict';

const { X509Certificate } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { EventHubConsumerClient } = require('@azure/event-hubs');
const { NoRetry } = require('azure-iot-common');
const { Client, ModuleClient } = require('azure-iot-device');
const amqp = require('azure-iot-device-amqp');
const mqtt = require('azure-iot-device-mqtt');
const { Http } = require('azure-iot-device-http');
const { Registry, Client: ServiceClient } = require('azure-iothub');

const connectionString = process.env.IOTHUB_CONNECTION_STRING;
const host = /HostName=([^;]+)/.exec(connectionString)[1];
const registry = Registry.fromConnectionString(connectionString);
const streams = { Amqp: amqp.Amqp, AmqpWs: amqp.AmqpWs, Mqtt: mqtt.Mqtt, MqttWs: mqtt.MqttWs };
const opened = [];
let number = 0;
const since = Date.now();

async function eventually(condition, seconds = 15) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`it did not happen: ${condition}`);
    await sleep(50);
  }
}

// A device that nobody else uses, and its key.
async function newDevice(prefix, identity = {}) {
  const deviceId = `${prefix}-${process.pid}-${++number}`.toLowerCase();
  const { responseBody } = await registry.create({ deviceId, ...identity });
  return { deviceId, key: responseBody.authentication.symmetricKey.primaryKey };
}

function keep(client) {
  client.setRetryPolicy(new NoRetry());
  opened.push(client);
  return client;
}

function device({ deviceId, key }, transport) {
  return keep(Client.fromConnectionString(`HostName=${host};DeviceId=${deviceId};SharedAccessKey=${key}`, transport));
}

async function newModule({ deviceId }, moduleId, transport) {
  await registry.addModule({ deviceId, moduleId });
  const { responseBody } = await registry.getModule(deviceId, moduleId);
  const key = responseBody.authentication.symmetricKey.primaryKey;
  const parts = `HostName=${host};DeviceId=${deviceId};ModuleId=${moduleId};SharedAccessKey=${key}`;
  return keep(ModuleClient.fromConnectionString(parts, transport));
}

function service(transport) {
  const client = ServiceClient.fromConnectionString(connectionString, transport);
  opened.push(client);
  return client;
}

function certificate(name) {
  const cert = readFileSync(join(process.env.NODE_CERTIFICATES, `${name}.pem`), 'utf8');
  const key = readFileSync(join(process.env.NODE_CERTIFICATES, `${name}.key`), 'utf8');
  return { cert, key, thumbprint: new X509Certificate(cert).fingerprint.replaceAll(':', '') };
}

// Some transports leave timers behind, for which the process would wait.
async function closeAll() {
  setTimeout(() => process.exit(), 10_000).unref();
  await Promise.allSettled(opened.splice(0).map((client) => Promise.race([client.close(), sleep(3000)])));
}

// All events of a device, as @azure/event-hubs reads them, until there are as many as are wanted.
async function eventsOf(deviceId, count, moduleId) {
  const consumer = new EventHubConsumerClient('$Default', process.env.EVENTHUB_CONNECTION_STRING);
  const events = [];
  const subscription = consumer.subscribe(
    {
      processEvents: async (batch) => {
        for (const event of batch) {
          const { systemProperties: system } = event;
          if (system['iothub-connection-device-id'] !== deviceId) continue;
          if (system['iothub-connection-module-id'] !== moduleId) continue;
          events.push(event);
        }
      },
      processError: async (error) => {
        throw error;
      },
    },
    { startPosition: { enqueuedOn: since }, maxBatchSize: 100, maxWaitTimeInSeconds: 1 },
  );
  try {
    await eventually(() => events.length >= count);
    return events;
  } finally {
    await subscription.close();
    await consumer.close();
  }
}

module.exports = {
  Http, certificate, closeAll, connectionString, device, eventsOf, eventually, host, keep, newDevice, newModule,
  registry, service, sleep, streams,
};
