/**
 * How long no primary is taken after an image could not be written; doubled each time, since a sync
 * is work for both hosts, until one was good.
 */
const REST_MS_MIN = 5_000;
const REST_MS_MAX = 60_000;

export class DiskRest {
  private untilUs = 0;
  private nextMs = REST_MS_MIN;

  /** An image failed at `nowUs`; returns how long this side rests now, ms. */
  begin(nowUs: number): number {
    const restMs = this.nextMs;
    this.untilUs = nowUs + restMs * 1000;
    this.nextMs = Math.min(REST_MS_MAX, restMs * 2);
    return restMs;
  }

  goesOnAt(nowUs: number): boolean {
    return nowUs < this.untilUs;
  }

  /** A sync was good: the next failure is the first again. */
  reset(): void {
    this.nextMs = REST_MS_MIN;
  }
}
