/** What a node does, for people: one sentence for each role and state. */

/** By role and state; the states are drawn in primary-role.ts and standby-role.ts. */
const SENTENCES: Readonly<Record<string, string>> = {
  'primary starting': 'asks the witness whose guest it is',
  'primary solo': 'runs the guest, UNPROTECTED: no standby has joined',
  'primary syncing': 'runs the guest, not protected yet: a standby is being sent a copy',
  'primary protected': 'runs the guest, protected: a standby holds all that its clients have seen',
  'primary suspended': 'lost its standby and asks the witness who goes on; output is held',
  'primary switching': 'hands the guest over to its standby',
  'primary fenced': 'lost the guest to another node',
  'primary ended': 'has nothing to run: the guest ended itself',
  'primary stopped': 'has stopped',
  'standby joining': 'holds no copy yet: it waits for a primary to dial it',
  'standby syncing': 'is being sent a copy of the guest',
  'standby ready': 'holds a copy of the guest and can take over',
  'standby suspecting': 'lost its primary and asks the witness who goes on',
  'standby promoting': 'won the guest and is about to run it',
  'standby active': 'runs the guest',
  'standby ended': 'has nothing to take over: the guest ended itself',
  'standby fenced': 'lost the guest to another node; its copy is of no use any more',
  'standby stopped': 'has stopped',
};

/** What a node does that has this role and is in this state, without a full stop. */
export function stateSentence(role: unknown, state: unknown): string {
  return SENTENCES[`${role} ${state}`] ?? `is ${state}`;
}
