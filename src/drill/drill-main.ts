/** ft-drill from its words to its exit code. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type FtError, toFtError } from '../common/errors';
import { DrillExitCode, drillHelp } from './help';
import { runOnLivePair } from './live/live-run';
import { LIVE_SCENARIOS } from './live/live-scenarios';
import { type DrillOrder, readDrillOrder } from './orders';
import { processSettings } from './process/process';
import { runSandbox } from './sandbox';
import { runOnSandbox } from './sandbox-run';
import { scenarios } from './scenarios/scenarios';
import { say } from './session';

/** Runs ft-drill to its end; sets the exit code. `version` is the release's. */
export async function drillMain(words: readonly string[], version: string): Promise<void> {
  // A terminal that is gone takes no more words; its end comes as a signal, and is seen to.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  try {
    const order = readDrillOrder(words);
    process.exitCode = await perform(order, version);
  } catch (thrown) {
    const error = toFtError(thrown);
    process.stderr.write(`ft-drill: ${error.message}\n`);
    process.exitCode = codeOf(error);
  }
}

async function perform(order: DrillOrder, version: string): Promise<DrillExitCode> {
  switch (order.kind) {
    case 'help':
      process.stdout.write(drillHelp());
      return DrillExitCode.ok;
    case 'version':
      say(`ft-drill ${version}`);
      return DrillExitCode.ok;
    case 'list':
      say(scenarioTable());
      return DrillExitCode.ok;
    case 'run-sandbox':
      return withLogs(order.logs, () => runOnSandbox(order));
    case 'run-live':
      return withLogs(order.logs, () => runOnLivePair(order));
    case 'sandbox':
      return withLogs(order.logs, () => runSandbox(order));
  }
}

/** Processes get log files; those of drills that went well are of no use to anybody. */
async function withLogs(
  folder: string | undefined,
  act: () => Promise<DrillExitCode>,
): Promise<DrillExitCode> {
  const logs = folder ?? mkdtempSync(path.join(os.tmpdir(), 'ft-drill-'));
  processSettings.logFolder = logs;
  processSettings.ownGroups = true;
  let isGood = false;
  try {
    const code = await act();
    isGood = code === DrillExitCode.ok || code === DrillExitCode.interrupted;
    return code;
  } finally {
    // Named by the operator, or of use to whoever looks for what went wrong.
    const isKept = folder !== undefined || (!isGood && readdirSync(logs).length > 0);
    if (!isKept) rmSync(logs, { recursive: true, force: true });
    else process.stderr.write(`ft-drill: what the processes said is in ${logs}\n`);
  }
}

function scenarioTable(): string {
  const rows = [
    ['scenario', 'live pair', 'what is done'],
    ...scenarios.map(({ name, what }) => [name, livePart(name), what]),
  ];
  return rows
    .map(([name = '', live = '', what = '']) => `${name.padEnd(26)}${live.padEnd(11)}${what}`)
    .join('\n');
}

function livePart(name: string): string {
  const live = LIVE_SCENARIOS.find((scenario) => scenario.name === name);
  if (live === undefined) return '–';
  return live.kills ? 'if forced' : 'safe';
}

function codeOf(error: FtError): DrillExitCode {
  switch (error.code) {
    case 'FT_ERR_CONFIG':
    case 'FT_ERR_DRILL_WITNESS':
      return DrillExitCode.usage;
    case 'FT_ERR_DRILL_UNPROTECTED':
    case 'FT_ERR_DRILL_UNCONFIRMED':
      return DrillExitCode.refused;
    case 'FT_ERR_UNEXPECTED':
      return DrillExitCode.internal;
    default:
      // Whatever else has a code of ours is about this host or a node that does not answer.
      return DrillExitCode.environment;
  }
}
