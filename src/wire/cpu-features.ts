/**
 * The processor in the handshake: may a guest that was given one processor be resumed where another
 * is offered? And the names of CPU features, so that a refusal can say "avx2" and not only a word in
 * hexadecimal; the names are those of /proc/cpuinfo, a bit without one is called by its place.
 *
 *   word of the guest's                      what the standby's must be
 *   ───────────────────────────────────────  ─────────────────────────────────────────────
 *   feature bits (most words)                a superset of the bits
 *   vendor (cpuid.0)                         equal: the MSRs that a guest has hang on it
 *   family and model (cpuid.1.0.eax)         equal; only a guest of --cpu host has this word
 *   size and place in the XSAVE area         equal, for each component that the guest has
 *   width of physical addresses              at least as much
 *   a word that is not known here            equal
 *
 * A word that only the standby has says what the guest does not use, so it does not matter. The
 * guest keeps its own processor after a failover: it travels in the state (native/kvm/guest_cpu.h).
 */

type Rule = 'superset' | 'equal' | 'atLeast';

const RULES: Readonly<Record<string, Rule>> = {
  'cpuid.1.0.ecx': 'superset',
  'cpuid.1.0.edx': 'superset',
  'cpuid.7.0.ebx': 'superset',
  'cpuid.7.0.ecx': 'superset',
  'cpuid.7.0.edx': 'superset',
  'cpuid.7.1.eax': 'superset',
  'cpuid.d.0.eax': 'superset',
  'cpuid.d.1.eax': 'superset',
  'cpuid.80000001.0.ecx': 'superset',
  'cpuid.80000001.0.edx': 'superset',
  'cpuid.80000007.0.edx': 'superset',
  'cpuid.80000008.0.eax': 'atLeast',
  'cpuid.80000008.0.ebx': 'superset',
  'cpuid.40000001.0.eax': 'superset',
};

/** The first word in which the standby does not do for the guest; undefined is "absent". */
export interface CpuMisfit {
  readonly word: string;
  readonly offered: number | undefined;
  readonly given: number;
  /** A sentence. */
  readonly why: string;
}

type Words = Readonly<Record<string, number>>;

/** `offered` is the standby's, `given` the guest's. Words in the order of their names. */
export function findCpuMisfit(offered: Words, given: Words): CpuMisfit | undefined {
  for (const word of Object.keys(given).sort()) {
    const wanted = given[word] ?? 0;
    const there = Object.hasOwn(offered, word) ? offered[word] : undefined;
    const why = explainMisfit(word, there, wanted);
    if (why !== undefined) return { word, offered: there, given: wanted, why };
  }
  return undefined;
}

function explainMisfit(
  word: string,
  there: number | undefined,
  wanted: number,
): string | undefined {
  const rule = Object.hasOwn(RULES, word) ? RULES[word] : 'equal';
  if (rule === 'superset') {
    const lacking = wanted & ~(there ?? 0);
    if (lacking === 0) return undefined;
    return `The standby lacks what the guest was given: ${describeFeatures(word, lacking)}.`;
  }
  if (rule === 'atLeast') {
    if (there !== undefined && there >= wanted) return undefined;
    return "The standby's processor addresses less memory than the guest's.";
  }
  if (there === wanted) return undefined;
  if (word.startsWith('cpuid.0.')) return "The processors' vendors differ.";
  if (word === 'cpuid.1.0.eax') return "The processors' family or model differs.";
  return "The processors' states are laid out otherwise.";
}

/** Word → bit → name. */
const NAMES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  'cpuid.1.0.ecx': {
    0: 'sse3',
    1: 'pclmulqdq',
    3: 'monitor',
    5: 'vmx',
    9: 'ssse3',
    12: 'fma',
    13: 'cx16',
    17: 'pcid',
    19: 'sse4_1',
    20: 'sse4_2',
    21: 'x2apic',
    22: 'movbe',
    23: 'popcnt',
    24: 'tsc_deadline_timer',
    25: 'aes',
    26: 'xsave',
    28: 'avx',
    29: 'f16c',
    30: 'rdrand',
  },
  'cpuid.7.0.ebx': {
    0: 'fsgsbase',
    3: 'bmi1',
    5: 'avx2',
    7: 'smep',
    8: 'bmi2',
    9: 'erms',
    10: 'invpcid',
    16: 'avx512f',
    17: 'avx512dq',
    18: 'rdseed',
    19: 'adx',
    20: 'smap',
    23: 'clflushopt',
    24: 'clwb',
    28: 'avx512cd',
    29: 'sha_ni',
    30: 'avx512bw',
    31: 'avx512vl',
  },
  'cpuid.7.0.ecx': {
    1: 'avx512vbmi',
    2: 'umip',
    3: 'pku',
    6: 'avx512_vbmi2',
    8: 'gfni',
    9: 'vaes',
    10: 'vpclmulqdq',
    11: 'avx512_vnni',
    12: 'avx512_bitalg',
    14: 'avx512_vpopcntdq',
    16: 'la57',
    22: 'rdpid',
  },
  'cpuid.7.0.edx': {
    4: 'fsrm',
    22: 'amx_bf16',
    24: 'amx_tile',
    25: 'amx_int8',
    26: 'spec_ctrl',
    31: 'ssbd',
  },
  'cpuid.7.1.eax': { 4: 'avx_vnni', 5: 'avx512_bf16' },
  'cpuid.d.0.eax': {
    0: 'x87 state',
    1: 'sse state',
    2: 'avx state',
    5: 'avx512 opmask state',
    6: 'avx512 upper state',
    7: 'avx512 high state',
    9: 'pku state',
    17: 'amx tile configuration',
    18: 'amx tile state',
  },
  'cpuid.d.1.eax': { 0: 'xsaveopt', 1: 'xsavec', 2: 'xgetbv1', 3: 'xsaves' },
  'cpuid.80000001.0.ecx': { 0: 'lahf_lm', 2: 'svm', 5: 'abm', 6: 'sse4a', 8: '3dnowprefetch' },
  'cpuid.80000001.0.edx': { 26: 'pdpe1gb', 27: 'rdtscp' },
  'cpuid.80000007.0.edx': { 8: 'constant_tsc' },
};

const NAMES_MAX = 6;

/**
 * The features that `bits` of `word` stand for, as a list to read:
 * "avx2 (cpuid.7.0.ebx bit 5), erms (cpuid.7.0.ebx bit 9) and 3 more".
 */
function describeFeatures(word: string, bits: number): string {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if ((bits & (1 << bit)) === 0) continue;
    const place = `${word} bit ${bit}`;
    const name = NAMES[word]?.[bit];
    names.push(name === undefined ? place : `${name} (${place})`);
  }
  const shown = names.slice(0, NAMES_MAX).join(', ');
  return names.length <= NAMES_MAX ? shown : `${shown} and ${names.length - NAMES_MAX} more`;
}
