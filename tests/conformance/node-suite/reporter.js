// SPDX-License-Identifier: GPL-3.0-or-later
// A reporter for mocha: a line on stdout for whoever reads the log, a line of JSON in the file `output` for the runner.
// Both at once, so that what a test process did before it hung or died is known.
'use strict';

const { appendFileSync } = require('node:fs');

module.exports = function (runner, { reporterOptions: { output } }) {
  const tell = (outcome, test, error) => {
    const message = error && String(error.stack || error.message || error);
    const entry = { outcome, name: test.fullTitle(), seconds: (test.duration || 0) / 1000, message };
    appendFileSync(output, JSON.stringify(entry) + '\n');
    console.log(`${outcome}: ${entry.name} (${entry.seconds} s)${message ? `\n${message}` : ''}`);
  };
  runner.on('pass', (test) => tell('passed', test));
  runner.on('fail', (test, error) => tell('failed', test, error));
  runner.on('retry', (test, error) => tell('retried', test, error));
  runner.on('pending', (test) => tell('skipped', test));
};
