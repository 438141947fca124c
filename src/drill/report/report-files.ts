/** Writes the report to where the operator wants it, each file whole or not at all. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { FtError, toFtError } from '../../common/errors';
import type { ScenarioResult } from '../results';
import { type DrillReport, reportOf, type Subject, timelinesOf } from './drill-report';
import { htmlReport } from './html-report';

export interface ReportPaths {
  readonly json: string | undefined;
  readonly html: string | undefined;
}

/** Throws FT_ERR_DRILL_REPORT when a file cannot be written. Returns the report. */
export function writeReports(
  paths: ReportPaths,
  subject: Subject,
  results: readonly ScenarioResult[],
): DrillReport {
  const report = reportOf(subject, results);
  if (paths.json !== undefined) write(paths.json, `${JSON.stringify(report, null, 2)}\n`);
  if (paths.html !== undefined) write(paths.html, htmlReport(report, timelinesOf(results)));
  return report;
}

function write(file: string, text: string): void {
  try {
    mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  } catch (thrown) {
    const message = `The report cannot be written to ${file}: ${toFtError(thrown).message}.`;
    throw new FtError('FT_ERR_DRILL_REPORT', message, { path: file }, thrown);
  }
}
