/** What a simulator, which knows more than a machine can, may put into the simulated machine. */

export interface SimulatedHooks {
  /** Where hosts can be suspended: a clock that goes on meanwhile, µs. */
  readonly leaseNowUs?: () => number;
  /** For judges: `epoch` was cut just now, and memory is what the standby's must become. */
  readonly onCutMade?: (epoch: number) => void;
}
