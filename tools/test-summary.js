/**
 * Judges a test run from the record that tools/jest-reporter.js kept, for tools/run-tests.
 *
 * Record: { complete, running: [file…], passed, failed: [name…], skipped: [name…], broken: [file…] }
 */

/**
 * Everything that counts as a failure, in words. `record` is undefined when Jest did not start;
 * `end` is how its process ended; `haveKvm` says whether /dev/kvm exists, where every test whose
 * name begins with "kvm: " must run.
 */
function failuresOf(record, end, haveKvm) {
  if (record === undefined) return ['Jest did not start; what it said is above'];
  const failures = [...record.failed];
  for (const file of record.broken) failures.push(`${file}: could not be run`);
  if (!record.complete) {
    const how = end.signal === null ? `exit code ${end.status}` : end.signal;
    const files = record.running.length > 0 ? record.running : ['(between two files)'];
    for (const file of files) failures.push(`${file}: the test process ended here (${how})`);
  }
  if (haveKvm) {
    for (const name of record.skipped) {
      if (/\bkvm: /.test(name)) failures.push(`${name} (skipped although /dev/kvm exists)`);
    }
  }
  if (failures.length === 0 && end.status !== 0) {
    failures.push(`Jest ended with exit code ${end.status} though no test failed`);
  }
  return failures;
}

/** The last line of a run: "N passed, N failed", and ", N skipped" if any were. */
function summaryLine(passed, failed, skipped) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

module.exports = { failuresOf, summaryLine };
