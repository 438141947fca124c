/** A simulated client of the guest. */
import { beaconRequest } from './sim-lan';
import type { World } from './world';

/** A client that asks again until it is answered, then asks the next. */
export class Client {
  requestId = 1;

  constructor(
    private readonly world: World,
    readonly id: number,
  ) {}

  ask(): void {
    // The operation follows from the id alone, so that a repetition is the same request.
    const op = (this.requestId * 7 + this.id) % 3;
    const key = BigInt((this.requestId * 31) % 20);
    const request =
      op === 0
        ? beaconRequest('put', this.id, this.requestId, key, BigInt(this.requestId))
        : beaconRequest(op === 1 ? 'incr' : 'get', this.id, this.requestId, key);
    this.world.lan.request(request);
  }

  heard(requestId: number): void {
    if (requestId !== this.requestId) return;
    this.requestId += 1;
    if (this.requestId % 2 === 0) this.ask();
  }
}
