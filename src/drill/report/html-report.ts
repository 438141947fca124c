/**
 * The report as one HTML page that needs nothing else: no script, no font, no address. What was
 * promised and kept or broken stands first, then a line for each scenario, then each scenario with
 * pictures of its drills.
 */
import { quantileOf } from '../../common/quantile';
import type { KeptTimeline } from '../results';
import {
  type DrillReport,
  isBroken,
  type ScenarioFigures,
  type Timelines,
  tailOf,
} from './drill-report';
import { STYLE } from './html-style';
import { duration, escapeHtml, place } from './html-text';
import { figure } from './report';
import { timelineSvg } from './timeline-svg';

/** So many pictures of a scenario are open at once; the others unfold. */
const OPEN_PICTURES = 2;
const SPREAD_WIDTH = 190;
const SPREAD_HEIGHT = 22;
const SPREAD_MS_MIN = 1;
const SPREAD_MS_MAX = 2000;

/** The whole page. */
export function htmlReport(report: DrillReport, timelines: Timelines): string {
  const title = headline(report);
  const names = Object.keys(report.scenarios);
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeHtml(title)} – failover drills</title>`,
    `<style>${STYLE}</style></head><body><main>`,
    banner(report, title),
    facts(report),
    summary(report),
    ...names.map((name) => scenarioCard(report, name, timelines[name] ?? [])),
    footer(report),
    '</main></body></html>\n',
  ].join('\n');
}

function headline(report: DrillReport): string {
  if (report.violations + (report.dualActive ?? 0) > 0) return 'A promise was broken';
  if (isBroken(report)) return 'A drill did not come to its end';
  return report.runs === 0 ? 'No drill was done' : 'Every promise was kept';
}

function banner(report: DrillReport, title: string): string {
  const { runs, endedEarly, pair } = report;
  const kind = isBroken(report) ? ' bad' : runs === 0 ? ' none' : '';
  const early = endedEarly === null ? '' : ` Ended early: ${escapeHtml(endedEarly)}`;
  const subject = pair === 'sandbox' ? 'a sandbox pair' : 'a live pair';
  const when = `<time datetime="${report.date}">${report.date.slice(0, 16).replace('T', ' ')} UTC</time>`;
  return (
    `<header class="banner${kind}">` +
    `<p class="kicker">Failover drills on ${subject} · ${when}</p>` +
    `<h1>${title}</h1><p>${count(runs, 'drill')}. ${verdict(report)}${early}</p></header>`
  );
}

/** What the drills showed, and nothing that nobody looked at. */
function verdict(report: DrillReport): string {
  const { runs, violations, dualActive, failures, pair } = report;
  if (isBroken(report)) {
    const sides =
      dualActive === null ? '' : ` ${count(dualActive, 'moment')} with two active sides,`;
    return (
      `${count(violations, 'client violation')},${sides} ${count(failures, 'drill')} that did not ` +
      'come to an end. The words are below.'
    );
  }
  if (runs === 0) return 'So nothing was judged.';
  const isWatched = Object.values(report.scenarios).every((one) => one.dualActive !== null);
  const shown = [
    pair === 'sandbox'
      ? 'No answer was lost, repeated or contradicted'
      : 'Clients were answered again',
    ...(isWatched ? ['the network never saw two active sides'] : []),
    'the pair was protected again each time',
  ];
  return `${shown.slice(0, -1).join(', ')}, and ${shown.at(-1)}.`;
}

function count(value: number, one: string): string {
  return `${figure(value)} ${one}${value === 1 ? '' : 's'}`;
}

function facts(report: DrillReport): string {
  const scenarios = Object.values(report.scenarios);
  const requests = scenarios.reduce((sum, one) => sum + one.requests, 0);
  const longest = scenarios.reduce((most, one) => Math.max(most, one.silenceMsMax ?? 0), 0);
  const { dualActive } = report;
  const entries: readonly (readonly [string, string, boolean])[] = [
    ['drills', figure(report.runs), false],
    ['client requests', figure(requests), false],
    ['client violations', figure(report.violations), report.violations > 0],
    dualActive === null
      ? ['two active sides', '– <small>not watched</small>', false]
      : ['two active sides', figure(dualActive), dualActive > 0],
    ['drills that failed', figure(report.failures), report.failures > 0],
    ['longest silence', longest === 0 ? '–' : duration(longest), false],
  ];
  const cells = entries.map(
    ([name, value, bad]) =>
      `<div><dt>${name}</dt><dd${bad ? ' class="bad"' : ''}>${value}</dd></div>`,
  );
  return `<dl class="facts">${cells.join('')}</dl>`;
}

function summary(report: DrillReport): string {
  if (report.runs === 0) return '';
  const { key, word } = tailOf(report);
  const heads = [
    ...['scenario', 'drills', 'violations', 'two active', 'failed'],
    ...[`guest runs p50&nbsp;/&nbsp;${word}`, `first answer p50&nbsp;/&nbsp;${word}`],
    ...['protected again&nbsp;p50', 'longest silences 1&nbsp;ms&nbsp;…&nbsp;2&nbsp;s'],
  ];
  const rows = Object.entries(report.scenarios).map(([name, one]) => {
    const bad = (value: number | null): string => {
      if (value === null) return `<td title="not watched">–</td>`;
      return `<td${value > 0 ? ' class="bad"' : ''}>${value}</td>`;
    };
    const pair = (p50: number | null, tail: number | null): string =>
      p50 === tail ? `<td>${duration(p50)}</td>` : `<td>${duration(p50)} / ${duration(tail)}</td>`;
    return [
      `<tr><th scope="row"><a href="#${name}">${escapeHtml(name)}</a></th><td>${one.runs}</td>`,
      bad(one.violations),
      bad(one.dualActive),
      bad(one.failures),
      pair(one.promotedMsP50, one[`promotedMs${key}`]),
      pair(one.failoverMsP50, one[`failoverMs${key}`]),
      `<td>${duration(one.reprotectedMsP50)}</td>`,
      `<td class="spread">${spreadSvg(report, name)}</td></tr>`,
    ].join('');
  });
  return (
    '<div class="scroll" tabindex="0" role="region" aria-label="All scenarios"><table><thead><tr>' +
    heads.map((head) => `<th scope="col">${head}</th>`).join('') +
    `</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`
  );
}

/** The longest silence of each drill on one axis, so that scenarios can be compared at a glance. */
function spreadSvg(report: DrillReport, name: string): string {
  const times = report.drills
    .filter(({ scenario }) => scenario === name)
    .map(({ silenceMs }) => silenceMs)
    .filter((ms) => ms !== undefined);
  if (times.length === 0) return '–';
  const x = (ms: number): string => {
    const bounded = Math.min(SPREAD_MS_MAX, Math.max(SPREAD_MS_MIN, ms));
    const share = Math.log(bounded / SPREAD_MS_MIN) / Math.log(SPREAD_MS_MAX / SPREAD_MS_MIN);
    return place(6 + share * (SPREAD_WIDTH - 12));
  };
  const middle = SPREAD_HEIGHT / 2;
  const grid = [1, 10, 100, 1000].map((ms) => `M${x(ms)} 2V${SPREAD_HEIGHT - 2}`).join('');
  const spots = [...new Set(times.map((ms) => `M${x(ms)} ${middle}h0`))].join('');
  const half = x(quantileOf(times, 0.5));
  const label = `${times.length} silences, from ${duration(quantileOf(times, 0))} to ${duration(quantileOf(times, 1))}`;
  return (
    `<svg class="spread" viewBox="0 0 ${SPREAD_WIDTH} ${SPREAD_HEIGHT}" role="img" ` +
    `aria-label="${label}"><path class="grid" d="${grid}"/>` +
    `<path class="spread-dots" d="${spots}"/>` +
    `<path class="spread-half" d="M${half} 3V${SPREAD_HEIGHT - 3}"/></svg>`
  );
}

function scenarioCard(
  report: DrillReport,
  name: string,
  pictures: readonly KeptTimeline[],
): string {
  const one = report.scenarios[name];
  if (one === undefined) return '';
  return [
    `<section class="card" id="${name}"><h2>${escapeHtml(name)}</h2>`,
    `<p class="what">${escapeHtml(one.what)}</p>`,
    chips(one),
    stories(one),
    drills(pictures, one),
    '</section>',
  ].join('\n');
}

function chips(one: ScenarioFigures): string {
  const both = (of: 'promotedMs' | 'failoverMs' | 'silenceMs' | 'blackoutMs') => {
    const { [`${of}P50` as const]: p50, [`${of}P99` as const]: p99 } = one;
    const [tail, word] = p99 === null ? [one[`${of}Max`], 'max'] : [p99, 'p99'];
    if (p50 === null) return undefined;
    if (p50 === tail) return `<b>${duration(p50)}</b>`;
    return `<b>${duration(p50)}</b> <span>p50,</span> <b>${duration(tail)}</b> <span>${word}</span>`;
  };
  const entries: readonly (readonly [string, string | undefined])[] = [
    ['guest runs after', both('promotedMs')],
    ['first answer after', both('failoverMs')],
    ['longest silence', both('silenceMs')],
    ['guest stood still for', both('blackoutMs')],
    [
      'protected again in',
      one.reprotectedMsP50 === null
        ? undefined
        : `<b>${duration(one.reprotectedMsP50)}</b> <span>p50</span>`,
    ],
    [
      'moved to the other host',
      one.runs === 0 ? undefined : `<b>${one.moved}</b> <span>of ${one.runs}</span>`,
    ],
    ['lost with both hosts', one.guestsLost === 0 ? undefined : `<b>${one.guestsLost}</b>`],
  ];
  const items = entries
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `<li><span>${label}</span> ${value}</li>`);
  return `<ul class="chips">${items.join('')}</ul>`;
}

function stories(one: ScenarioFigures): string {
  if (one.stories.length === 0) return '';
  const words = one.stories.map((story) => `<pre>${escapeHtml(story)}</pre>`).join('');
  return `<div class="stories" role="alert"><strong>What went wrong</strong>${words}</div>`;
}

function drills(pictures: readonly KeptTimeline[], one: ScenarioFigures): string {
  if (pictures.length === 0) return '';
  const figures = pictures.map((picture) => drillFigure(picture, one));
  const [open, folded] = [figures.slice(0, OPEN_PICTURES), figures.slice(OPEN_PICTURES)];
  const which =
    pictures.length < one.runs ? `, the first and the slowest of ${one.runs} drills` : '';
  const more =
    folded.length === 0
      ? ''
      : `<details><summary>${count(folded.length, 'more picture')}${which}</summary>` +
        `<div class="drills">${folded.join('\n')}</div></details>`;
  return `<div class="drills">${open.join('\n')}</div>${more}`;
}

function drillFigure(picture: KeptTimeline, one: ScenarioFigures): string {
  const { n, failoverMs, silenceMs, timeline } = picture;
  const title = [
    `Drill ${n + 1} of ${one.runs}`,
    ...(failoverMs === undefined ? [] : [`first answer after ${duration(failoverMs)}`]),
    ...(silenceMs === undefined ? [] : [`silence of ${duration(silenceMs)}`]),
  ].join(', ');
  const marks = timeline.marks.map(
    ({ kind, atMs, text }, index) =>
      `<li><i class="${kind}">${index + 1}</i><time>${duration(atMs)}</time>` +
      `<span>${escapeHtml(text)}</span></li>`,
  );
  return (
    `<figure><figcaption>${escapeHtml(title)}</figcaption>${timelineSvg(timeline, title)}` +
    `<ol class="marks">${marks.join('')}</ol></figure>`
  );
}

function footer(report: DrillReport): string {
  const parameters = Object.entries(report.parameters).map(
    ([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(JSON.stringify(value))}</dd>`,
  );
  return (
    '<footer><p>A dot is one request of a client: when it was sent, and what it took (log scale). ' +
    'The upper plot of each drill shows the time around the failover, the lower one all of it; the ' +
    'shaded part of the lower one is the upper one. Times count from the fault.</p><dl>' +
    `<dt>machine</dt><dd>${escapeHtml(report.machine)}</dd>` +
    `<dt>kernel</dt><dd>${escapeHtml(report.kernel)}</dd>` +
    `<dt>commit</dt><dd>${escapeHtml(report.commit)}</dd>${parameters.join('')}</dl></footer>`
  );
}
