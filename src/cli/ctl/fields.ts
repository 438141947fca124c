/** Reads what a node answered: JSON of another process, so nothing is taken for granted. */

export type Fields = Readonly<Record<string, unknown>>;

/** A number of the answer; 0 when there is none. */
export function numberIn(fields: Fields, name: string): number {
  const value = fields[name];
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}

/** A text of the answer; "" when there is none. */
export function textIn(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? value : '';
}

/** An object of the answer; empty when there is none. */
export function fieldsIn(fields: Fields, name: string): Fields {
  const value = fields[name];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {};
  return value as Fields;
}
