/** Types of tools/test-summary.js, for its test. */
export interface RunRecord {
  complete: boolean;
  running: string[];
  passed: number;
  failed: string[];
  skipped: string[];
  broken: string[];
}
export function failuresOf(
  record: RunRecord | undefined,
  end: { status: number | null; signal: string | null },
  haveKvm: boolean,
): string[];
export function summaryLine(passed: number, failed: number, skipped: number): string;
