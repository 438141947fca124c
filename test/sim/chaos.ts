/** Counts of what schedules did, so that a run can show that it was worth something. */

/** What happened, for the question whether a run was wild enough to mean something. */
export interface Chaos {
  kills: number;
  pauses: number;
  partitions: number;
  breaks: number;
  witnessFaults: number;
  promotions: number;
  fenced: number;
  /** Guests that were handed over in order. */
  switchovers: number;
  /** Settings that were read again. */
  changes: number;
  /** Nobody could go on with the guest any more. */
  gone: number;
  answers: number;
  /** Claims that were won at the witness. */
  won: number;
  diskFailures: number;
  /** Syncs of a disk: of what differs, and of all. */
  inPart: number;
  whole: number;
  /** Syncs of memory of what changed alone. */
  catchUps: number;
  /** Copies compared with the original at the end. */
  compared: number;
  events: number;
  /** Kills and stops by the state of the host that they hit. */
  hits: Record<string, number>;
}

export function noChaos(): Chaos {
  const faults = { kills: 0, pauses: 0, partitions: 0, breaks: 0, witnessFaults: 0 };
  const results = {
    promotions: 0,
    fenced: 0,
    switchovers: 0,
    changes: 0,
    gone: 0,
    answers: 0,
    won: 0,
    diskFailures: 0,
  };
  return {
    ...faults,
    ...results,
    inPart: 0,
    whole: 0,
    catchUps: 0,
    compared: 0,
    events: 0,
    hits: {},
  };
}
