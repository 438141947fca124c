/**
 * A Jest reporter that keeps a running record (in the file that TEST_RESULTS names, otherwise in
 * build/test-results.json), rewritten after every test file, so that the summary (tools/run-tests)
 * can be given even when Jest itself dies in the middle: a broken invariant of the native addon
 * stops the whole process.
 *
 *   { complete, running: [file…], passed, failed: [name…], skipped: [name…], broken: [file…] }
 */

const { mkdirSync, writeFileSync } = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const resultsFile = process.env.TEST_RESULTS ?? path.join(root, 'build', 'test-results.json');

class RecordReporter {
  constructor() {
    this.record = { complete: false, running: [], passed: 0, failed: [], skipped: [], broken: [] };
  }

  onRunStart() {
    mkdirSync(path.dirname(resultsFile), { recursive: true });
    this.write();
  }

  onTestFileStart(test) {
    this.record.running.push(path.relative(root, test.path));
    this.write();
  }

  onTestFileResult(test, result) {
    const file = path.relative(root, test.path);
    this.record.running = this.record.running.filter((name) => name !== file);
    for (const one of result.testResults) {
      if (one.status === 'passed') this.record.passed += 1;
      else if (one.status === 'failed') this.record.failed.push(`${file}: ${one.fullName}`);
      else this.record.skipped.push(`${file}: ${one.fullName}`);
    }
    // A file that fails without a failed test could not be loaded, or leaked an error.
    const failing = result.testResults.some((one) => one.status === 'failed');
    if (result.testExecError !== undefined && !failing) this.record.broken.push(file);
    this.write();
  }

  onRunComplete() {
    this.record.complete = true;
    this.write();
  }

  write() {
    writeFileSync(resultsFile, `${JSON.stringify(this.record, null, 1)}\n`);
  }
}

module.exports = RecordReporter;
