/** Words that settings allow, or have by default: for the flag tables, and as types for the config. */

export const MACHINES = ['kvm', 'simulated'] as const;

/** What processor a guest may be given; see native/kvm/cpuid_model.h. */
export const CPU_MODELS = ['host', 'baseline', 'x86-64-v2', 'x86-64-v3'] as const;
export type CpuModel = (typeof CPU_MODELS)[number];

export const ON_FENCED = ['rejoin', 'exit'] as const;
export const ON_STANDBY_LOSS = ['continue', 'pause'] as const;
export const ON_WITNESS_LOSS = ['hold', 'pause', 'stop'] as const;
export const ON_GUEST_END = ['exit', 'hold'] as const;

export const TEST_FAULTS = ['hide-dirty-page', 'release-early', 'ignore-lease'] as const;
export type TestFault = (typeof TEST_FAULTS)[number];

/** Forms of the log. */
export const LOG_FORMATS = ['text', 'json'] as const;
/** The default of --witness-prefix, which may be given for any witness, since it changes nothing. */
export const DEFAULT_PREFIX = '/romulus';
