/**
 * The plots: what is drawn, from where, and in which words. A plot is a figure with a heading, its
 * values as text (the newest, or those under the pointer), the drawing, and a sentence that says what
 * the drawing shows.
 */
import uPlot from '/assets/uplot.js';
import { bytes, clock, counted, duration, rate } from './format.js';
import { WINDOW_S } from './model.js';

/** @typedef {import('./model.js').PairModel} PairModel */
/** @typedef {import('./model.js').Second} Second */
/** @typedef {(number | null)[]} Line */
/**
 * @typedef {object} LineSpec
 * @property {string} label
 * @property {'first' | 'second'} style
 * @property {(second: Second) => number | undefined} read
 */
/**
 * @typedef {object} PlotSpec
 * @property {string} id
 * @property {string} title
 * @property {string} about What it means, for who does not know.
 * @property {(value: number | undefined) => string} format
 * @property {boolean} isLog Values over many decades, none of them 0.
 * @property {number} roomFor What the scale has room for at least.
 * @property {LineSpec[]} lines
 */

/** @param {string} label @param {string} field @param {'first' | 'second'} style @returns {LineSpec} */
function line(label, field, style) {
  return {
    label,
    style,
    read: ({ figures }) => {
      const value = figures[field];
      return typeof value === 'number' ? value : undefined;
    },
  };
}

/** @type {PlotSpec[]} */
const PAIR_PLOTS = [
  {
    id: 'epochs',
    title: 'Epochs',
    about: 'States of the guest that the standby acknowledged.',
    format: counted('a second'),
    isLog: false,
    roomFor: 10,
    lines: [line('acknowledged', 'epochsPerSecond', 'first')],
  },
  {
    id: 'pause',
    title: 'Pause',
    about: 'How long the guest stood still for an epoch.',
    format: duration,
    isLog: true,
    roomFor: 0,
    lines: [line('median', 'pauseUsP50', 'first'), line('99 %', 'pauseUsP99', 'second')],
  },
  {
    id: 'output',
    title: 'Output delay',
    about: 'How long output was held until its epoch was safe.',
    format: duration,
    isLog: true,
    roomFor: 0,
    lines: [
      line('median', 'outputDelayUsP50', 'first'),
      line('99 %', 'outputDelayUsP99', 'second'),
    ],
  },
  {
    id: 'ack',
    title: 'Acknowledgement',
    about: 'From a cut to the word that the standby holds it.',
    format: duration,
    isLog: true,
    roomFor: 0,
    lines: [line('median', 'ackUsP50', 'first'), line('99 %', 'ackUsP99', 'second')],
  },
  {
    id: 'pages',
    title: 'Dirty pages',
    about: 'Pages of 4 KiB that the guest wrote to, for each epoch.',
    format: counted('an epoch'),
    isLog: false,
    roomFor: 10,
    lines: [line('written', 'dirtyPagesPerEpoch', 'first')],
  },
  {
    id: 'bandwidth',
    title: 'Bandwidth',
    about: 'What replication sent, and what the pages would have been unshortened.',
    format: rate,
    isLog: false,
    roomFor: 10000,
    lines: [
      line('sent', 'wireBytesPerSecond', 'first'),
      line('pages', 'rawBytesPerSecond', 'second'),
    ],
  },
  {
    id: 'outbox',
    title: 'Outbox',
    about: 'Output of the guest that waits for its epoch to be safe.',
    format: bytes,
    isLog: false,
    roomFor: 1000,
    lines: [line('held', 'outboxBytes', 'first')],
  },
];

/** @param {PairModel} model @returns {PlotSpec} */
function loopPlot(model) {
  const styles = /** @type {const} */ (['first', 'second']);
  return {
    id: 'loop',
    title: 'Event loop',
    about: 'The longest that a node’s process was away from its work.',
    format: duration,
    isLog: true,
    roomFor: 0,
    lines: model.nodes.slice(0, 2).map((node, at) => ({
      label: node.title,
      style: styles[at] ?? 'second',
      read: (second) => second.loops.get(node.name),
    })),
  };
}

/** Unprotected stretches and takeovers, drawn behind every plot. */
/** @typedef {{ from: number, to: number }} Stretch */

export class Plots {
  /** @type {Plot[]} */
  #plots = [];
  /** @type {Stretch[]} */
  stretches = [];
  /** @type {number[]} */
  takeovers = [];

  /**
   * @param {PairModel} model
   * @param {HTMLElement} parent
   * @param {HTMLElement} table
   */
  constructor(model, parent, table) {
    this.model = model;
    this.parent = parent;
    this.table = table;
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      for (const plot of this.#plots) plot.redraw();
    });
  }

  /** Made anew when the nodes' names become known: lines of the event loop are called by them. */
  build() {
    for (const plot of this.#plots) plot.remove();
    const specs = [...PAIR_PLOTS, loopPlot(this.model)];
    this.#plots = specs.map((spec) => new Plot(spec, this));
    this.table.replaceChildren(...this.#plots.flatMap((plot) => plot.rows));
    this.update();
  }

  update() {
    const end = Math.floor(Date.now() / 1000);
    const known = Math.min(end, ...this.model.seconds.keys());
    const start = Math.min(end - WINDOW_S_MIN, Math.max(end - WINDOW_S, known));
    const xs = Array.from({ length: end - start + 1 }, (_, at) => start + at);
    const seconds = xs.map((x) => this.model.seconds.get(x));
    this.#findStretches(xs, seconds);
    for (const plot of this.#plots) plot.show(xs, seconds);
  }

  /** Writes the values under the pointer everywhere; null: the newest. @param {number | null} at */
  point(at) {
    for (const plot of this.#plots) plot.tell(at);
  }

  /** @param {number[]} xs @param {(Second | undefined)[]} seconds */
  #findStretches(xs, seconds) {
    this.stretches = [];
    this.takeovers = [];
    /** @type {Stretch | undefined} */
    let open;
    let owner = '';
    /** @type {number | undefined} */
    let knownUntil;
    seconds.forEach((second, at) => {
      const x = xs[at] ?? 0;
      if (second === undefined || second.node === '') return;
      if (owner !== '' && owner !== second.node) this.takeovers.push(x);
      owner = second.node;
      if (second.state === 'protected') {
        if (open !== undefined) open.to = x;
        open = undefined;
        knownUntil = x;
        return;
      }
      if (open === undefined) {
        // Of the seconds in which nobody spoke, the last known one is the last that was good.
        open = { from: knownUntil ?? x - 1, to: x };
        this.stretches.push(open);
      }
      open.to = x;
      knownUntil = x;
    });
  }
}

class Plot {
  /** @type {Line[]} */
  #lines = [];
  /** @type {number[]} */
  #xs = [];
  /** @type {HTMLElement[]} */
  #values = [];
  /** @type {number | null} */
  #pointed = null;

  /** @param {PlotSpec} spec @param {Plots} plots */
  constructor(spec, plots) {
    this.spec = spec;
    this.plots = plots;
    this.figure = element('figure', 'plot');
    this.figure.id = `plot-${spec.id}`;
    this.summary = element('figcaption', 'unseen');
    this.chart = element('div', 'chart');
    this.chart.setAttribute('aria-hidden', 'true');
    this.when = element('span', 'plot-when');
    this.figure.append(this.#head(), this.chart, this.summary);
    plots.parent.append(this.figure);
    this.rows = spec.lines.map((one) => tableRow(spec, one));
    this.uplot = new uPlot(this.#options(), [[]], this.chart);
    this.resizer = new ResizeObserver(() => this.#resize());
    this.resizer.observe(this.chart);
  }

  remove() {
    this.resizer.disconnect();
    this.uplot.destroy();
    this.figure.remove();
  }

  redraw() {
    this.uplot.redraw();
  }

  /** @param {number[]} xs @param {(Second | undefined)[]} seconds */
  show(xs, seconds) {
    this.#xs = xs;
    this.#lines = this.spec.lines.map(({ read }) => {
      const values = seconds.map((second) => {
        const value = second === undefined ? undefined : read(second);
        // On a scale of decades there is no place for 0: nothing was measured in that second.
        return value === undefined || (this.spec.isLog && value <= 0) ? null : value;
      });
      return values.map((value, at) => value ?? fill(values, at));
    });
    this.uplot.setData([xs, ...this.#lines]);
    this.tell(this.#pointed);
    this.#summarise();
  }

  /** @param {number | null} at */
  tell(at) {
    this.#pointed = at;
    this.#lines.forEach((values, n) => {
      const shown = at === null ? newest(values) : values[at];
      const cell = this.#values[n];
      if (cell !== undefined) cell.textContent = this.spec.format(shown ?? undefined);
    });
    const x = at === null ? undefined : this.#xs[at];
    this.when.textContent = x === undefined ? '' : `at ${clock(x * 1000)}`;
  }

  #head() {
    const head = element('div', 'plot-head');
    const title = element('h3', '', this.spec.title);
    const about = element('p', 'plot-about', this.spec.about);
    const list = element('ul', 'plot-values');
    for (const { label, style } of this.spec.lines) {
      const item = element('li');
      const value = element('strong');
      this.#values.push(value);
      item.append(
        element('span', `stroke stroke-${style}`),
        value,
        element('span', 'muted', label),
      );
      list.append(item);
    }
    head.append(title, this.when, about, list);
    return head;
  }

  #summarise() {
    const sentences = this.spec.lines.map(({ label }, n) => {
      const known = (this.#lines[n] ?? []).filter((value) => value !== null).sort((a, b) => a - b);
      const { format } = this.spec;
      const now = format(newest(this.#lines[n] ?? []) ?? undefined);
      const [low, middle, high] = [known[0], known[known.length >> 1], known.at(-1)].map(format);
      const row = this.rows[n];
      [now, low, middle, high].forEach((text, column) => {
        const cell = row?.cells[column + 1];
        if (cell !== undefined) cell.textContent = text ?? '';
      });
      return `${label}: now ${now}, from ${low} to ${high}, median ${middle}.`;
    });
    this.summary.textContent = `${this.spec.title}, last five minutes. ${sentences.join(' ')}`;
  }

  #resize() {
    const width = Math.floor(this.chart.clientWidth);
    if (width > 0 && width !== this.uplot.width) this.uplot.setSize({ width, height: HEIGHT });
  }

  /** @returns {uPlot.Options} */
  #options() {
    const { format, isLog, roomFor } = this.spec;
    const axis = {
      stroke: () => color('--muted'),
      font: '12px system-ui, sans-serif',
      grid: { stroke: () => color('--grid'), width: 1 },
      ticks: { show: false },
    };
    return {
      width: 300,
      height: HEIGHT,
      // On the right, half of the last time's width.
      padding: [8, 28, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: 'romulus' }, y: false, drag: { x: false, y: false } },
      scales: {
        x: { time: true },
        y: isLog ? { distr: 3, range: decades } : { range: fromZero(roomFor) },
      },
      axes: [
        { ...axis, size: 26, space: 64, incrs: [5, 10, 15, 30, 60, 120, 300], values: times },
        {
          ...axis,
          ...(isLog ? { splits: powersOfTen } : {}),
          size: 68,
          space: 28,
          /** @param {unknown} _plot @param {number[]} ticks */
          values: (_plot, ticks) => ticks.map((tick) => shortTick(format, tick)),
        },
      ],
      series: [
        {},
        ...this.spec.lines.map(({ label, style }) => ({
          label,
          stroke: () => color(`--stroke-${style}`),
          width: 1.5,
          dash: style === 'second' ? [5, 3] : [],
          points: { show: false },
        })),
      ],
      hooks: {
        drawClear: [(/** @type {uPlot} */ plot) => this.#drawBehind(plot)],
        setCursor: [
          (/** @type {uPlot} */ plot) => {
            const at = plot.cursor.idx ?? null;
            if (at !== this.#pointed) this.plots.point(at);
          },
        ],
      },
    };
  }

  /** @param {uPlot} plot */
  #drawBehind(plot) {
    const { ctx, bbox } = plot;
    const place = (/** @type {number} */ x) =>
      Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(x, 'x', true)));
    ctx.save();
    ctx.fillStyle = color('--unprotected-band');
    for (const { from, to } of this.plots.stretches) {
      const left = place(from);
      ctx.fillRect(left, bbox.top, Math.max(2, place(to) - left), bbox.height);
    }
    ctx.strokeStyle = color('--takeover');
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([]);
    for (const x of this.plots.takeovers) {
      ctx.beginPath();
      ctx.moveTo(place(x), bbox.top);
      ctx.lineTo(place(x), bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
}

const HEIGHT = 150;
/** Narrower than this no plot gets, however new the page is. */
const WINDOW_S_MIN = 60;

/** @param {number} room @returns {(plot: unknown, min: number, max: number) => [number, number]} */
function fromZero(room) {
  return (_plot, _min, max) => [0, Math.max(max || 0, room) * 1.1];
}

/**
 * Whole decades, two of them at least.
 * @param {unknown} _plot
 * @param {number | null} min
 * @param {number | null} max
 * @returns {[number, number]}
 */
function decades(_plot, min, max) {
  const low = 10 ** Math.floor(Math.log10(min || 10));
  return [low, Math.max(low * 100, 10 ** Math.ceil(Math.log10(max || 10)))];
}

/** @param {unknown} _plot @param {unknown} _axis @param {number} min @param {number} max */
function powersOfTen(_plot, _axis, min, max) {
  const count = Math.round(Math.log10(max / min)) + 1;
  const step = count > 5 ? 2 : 1;
  return Array.from({ length: Math.ceil(count / step) }, (_, n) => min * 10 ** (n * step));
}

/** @param {uPlot} plot @param {number[]} ticks */
function times(plot, ticks) {
  const { min = 0, max = 0 } = plot.scales['x'] ?? {};
  const chars = Number(max) - Number(min) > 180 ? 5 : 8;
  return ticks.map((tick) => clock(tick * 1000).slice(0, chars));
}

/** The unit stands beside the values above; here there is room for short ones alone. */
/** @param {(value: number) => string} format @param {number} tick */
function shortTick(format, tick) {
  if (tick === 0) return '0';
  const text = format(tick).replace(/ (a second|an epoch)$/, '');
  return text.replace(/\/s$/, '');
}

/** A second in which no sample fell, between two in which one did. @param {Line} values @param {number} at */
function fill(values, at) {
  const [before, after] = [values[at - 1] ?? null, values[at + 1] ?? null];
  return before !== null && after !== null ? before : null;
}

/** Of the last seconds; null when nothing is known of them. @param {Line} values */
function newest(values) {
  return values.slice(-4).findLast((value) => value !== null) ?? null;
}

/** @param {PlotSpec} spec @param {LineSpec} one @returns {HTMLTableRowElement} */
function tableRow(spec, one) {
  const row = document.createElement('tr');
  const head = element(
    'th',
    '',
    spec.lines.length > 1 ? `${spec.title}, ${one.label}` : spec.title,
  );
  head.setAttribute('scope', 'row');
  row.append(head, ...[0, 1, 2, 3].map(() => document.createElement('td')));
  return row;
}

/** @param {string} name */
function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @param {string} tag @param {string} [className] @param {string} [text] */
function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className !== '') made.className = className;
  if (text !== '') made.textContent = text;
  return made;
}
