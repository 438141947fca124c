/** The report of drills: what a timeline says of the nodes' words, the figures, and the page. */
import {
  isBroken,
  reportOf,
  reportText,
  runText,
  type Subject,
  timelinesOf,
} from '../../src/drill/report/drill-report';
import { htmlReport } from '../../src/drill/report/html-report';
import { timelineSvg } from '../../src/drill/report/timeline-svg';
import {
  failedRun,
  figuresOfFault,
  type KeptTimeline,
  keepTimeline,
  type Run,
  type ScenarioResult,
  TIMELINES_MAX,
} from '../../src/drill/results';
import { type StateChange, timelineOf } from '../../src/drill/timeline';

const FAULT_US = 5_000_000;

const change = (ms: number, host: string, role: string, from: string, to: string): StateChange => ({
  atUs: FAULT_US + ms * 1000,
  host,
  role,
  from,
  to,
});

const FAILOVER: readonly StateChange[] = [
  change(0.4, 'b', 'standby', 'ready', 'suspecting'),
  change(5, 'b', 'standby', 'suspecting', 'promoting'),
  change(11, 'b', 'standby', 'promoting', 'active'),
  change(12, 'b', 'primary', 'starting', 'solo'),
  change(400, 'b', 'primary', 'solo', 'syncing'),
  change(450, 'b', 'primary', 'syncing', 'protected'),
];

const failover = timelineOf({
  faultUs: FAULT_US,
  fault: 'the primary is killed',
  answeredUs: FAULT_US + 14_800,
  changes: FAILOVER,
  deeds: [{ atUs: FAULT_US + 80_000, text: 'host a starts ft-standby' }],
  requests: [
    [FAULT_US - 20_000, 900],
    [FAULT_US - 100, 14_900],
    [FAULT_US + 20_000, 1100],
    [FAULT_US + 30_000, -1],
  ],
});

const run = (n: number, more: Partial<Run> = {}): Run => ({
  ...failedRun('primary-kill', n, ''),
  ...{ failoverMs: 10 + n, silenceMs: 11 + n, promotedMs: 9 + n, reprotectedMs: 400, moved: true },
  failure: undefined,
  ...more,
});

function result(runs: readonly Run[], more: Partial<ScenarioResult> = {}): ScenarioResult {
  return {
    scenario: { name: 'primary-kill', what: 'the primary is <killed> & gone' },
    verdicts: [{ requests: 500, retries: 3, lost: 0, regressed: 0, violations: [] }],
    ...{ runs, dualActive: [], framesSeen: 900 },
    timelines: [{ n: 0, failoverMs: 14.8, silenceMs: 15.1, timeline: failover }],
    ...more,
  };
}

const SUBJECT: Subject = { pair: 'sandbox', parameters: { seed: 1 }, endedEarly: undefined };

describe('a timeline', () => {
  test('tells a takeover by the nodes’ own words, in the order of time', () => {
    expect(failover.marks.map(({ kind, atMs }) => [kind, atMs])).toEqual([
      ['fault', 0],
      ['suspicion', 0.4],
      ['claim', 5],
      ['runs', 12],
      ['answers', 14.8],
      ['note', 80],
      ['note', 400],
      ['protected', 450],
    ]);
    expect(failover.marks[3]?.text).toBe('the guest runs on host b, its output open');
    expect(failover.requests).toEqual([
      [-20, 0.9],
      [-0.1, 14.9],
      [20, 1.1],
      [30, -1],
    ]);
  });

  test('tells a boot from a takeover, and a hand-over from a suspicion', () => {
    const words = (changes: readonly StateChange[]): string[] =>
      timelineOf({
        ...{ faultUs: FAULT_US, fault: 'x', answeredUs: undefined, deeds: [], requests: [] },
        changes,
      }).marks.map(({ text }) => text);
    expect(words([change(1, 'a', 'primary', 'starting', 'solo')])).toContain(
      'host a boots the guest anew',
    );
    const handed = words([
      change(1, 'a', 'primary', 'protected', 'switching'),
      change(2, 'b', 'standby', 'ready', 'suspecting'),
    ]);
    expect(handed.join()).not.toMatch(/suspects/);
  });

  test('is drawn with a flag for each mark around the failover, and reads as text', () => {
    const svg = timelineSvg(failover, 'Drill 1');
    expect(svg.match(/<circle /g)).toHaveLength(5);
    expect(svg).toContain('aria-label="Drill 1. 0.0 ms: the primary is killed;');
    expect(svg).toContain('class="silence"');
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  test('can be drawn of next to nothing', () => {
    const empty = { requests: [], marks: [{ kind: 'fault', atMs: 0, text: 'x' }] } as const;
    expect(timelineSvg(empty, 'x')).not.toMatch(/NaN|Infinity|undefined/);
  });
});

test('of many pictures the first and the slowest are kept, also where the guest never stopped', () => {
  const kept: KeptTimeline[] = [];
  for (let n = 0; n < 40; n++) {
    keepTimeline(kept, { n, failoverMs: undefined, silenceMs: n, timeline: failover });
  }
  expect(kept).toHaveLength(TIMELINES_MAX);
  expect(kept.map(({ n }) => n)).toEqual([0, ...Array.from({ length: 11 }, (_, n) => 29 + n)]);
});

describe('the report', () => {
  test('has the figures of each scenario, and is not broken by a slow one', () => {
    const report = reportOf(SUBJECT, [result([run(0), run(1), run(2)])]);
    expect(report).toMatchObject({ runs: 3, violations: 0, dualActive: 0, failures: 0 });
    expect(report.scenarios['primary-kill']).toMatchObject({
      ...{ runs: 3, failoverMsP50: 11, failoverMsMax: 12, promotedMsP50: 10, moved: 3 },
      ...{ silenceMsP50: 12, silenceMsMax: 13 },
    });
    expect(isBroken(report)).toBe(false);
    expect(report.drills).toHaveLength(3);
  });

  test('the half is not one rank too high, and a 99th percentile is of a hundred', () => {
    const of = (runs: number) => {
      const all = [result(Array.from({ length: runs }, (_, n) => run(n)))];
      const report = reportOf(SUBJECT, all);
      return {
        ...report.scenarios['primary-kill'],
        text: reportText(report),
        page: htmlReport(report, {}),
      };
    };
    const two = of(2);
    expect(two).toMatchObject({ failoverMsP50: 10, failoverMsP99: null, failoverMsMax: 11 });
    expect([two.text, two.page].join()).not.toContain('p99');
    expect(two.text).toMatch(/answers p50 +max ms/);
    expect(two.page).toContain('<b>10.0 ms</b> <span>p50,</span> <b>11.0 ms</b> <span>max</span>');
    const many = of(100);
    expect(many).toMatchObject({ failoverMsP50: 59, failoverMsP99: 108, failoverMsMax: 109 });
    expect(many.text).toMatch(/answers p50 +p99 ms/);
    expect(many.page).toContain('<b>108 ms</b> <span>p99</span>');
  });

  test('drills that failed have no figures, and are counted', () => {
    const report = reportOf(SUBJECT, [result([run(0), failedRun('primary-kill', 1, 'no end')])]);
    expect(report.scenarios['primary-kill']).toMatchObject({
      ...{ runs: 2, failures: 1, failoverMsP50: 10, failoverMsMax: 10, reprotectedMsP50: 400 },
    });
  });

  test('a guest that never stopped has a silence, and no first answer after a stop', () => {
    expect(figuresOfFault(1000, undefined, { fromUs: 500, toUs: 9500 })).toEqual({
      ...{ failoverMs: undefined, silenceMs: 9, promotedMs: undefined },
    });
    const stopped = figuresOfFault(1000, 5000, { fromUs: 500, toUs: 9500 });
    expect(stopped).toEqual({ failoverMs: 8.5, silenceMs: 9, promotedMs: 4 });
    const never = run(0, { failoverMs: undefined, promotedMs: undefined });
    expect(runText(never, 1)).toContain('1 of 1, no answer for 11.0 ms, protected again');
    const page = htmlReport(reportOf(SUBJECT, [result([never])]), {});
    expect(page).toContain('<span>longest silence</span> <b>11.0 ms</b>');
    expect(page).not.toContain('first answer after');
  });

  test('of a live pair it says of two active sides only that nobody watched', () => {
    const live = { ...SUBJECT, pair: 'live' } as const;
    const report = reportOf(live, [result([run(0)], { dualActive: undefined, framesSeen: 0 })]);
    expect([report.dualActive, report.scenarios['primary-kill']?.dualActive]).toEqual([null, null]);
    expect(isBroken(report)).toBe(false);
    const text = reportText(report);
    expect(text).toContain('two active sides: not watched');
    expect(text).toMatch(/primary-kill +1 +0 +– +0 /);
    const page = htmlReport(report, {});
    expect(page).toContain('<dt>two active sides</dt><dd>– <small>not watched</small></dd>');
    expect(page).toContain(
      'Clients were answered again, and the pair was protected again each time.',
    );
    expect(page).not.toMatch(/one side|never saw/);
  });

  test('what was watched in part is not called clean', () => {
    const other = { scenario: { name: 'link-cut', what: 'cut' }, dualActive: undefined };
    const report = reportOf(SUBJECT, [result([run(0)]), result([run(1)], other)]);
    expect(report.dualActive).toBe(0);
    expect(htmlReport(report, {})).not.toContain('never saw');
  });

  test('without a drill no promise is called kept', () => {
    const report = reportOf({ ...SUBJECT, endedEarly: 'a signal came' }, []);
    const page = htmlReport(report, {});
    expect(page).toContain('<header class="banner none">');
    expect(page).toContain(
      '<h1>No drill was done</h1><p>0 drills. So nothing was judged. Ended early',
    );
    expect(page).not.toMatch(/No answer was lost|never saw/);
  });

  test.each([
    [
      'a lost answer',
      {
        verdicts: [
          {
            requests: 1,
            retries: 0,
            lost: 1,
            regressed: 0,
            violations: [{ story: 'put 7 is gone' }],
          },
        ],
      },
      'put 7 is gone',
    ],
    [
      'two active sides',
      { dualActive: [{ host: 'a', fromUs: 1, toUs: 2, frames: 3, story: 'host a sent' }] },
      'two active sides: host a sent',
    ],
    [
      'a drill that failed',
      { runs: [failedRun('primary-kill', 0, 'never <protected>')] },
      'drill 1: never <protected>',
    ],
  ] as const)('%s breaks it, and is told', (_what, more, story) => {
    const broken = result([run(0)], more as Partial<ScenarioResult>);
    const report = reportOf(SUBJECT, [broken]);
    expect(isBroken(report)).toBe(true);
    expect(reportText(report)).toContain(story);
    const page = htmlReport(report, timelinesOf([broken]));
    expect(page).toMatch(/<h1>A (promise was broken|drill did not come to its end)/);
    expect(page).not.toContain('was kept');
    expect(page).toContain(story.replace('<', '&lt;').replace('>', '&gt;'));
  });

  test('an early end is told', () => {
    const report = reportOf({ ...SUBJECT, endedEarly: 'a signal came' }, [result([run(0)])]);
    expect(reportText(report)).toContain('Ended early: a signal came');
    expect(htmlReport(report, {})).toContain('Ended early: a signal came');
  });

  test('the page needs nothing else, and what processes said cannot become part of it', () => {
    const page = htmlReport(reportOf(SUBJECT, [result([run(0)])]), { 'primary-kill': [] });
    expect(page).not.toMatch(/<script|<link|<img|@import|url\(|https?:/);
    expect(page).toContain('the primary is &lt;killed&gt; &amp; gone');
  });
});
