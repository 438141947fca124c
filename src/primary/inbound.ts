/** What a standby may send on a link that is up, beside its bye: acks, and pages that differ. */
import { FtError } from '../common/errors';
import { type Frame, FrameType } from '../wire/frame';

/** What is wrong with a frame that came while the guest runs in `generation`; undefined: nothing. */
export function faultOfFrame(frame: Frame, generation: number): FtError | undefined {
  if (frame.generation !== generation) {
    const facts = { theirs: frame.generation, ours: generation };
    const message = `The standby speaks of generation ${facts.theirs}, not ${facts.ours}.`;
    return new FtError('FT_ERR_GENERATION', message, facts);
  }
  if (frame.type === FrameType.ack || frame.type === FrameType.auditMismatch) return undefined;
  const message = `A frame of type ${frame.type} came from the standby, where it has no place.`;
  return new FtError('FT_ERR_FRAME_UNEXPECTED', message, { type: frame.type });
}
