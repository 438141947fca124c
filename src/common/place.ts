/**
 * Where strangers come from, and who of them makes room for others. One place is what one stranger
 * may have all of: an IPv4 address, or a /64 of IPv6.
 */

/** What counts as one place: an IPv4 address, or the /64 of an IPv6 address. */
export function placeOf(host: string): string {
  const plain = host.toLowerCase().replace(/%.*$/, '');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(plain);
  if (mapped !== null) return mapped[1] ?? plain;
  if (!plain.includes(':')) return plain;
  const [front = '', back] = plain.split('::');
  const left = front === '' ? [] : front.split(':');
  const right = back === undefined || back === '' ? [] : back.split(':');
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0');
  const groups = back === undefined ? left : [...left, ...zeros, ...right];
  return `${groups.slice(0, 4).join(':')}::/64`;
}

/**
 * Who goes for one more: the oldest of the place that has most. `waiting` has the oldest first;
 * undefined when nobody waits.
 */
export function oldestOfMost<T extends { readonly place: string }>(
  waiting: Iterable<T>,
): T | undefined {
  const all = [...waiting];
  const counts = new Map<string, number>();
  for (const { place } of all) counts.set(place, (counts.get(place) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return all.find(({ place }) => counts.get(place) === most);
}
