/**
 * Names of CPU features, so that a refusal can say "avx2" and not only a word in hexadecimal. The
 * names are those of /proc/cpuinfo; a bit without a name here is called by its place.
 */

/** Word → bit → name. */
const NAMES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  'cpuid.1.0.ecx': {
    0: 'pni',
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
  'cpuid.7.0.ecx': { 2: 'umip', 3: 'pku', 8: 'gfni', 9: 'vaes', 16: 'la57', 22: 'rdpid' },
  'cpuid.80000001.0.ecx': { 2: 'svm', 5: 'abm', 6: 'sse4a', 8: '3dnowprefetch' },
  'cpuid.80000001.0.edx': { 26: 'pdpe1gb', 27: 'rdtscp' },
  'cpuid.80000007.0.edx': { 8: 'constant_tsc' },
};

const NAMES_MAX = 8;

/** The features that `bits` of `word` stand for, as a list to read: "avx2, erms and 3 more". */
export function describeFeatures(word: string, bits: number): string {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    if ((bits & (1 << bit)) !== 0) names.push(NAMES[word]?.[bit] ?? `bit ${bit}`);
  }
  const shown = names.slice(0, NAMES_MAX).join(', ');
  return names.length <= NAMES_MAX ? shown : `${shown} and ${names.length - NAMES_MAX} more`;
}
