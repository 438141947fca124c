/**
 * The process behind a control socket, and whether it is gone: a node that ends closes its socket
 * first and says good-bye to its peers for a moment more, and who is told that it has ended may end
 * its host, or send it a signal.
 */
import { readFileSync } from 'node:fs';

export class NodeProcess {
  private constructor(
    private readonly pid: number,
    private readonly began: string,
  ) {}

  /**
   * The process that a node's status names. Undefined where it cannot be seen from here: in a
   * container with process numbers of its own, that number is nobody, or somebody else.
   */
  static of(pid: unknown): NodeProcess | undefined {
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
    const began = beginOf(pid);
    if (began === undefined || !runsNode(pid)) return undefined;
    return new NodeProcess(pid, began);
  }

  /** It has exited, whether its parent has taken notice or not. */
  get gone(): boolean {
    return beginOf(this.pid) !== this.began;
  }
}

/** When the process began, in ticks since the boot; undefined for none. Source: proc(5), stat. */
function beginOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : fields[18];
  } catch {
    return undefined;
  }
}

function runsNode(pid: number): boolean {
  try {
    return /\bft-(primary|standby)\b/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    return false;
  }
}
