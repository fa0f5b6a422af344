// SPDX-License-Identifier: GPL-3.0-or-later
// azure-iot-provisioning-device over all its transports, azure-iot-provisioning-service for the enrolments.
'use strict';

const assert = require('node:assert/strict');
const { after, describe, test } = require('node:test');
const { Client, Message } = require('azure-iot-device');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const amqp = require('azure-iot-provisioning-device-amqp');
const { Http } = require('azure-iot-provisioning-device-http');
const mqtt = require('azure-iot-provisioning-device-mqtt');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const hub = require('./hub');

const scope = '0neLocalHub';
const service = ProvisioningServiceClient.fromConnectionString(hub.connectionString);
const transports = { Amqp: amqp.Amqp, AmqpWs: amqp.AmqpWs, Http, Mqtt: mqtt.Mqtt, MqttWs: mqtt.MqttWs };

after(hub.closeAll);

for (const [name, Transport] of Object.entries(transports)) {
  describe(`provisioning over ${name}`, () => {
    test('a device registers with a key and connects to its hub', async () => {
      const registrationId = `key-${name}`.toLowerCase();
      const enrollment = { registrationId, attestation: { type: 'symmetricKey' }, provisioningStatus: 'enabled' };
      const { responseBody } = await service.createOrUpdateIndividualEnrollment(enrollment);
      const key = responseBody.attestation.symmetricKey.primaryKey;
      const security = new SymmetricKeySecurityClient(registrationId, key);
      const client = ProvisioningDeviceClient.create(hub.host, scope, new Transport(), security);
      const result = await client.register();
      assert.deepEqual([result.status, result.deviceId, result.assignedHub], ['assigned', registrationId, hub.host]);
      const device = hub.device({ deviceId: result.deviceId, key }, hub.streams.Amqp);
      await device.open();
      await device.sendEvent(new Message('here'));
    });

    test('a device registers with a certificate and connects to its hub', async () => {
      const { cert, key } = hub.certificate('node-x509');
      const deviceId = `cert-${name}`.toLowerCase();
      const x509 = { clientCertificates: { primary: { certificate: cert } } };
      await service.deleteIndividualEnrollment('node-x509').catch(() => {});
      await service.createOrUpdateIndividualEnrollment({
        registrationId: 'node-x509',
        deviceId,
        attestation: { type: 'x509', x509 },
      });
      const security = new X509Security('node-x509', { cert, key });
      const client = ProvisioningDeviceClient.create(hub.host, scope, new Transport(), security);
      const result = await client.register();
      assert.deepEqual([result.status, result.deviceId], ['assigned', deviceId]);
      const parts = `HostName=${result.assignedHub};DeviceId=${deviceId};x509=true`;
      const device = hub.keep(Client.fromConnectionString(parts, hub.streams.Amqp));
      await device.setOptions({ cert, key });
      await device.open();
      await device.sendEvent(new Message('here'));
    });

    test('a wrong key is refused', async () => {
      const registrationId = `stranger-${name}`.toLowerCase();
      await service.createOrUpdateIndividualEnrollment({ registrationId, attestation: { type: 'symmetricKey' } });
      const security = new SymmetricKeySecurityClient(registrationId, Buffer.from('wrong').toString('base64'));
      const client = ProvisioningDeviceClient.create(hub.host, scope, new Transport(), security);
      await assert.rejects(client.register());
    });
  });
}

test('groups of enrolments are created, read and removed', async () => {
  const group = { enrollmentGroupId: 'node-group', attestation: { type: 'symmetricKey' } };
  await service.createOrUpdateEnrollmentGroup(group);
  assert.equal((await service.getEnrollmentGroup('node-group')).responseBody.enrollmentGroupId, 'node-group');
  await service.deleteEnrollmentGroup('node-group');
  await assert.rejects(service.getEnrollmentGroup('node-group'));
});
