/** The expressions in dashboards/grafana-romulus.json: of panels, annotations and variables. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../src/drill/process/process';

/** An expression, and where it stands. */
export interface Query {
  readonly where: string;
  readonly text: string;
}

export const dashboard: unknown = JSON.parse(
  readFileSync(path.join(projectRoot, 'dashboards', 'grafana-romulus.json'), 'utf8'),
);

/** Every expression below `value` that stands under one of `keys`: "expr", "definition". */
export function queriesIn(
  keys: readonly string[],
  value: unknown = dashboard,
  where = 'dashboard',
): Query[] {
  if (typeof value !== 'object' || value === null) return [];
  const title = (value as { title?: unknown }).title;
  const here = typeof title === 'string' ? title : where;
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    const isQuery = keys.includes(key) && typeof inner === 'string';
    return isQuery ? [{ where: here, text: inner }] : queriesIn(keys, inner, here);
  });
}
