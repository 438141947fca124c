/**
 * Counters and gauges whose numbers are read when somebody scrapes: prom-client's own kinds, which
 * also know how to write their part of the page cheaply (series-text.ts).
 */
import { Counter, Gauge, type Registry } from 'prom-client';
import type { Reading, ValueRow } from './metric-table';
import type { NodeFigures } from './node-figures';
import { type Labels, SeriesText } from './series-text';

/** A metric that writes its own part of the page; `common` are the labels of every series. */
export interface WritesText {
  text(common: Labels): string;
}

export class FigureCounter extends Counter<string> implements WritesText {
  private readonly writer: ValueText;

  constructor(row: ValueRow, figures: NodeFigures, registers: Registry[]) {
    const { name, help, label, read } = row;
    super({
      ...{ name, help, registers, labelNames: namesOf(label) },
      collect() {
        this.reset();
        each(read(figures), label, (labels, value) => this.inc(labels, value));
      },
    });
    this.writer = new ValueText(row, figures, 'counter');
  }

  text(common: Labels): string {
    return this.writer.text(common);
  }
}

export class FigureGauge extends Gauge<string> implements WritesText {
  private readonly writer: ValueText;

  constructor(row: ValueRow, figures: NodeFigures, registers: Registry[]) {
    const { name, help, label, read } = row;
    super({
      ...{ name, help, registers, labelNames: namesOf(label) },
      collect() {
        this.reset();
        const reading = read(figures);
        // Without a label a reset gauge shows 0, which is not the same as nothing.
        if (reading === undefined) this.remove();
        each(reading, label, (labels, value) => this.set(labels, value));
      },
    });
    this.writer = new ValueText(row, figures, 'gauge');
  }

  text(common: Labels): string {
    return this.writer.text(common);
  }
}

class ValueText {
  private readonly series: SeriesText;

  constructor(
    private readonly row: ValueRow,
    private readonly figures: NodeFigures,
    type: 'counter' | 'gauge',
  ) {
    this.series = new SeriesText(row.name, row.help, type);
  }

  text(common: Labels): string {
    const { label, read } = this.row;
    const { series } = this;
    const reading = read(this.figures);
    let text = series.begin();
    if (reading === undefined) return text;
    if (typeof reading === 'number') return text + series.line('', reading, () => common);
    for (const [key, value] of reading) {
      text += series.line(key, value, () => ({ ...labelled(label, key), ...common }));
    }
    return text;
  }
}

function namesOf(label: string | undefined): string[] {
  return label === undefined ? [] : [label];
}

function labelled(label: string | undefined, key: string): Record<string, string> {
  return label === undefined ? {} : { [label]: key };
}

/** Hands every number of a reading to `show`, with its labels. */
function each(
  reading: Reading,
  label: string | undefined,
  show: (labels: Record<string, string>, value: number) => void,
): void {
  if (reading === undefined) return;
  if (typeof reading === 'number') show({}, reading);
  else for (const [key, value] of reading) show(labelled(label, key), value);
}
