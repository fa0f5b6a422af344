// SPDX-License-Identifier: GPL-3.0-or-later
// azure-iothub: the registry, messages and what became of them, methods, queries, jobs, configurations.
'use strict';

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { after, describe, test } = require('node:test');
const { Message: ServiceMessage } = require('azure-iot-common');
const { Message } = require('azure-iot-device');
const { Amqp, AmqpWs, Client, JobClient, Registry } = require('azure-iothub');
const hub = require('./hub');

after(hub.closeAll);

describe('service: Registry', () => {
  test('devices are created, changed, listed and removed', async () => {
    const { deviceId } = await hub.newDevice('registry');
    const { responseBody: device } = await hub.registry.get(deviceId);
    assert.equal(device.status, 'enabled');
    await hub.registry.update({ ...device, status: 'disabled', statusReason: 'a test' });
    assert.equal((await hub.registry.get(deviceId)).responseBody.status, 'disabled');
    await assert.rejects(hub.registry.create({ deviceId }), { name: 'DeviceAlreadyExistsError' });
    const { responseBody: devices } = await hub.registry.list();
    assert.ok(devices.some((each) => each.deviceId === deviceId));
    await hub.registry.delete(deviceId);
    await assert.rejects(hub.registry.get(deviceId), { name: 'DeviceNotFoundError' });
  });

  test('many devices at once', async () => {
    const devices = [...Array(20).keys()].map((number) => ({ deviceId: `bulk-${process.pid}-${number}` }));
    assert.ok((await hub.registry.addDevices(devices)).responseBody.isSuccessful);
    const changed = devices.map((device) => ({ ...device, status: 'disabled' }));
    assert.ok((await hub.registry.updateDevices(changed, true)).responseBody.isSuccessful);
    assert.ok((await hub.registry.removeDevices(devices, true)).responseBody.isSuccessful);
    await assert.rejects(hub.registry.get(devices[0].deviceId));
  });

  test('modules are created, listed, changed and removed', async () => {
    const { deviceId } = await hub.newDevice('registry-modules');
    await hub.registry.addModule({ deviceId, moduleId: 'one' });
    await hub.registry.addModule({ deviceId, moduleId: 'two' });
    const { responseBody: modules } = await hub.registry.getModulesOnDevice(deviceId);
    assert.deepEqual(modules.map((each) => each.moduleId).sort(), ['one', 'two']);
    await hub.registry.updateModuleTwin(deviceId, 'one', { properties: { desired: { a: 1 } } }, '*');
    assert.equal((await hub.registry.getModuleTwin(deviceId, 'one')).responseBody.properties.desired.a, 1);
    await hub.registry.removeModule(deviceId, 'two');
    assert.equal((await hub.registry.getModulesOnDevice(deviceId)).responseBody.length, 1);
  });

  test('twins are changed if their ETag is the one that was read', async () => {
    const { deviceId } = await hub.newDevice('twins');
    const { responseBody: twin } = await hub.registry.getTwin(deviceId);
    await twin.update({ tags: { floor: 1 } });
    await assert.rejects(hub.registry.updateTwin(deviceId, { tags: { floor: 2 } }, 'AAAAAAAAAAE='));
    assert.equal((await hub.registry.getTwin(deviceId)).responseBody.tags.floor, 1);
  });

  test('queries give pages', async () => {
    const mark = randomUUID();
    for (let number = 0; number < 5; number++) {
      const { deviceId } = await hub.newDevice('queries');
      await hub.registry.updateTwin(deviceId, { tags: { mark, number } }, '*');
    }
    const query = hub.registry.createQuery(`SELECT * FROM devices WHERE tags.mark = '${mark}'`, 2);
    const numbers = [];
    while (query.hasMoreResults) numbers.push(...(await query.nextAsTwin()).result.map((twin) => twin.tags.number));
    assert.deepEqual(numbers.sort(), [0, 1, 2, 3, 4]);
  });

  test('statistics count', async () => {
    assert.ok((await hub.registry.getRegistryStatistics()).responseBody.totalDeviceCount > 0);
  });

  test('a wrong key is refused', async () => {
    const wrong = hub.connectionString.replace(/SharedAccessKey=.*/, 'SharedAccessKey=d3Jvbmc=');
    await assert.rejects(Registry.fromConnectionString(wrong).list(), { name: 'UnauthorizedError' });
  });
});

for (const [name, Transport] of Object.entries({ Amqp, AmqpWs })) {
  describe(`service over ${name}`, () => {
    test('what becomes of messages is fed back', async () => {
      const identity = await hub.newDevice(`feedback-${name}`);
      const service = hub.service(Transport);
      await service.open();
      const { result: receiver } = await service.getFeedbackReceiver();
      const records = new Map();
      receiver.on('message', async (message) => {
        for (const record of JSON.parse(message.data.toString())) records.set(record.originalMessageId, record);
        await receiver.complete(message);
      });
      const device = hub.device(identity, hub.streams.Amqp);
      await device.open();
      device.on('message', (message) => device[message.data.toString()](message));
      for (const verdict of ['complete', 'reject']) {
        const message = new ServiceMessage(verdict);
        message.messageId = `${identity.deviceId}-${verdict}`;
        message.ack = 'full';
        message.expiryTimeUtc = Date.now() + 60_000;
        await service.send(identity.deviceId, message);
        // one after the other: rhea 3 tells two verdicts of one moment as one, the first
        await hub.eventually(() => records.has(message.messageId));
      }
      assert.equal(records.get(`${identity.deviceId}-complete`).statusCode, 'Success');
      assert.equal(records.get(`${identity.deviceId}-reject`).statusCode, 'Rejected');
      await service.close(); // services share the feedback: this one would take that of the next test
    });

    test('a message to nobody is refused', async () => {
      const service = hub.service(Transport);
      await service.open();
      await assert.rejects(service.send('nobody-at-all', new ServiceMessage('x')), { name: 'DeviceNotFoundError' });
    });

    test('of uploaded files it is told', async () => {
      const identity = await hub.newDevice(`files-${name}`);
      const service = hub.service(Transport);
      await service.open();
      const { result: receiver } = await service.getFileNotificationReceiver();
      const notices = [];
      receiver.on('message', async (message) => {
        notices.push(JSON.parse(message.data.toString()));
        await receiver.complete(message);
      });
      const device = hub.device(identity, hub.streams.Mqtt);
      await device.uploadToBlob('log.txt', require('node:stream').Readable.from(Buffer.from('twelve bytes')), 12);
      const notice = await hub.eventually(() => notices.find((each) => each.deviceId === identity.deviceId));
      assert.equal(notice.blobSizeInBytes, 12);
      await service.close(); // and the notifications
    });

    test('a wrong key is refused', async () => {
      const wrong = hub.connectionString.replace(/SharedAccessKey=.*/, 'SharedAccessKey=d3Jvbmc=');
      await assert.rejects(Client.fromConnectionString(wrong, Transport).open());
    });
  });
}

describe('service: JobClient', () => {
  const jobs = JobClient.fromConnectionString(hub.connectionString);

  async function finished(jobId) {
    return hub.eventually(async () => {
      const { jobStatus } = await jobs.getJob(jobId);
      return ['completed', 'failed', 'cancelled'].includes(jobStatus.status) && jobStatus;
    }, 30);
  }

  test('twins are changed by a job', async () => {
    const { deviceId } = await hub.newDevice('job-twin');
    const jobId = randomUUID();
    const patch = { etag: '*', tags: { done: true } };
    await jobs.scheduleTwinUpdate(jobId, `deviceId IN ['${deviceId}']`, patch, new Date(), 60);
    assert.equal((await finished(jobId)).status, 'completed');
    assert.equal((await hub.registry.getTwin(deviceId)).responseBody.tags.done, true);
  });

  test('methods are called by a job', async () => {
    const identity = await hub.newDevice('job-method');
    const device = hub.device(identity, hub.streams.Amqp);
    await device.open();
    device.onDeviceMethod('blink', (request, response) => response.send(200, {}));
    await hub.sleep(500);
    const jobId = randomUUID();
    const call = { methodName: 'blink', payload: {}, responseTimeoutInSeconds: 10 };
    await jobs.scheduleDeviceMethod(jobId, `deviceId = '${identity.deviceId}'`, call, new Date(), 60);
    const status = await finished(jobId);
    assert.equal(status.status, 'completed');
    const query = jobs.createQuery();
    const page = await query.next();
    assert.ok((page.result ?? page).some((each) => each.jobId === jobId));
  });

  test('a job that has not begun is cancelled', async () => {
    const jobId = randomUUID();
    const later = new Date(Date.now() + 3600_000);
    await jobs.scheduleTwinUpdate(jobId, 'tags.never = true', { etag: '*', tags: {} }, later, 60);
    await jobs.cancelJob(jobId);
    assert.equal((await finished(jobId)).status, 'cancelled');
  });
});

test('configurations are created, applied and removed', async () => {
  const { deviceId } = await hub.newDevice('configured');
  const mark = randomUUID();
  await hub.registry.updateTwin(deviceId, { tags: { mark } }, '*');
  const configuration = {
    id: `c-${mark}`,
    schemaVersion: '1.0',
    content: { deviceContent: { 'properties.desired.settings': { level: 3 } } },
    targetCondition: `tags.mark='${mark}'`,
    priority: 10,
    labels: {},
    metrics: { queries: {} },
  };
  await hub.registry.addConfiguration(configuration);
  await hub.eventually(
    async () => (await hub.registry.getTwin(deviceId)).responseBody.properties.desired.settings?.level === 3,
  );
  assert.ok((await hub.registry.getConfigurations()).responseBody.some((each) => each.id === configuration.id));
  await hub.registry.removeConfiguration(configuration.id);
});

test('an upload over AMQP devices works too', async () => {
  const identity = await hub.newDevice('upload-amqp');
  const device = hub.device(identity, hub.streams.Amqp);
  await device.open();
  await device.sendEvent(new Message('x'));
  await device.uploadToBlob('a/b.bin', require('node:stream').Readable.from(Buffer.alloc(100_000)), 100_000);
});
