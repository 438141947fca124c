/**
 * The handshake's comparison: may these two nodes be a pair? The first field that differs is named
 * in the refusal, with both values, so that the person who reads it knows what to change.
 */
import { findCpuMisfit } from './cpu-features';
import type { Hello, HelloDisk, HelloMachine, Refuse } from './messages';

type Same = string | number | boolean;

/**
 * `ours` is the standby's, `theirs` the primary's. Returns undefined when `theirs` fits `ours`, else
 * the refusal to send. Compared in this order:
 * protocolVersion, pair, nodeId (which must differ), machine.kind, memoryBytes, vcpus, devices,
 * stateVersion, the disks one by one, and every CPU feature word by name. Channel, session and the
 * disks' sync names are left to the caller.
 */
export function compareHello(ours: Hello, theirs: Hello): Refuse | undefined {
  if (ours.protocolVersion !== theirs.protocolVersion) {
    return refusal(
      'FT_ERR_PROTOCOL_VERSION',
      'protocolVersion',
      ours.protocolVersion,
      theirs.protocolVersion,
      'Run the same release on both nodes.',
    );
  }
  if (ours.pair !== theirs.pair) {
    const todo = 'Give both nodes the same pair name, or check the address that was dialled.';
    return refusal('FT_ERR_PAIR', 'pair', ours.pair, theirs.pair, todo);
  }
  if (ours.nodeId === theirs.nodeId) {
    return {
      code: 'FT_ERR_NODE_ID',
      field: 'nodeId',
      ours: ours.nodeId,
      theirs: theirs.nodeId,
      message: `Both nodes call themselves ${ours.nodeId}. Give each node a name of its own.`,
    };
  }
  return compareMachines(ours.machine, theirs.machine);
}

function compareMachines(ours: HelloMachine, theirs: HelloMachine): Refuse | undefined {
  const sameSettings = 'Start both nodes with the same machine settings.';
  const fields: readonly (readonly [string, Same, Same, string])[] = [
    ['machine.kind', ours.kind, theirs.kind, sameSettings],
    ['machine.memoryBytes', ours.memoryBytes, theirs.memoryBytes, sameSettings],
    ['machine.vcpus', ours.vcpus, theirs.vcpus, sameSettings],
    ['machine.devices', ours.devices.join(' '), theirs.devices.join(' '), sameSettings],
    [
      'machine.stateVersion',
      ours.stateVersion,
      theirs.stateVersion,
      'Run the same release on both nodes.',
    ],
  ];
  for (const [field, our, their, todo] of fields) {
    if (our !== their) return refusal('FT_ERR_MACHINE_DIFFERS', field, our, their, todo);
  }
  return (
    compareDisks(ours.disks, theirs.disks) ??
    compareCpuFeatures(ours.cpuFeatures, theirs.cpuFeatures)
  );
}

/** The disks in order; their contents are compared only where nobody writes to them. */
function compareDisks(
  ours: readonly HelloDisk[],
  theirs: readonly HelloDisk[],
): Refuse | undefined {
  const code = 'FT_ERR_MACHINE_DIFFERS';
  if (ours.length !== theirs.length) {
    const todo = 'Give both nodes the same number of --disk flags, in the same order.';
    return refusal(code, 'machine.disks', ours.length, theirs.length, todo);
  }
  for (const [index, our] of ours.entries()) {
    const their = theirs[index];
    if (their === undefined) continue;
    const at = `machine.disks[${index}]`;
    if (our.bytes !== their.bytes) {
      const todo = 'Make the image here as long as the other one: truncate -s, or a larger device.';
      return refusal(code, `${at}.bytes`, our.bytes, their.bytes, todo);
    }
    if (our.readOnly !== their.readOnly) {
      const todo = 'Add ",ro" to this --disk on both nodes, or on neither.';
      return refusal(code, `${at}.readOnly`, our.readOnly, their.readOnly, todo);
    }
    if (our.fingerprint !== their.fingerprint) {
      const todo = 'A read-only disk is not replicated: copy the image over to this node.';
      const [here, there] = [hexWord(our.fingerprint), hexWord(their.fingerprint)];
      return refusal(code, `${at}.fingerprint`, here, there, todo);
    }
  }
  return undefined;
}

/** The guest's processor must be part of what the standby's host offers; ours is the standby's. */
function compareCpuFeatures(
  ours: Readonly<Record<string, number>>,
  theirs: Readonly<Record<string, number>>,
): Refuse | undefined {
  const misfit = findCpuMisfit(ours, theirs);
  if (misfit === undefined) return undefined;
  return refusal(
    'FT_ERR_CPU_FEATURES',
    `machine.cpuFeatures.${misfit.word}`,
    hexWord(misfit.offered),
    hexWord(misfit.given),
    `${misfit.why} Use a standby host that has it, or start the guest with a lower --cpu.`,
  );
}

function hexWord(word: number | undefined): string {
  return word === undefined ? 'absent' : `0x${word.toString(16).padStart(8, '0')}`;
}

const VALUE_CHARS_MAX = 200;

function refusal(code: string, field: string, ours: Same, theirs: Same, todo: string): Refuse {
  const our = String(ours).slice(0, VALUE_CHARS_MAX);
  const their = String(theirs).slice(0, VALUE_CHARS_MAX);
  const message = `The nodes differ in ${field}: here ${our}, there ${their}. ${todo}`;
  return { code, field, ours: our, theirs: their, message };
}
