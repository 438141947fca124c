/**
 * The text of one metric on the page, in Prometheus' format. What stands before a value (name and
 * labels) never changes, so it is put together once a series and kept: a scrape makes no objects for
 * its lines.
 *
 *   # HELP ft_role 1 for the role that this node has.
 *   # TYPE ft_role gauge
 *   ft_role{role="primary",pair="web",node="a"} 1
 *   └──────────────── head ──────────────────┘
 */

export type Labels = Readonly<Record<string, string | number>>;

export class SeriesText {
  private readonly intro: string;
  private readonly heads = new Map<string, string>();

  constructor(
    private readonly name: string,
    help: string,
    type: 'counter' | 'gauge' | 'histogram',
  ) {
    this.intro = `# HELP ${name} ${help}\n# TYPE ${name} ${type}`;
  }

  /** The two lines that every metric begins with. */
  begin(): string {
    return this.intro;
  }

  /**
   * One line, with the line break before it. `key` tells this series from the others of the metric;
   * `labels` are asked for when it is new. `suffix` follows the name.
   */
  line(key: string, value: number, labels: () => Labels, suffix = ''): string {
    let head = this.heads.get(key);
    if (head === undefined) {
      head = `\n${this.name}${suffix}${inBraces(labels())} `;
      this.heads.set(key, head);
    }
    return head + valueText(value);
  }
}

function inBraces(labels: Labels): string {
  const words = Object.entries(labels).map(([name, value]) => `${name}="${escaped(`${value}`)}"`);
  return words.length === 0 ? '' : `{${words.join(',')}}`;
}

/** As the text format wants a label's value. */
function escaped(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/"/g, '\\"');
}

function valueText(value: number): string {
  if (Number.isFinite(value)) return `${value}`;
  if (Number.isNaN(value)) return 'Nan';
  return value > 0 ? '+Inf' : '-Inf';
}
