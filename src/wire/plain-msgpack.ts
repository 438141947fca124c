/**
 * A walk over MessagePack bytes before a library reads them, with nothing allocated. It lets
 * through exactly one value of plain data that fills the bytes: nil, booleans, numbers, UTF-8
 * strings, binary, arrays, and maps with string keys. Extension types and the unused byte 0xc1 are
 * refused, as are the key __proto__, lengths beyond the bytes, nesting deeper than 8 and more than
 * 4,096 values.
 */

const DEPTH_MAX = 8;
const VALUES_MAX = 4096;
const PROTO = Buffer.from('__proto__', 'latin1');

/** Returns undefined when `bytes` hold plain data, else why not (for the middle of a sentence). */
export function checkPlainMsgpack(bytes: Uint8Array): string | undefined {
  const walk = new Walk(bytes);
  if (!walk.value(0)) return walk.why;
  if (walk.at !== bytes.length) return `${bytes.length - walk.at} bytes follow its end`;
  return undefined;
}

class Walk {
  at = 0;
  why = '';
  private values = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Steps over one value; false when it is refused. */
  value(depth: number): boolean {
    if (depth > DEPTH_MAX) return this.no(`it is nested deeper than ${DEPTH_MAX}`);
    if (++this.values > VALUES_MAX) return this.no(`it has more than ${VALUES_MAX} values`);
    const tag = this.bytes[this.at];
    if (tag === undefined) return this.no('it ends early');
    this.at++;
    if (tag <= 0x7f || tag >= 0xe0) return true;
    if (tag <= 0x8f) return this.map(tag & 0x0f, depth);
    if (tag <= 0x9f) return this.array(tag & 0x0f, depth);
    if (tag <= 0xbf) return this.skip(tag & 0x1f);
    return this.tagged(tag, depth);
  }

  /** The tags 0xc0…0xdf. */
  private tagged(tag: number, depth: number): boolean {
    switch (tag) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return true;
      case 0xcc: // u8
      case 0xd0: // i8
        return this.skip(1);
      case 0xcd:
      case 0xd1:
        return this.skip(2);
      case 0xca: // f32
      case 0xce:
      case 0xd2:
        return this.skip(4);
      case 0xcb: // f64
      case 0xcf:
      case 0xd3:
        return this.skip(8);
      case 0xc4: // bin
      case 0xd9: // str
        return this.skipCounted(1);
      case 0xc5:
      case 0xda:
        return this.skipCounted(2);
      case 0xc6:
      case 0xdb:
        return this.skipCounted(4);
      case 0xdc:
        return this.counted(2, depth, false);
      case 0xdd:
        return this.counted(4, depth, false);
      case 0xde:
        return this.counted(2, depth, true);
      case 0xdf:
        return this.counted(4, depth, true);
      default: // ext, fixext, 0xc1
        return this.no(`it has the tag 0x${tag.toString(16)}, which is not plain data`);
    }
  }

  private counted(width: number, depth: number, isMap: boolean): boolean {
    const count = this.length(width);
    if (count < 0) return false;
    return isMap ? this.map(count, depth) : this.array(count, depth);
  }

  private array(count: number, depth: number): boolean {
    for (let i = 0; i < count; i++) if (!this.value(depth + 1)) return false;
    return true;
  }

  private map(count: number, depth: number): boolean {
    for (let i = 0; i < count; i++) {
      const tag = this.bytes[this.at];
      const isString =
        tag !== undefined && ((tag >= 0xa0 && tag <= 0xbf) || (tag >= 0xd9 && tag <= 0xdb));
      if (!isString) return this.no('a key of a map is not a string');
      if (!this.value(depth + 1)) return false;
      if (this.endsWithProto()) return this.no('a key of a map ends with __proto__');
      if (!this.value(depth + 1)) return false;
    }
    return true;
  }

  /** Whether the key just stepped over ends with the one name that objects give a meaning of
   * their own. No field of ours does. */
  private endsWithProto(): boolean {
    if (this.at < PROTO.length) return false;
    for (let i = 0; i < PROTO.length; i++) {
      if (this.bytes[this.at - PROTO.length + i] !== PROTO[i]) return false;
    }
    return true;
  }

  private skipCounted(width: number): boolean {
    const count = this.length(width);
    return count >= 0 && this.skip(count);
  }

  /** A big-endian length of `width` bytes, or −1. */
  private length(width: number): number {
    let value = 0;
    for (let i = 0; i < width; i++) {
      const byte = this.bytes[this.at + i];
      if (byte === undefined) {
        this.no('it ends early');
        return -1;
      }
      value = value * 256 + byte;
    }
    this.at += width;
    return value;
  }

  private skip(bytes: number): boolean {
    if (this.bytes.length - this.at < bytes) return this.no('it ends early');
    this.at += bytes;
    return true;
  }

  private no(why: string): boolean {
    if (this.why === '') this.why = why;
    return false;
  }
}
