/** Log lines and metrics. */
import { Histogram } from '../../src/common/histogram';
import { lineLogger } from '../../src/observe/logger';
import { NodeMetrics } from '../../src/observe/metrics';
import { newNodeFigures } from '../../src/observe/node-figures';

describe('lineLogger', () => {
  const lines: string[] = [];
  const logger = lineLogger(
    (line) => lines.push(line),
    () => new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 678)),
  );

  beforeEach(() => lines.splice(0));

  test('a line has time, level, message and facts', () => {
    logger.info('standby is ready', { pair: 'web', epoch: 120, base: true, nothing: undefined });
    logger.warn('link lost');
    logger.error('no', { code: 'FT_ERR_X', path: '/a b' });
    expect(lines).toEqual([
      '2026-01-02T03:04:05.678Z info  standby is ready pair=web epoch=120 base=true\n',
      '2026-01-02T03:04:05.678Z warn  link lost\n',
      '2026-01-02T03:04:05.678Z error no code=FT_ERR_X path="/a b"\n',
    ]);
  });

  test("a peer's text can neither break a line nor steer a terminal", () => {
    logger.info('said\n2026 error forged', { text: 'a"b\n\u001b[2J\u009b2J', empty: '' });
    expect(lines).toEqual([
      '2026-01-02T03:04:05.678Z info  said\\u000a2026 error forged ' +
        'text="a\\"b\\n\\u001b[2J\\u009b2J" empty=""\n',
    ]);
  });
});

describe('NodeMetrics', () => {
  test('shows what was counted, when it is asked', async () => {
    const figures = newNodeFigures();
    const metrics = new NodeMetrics(figures);
    figures.role = 'primary';
    figures.epochsCut = 12;
    figures.protected = true;
    figures.syncProgress = 0.25;
    figures.failovers = new Map([['silence', 2]]);
    for (const us of [4, 9, 20, 100, 1000, 20e6]) figures.pauseUs.record(us);
    metrics.refresh = () => {
      figures.generation = 3;
    };
    const text = await metrics.text();
    for (const line of [
      '# TYPE ft_epochs_cut_total counter',
      'ft_epochs_cut_total 12',
      'ft_epochs_committed_total 0',
      'ft_generation 3',
      'ft_protected 1',
      'ft_sync_progress_ratio 0.25',
      'ft_role{role="primary"} 1',
      'ft_role{role="standby"} 0',
      'ft_failovers_total{cause="silence"} 2',
      '# TYPE ft_epoch_pause_seconds histogram',
      'ft_epoch_pause_seconds_bucket{le="0.000008"} 1',
      'ft_epoch_pause_seconds_bucket{le="0.000016"} 2',
      'ft_epoch_pause_seconds_bucket{le="0.000128"} 4',
      'ft_epoch_pause_seconds_bucket{le="8.388608"} 5',
      'ft_epoch_pause_seconds_bucket{le="+Inf"} 6',
      'ft_epoch_pause_seconds_count 6',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(text).toMatch(/ft_epoch_pause_seconds_sum 20\.00113/);
    figures.epochsCut = 13;
    expect(await metrics.text()).toContain('ft_epochs_cut_total 13\n');
  });

  test('disks are told apart by their number', async () => {
    const metrics = new NodeMetrics();
    const zero = { reads: 0, writes: 0, flushes: 0, zeroes: 0, bytesRead: 0, bytesWritten: 0 };
    const rest = { errors: 0, regionsMarked: 0, syncBytes: 0, syncBytesLeft: 0, backlogBytes: 0 };
    metrics.refresh = () => {
      metrics.figures.disks = [
        { ...zero, ...rest, writes: 7, bytesWritten: 3584, syncBytesLeft: 65_536 },
        { ...zero, ...rest, zeroes: 2, errors: 1, backlogBytes: 512, regionsMarked: 4 },
      ];
    };
    await metrics.text();
    const text = await metrics.text();
    for (const line of [
      'ft_disk_writes_total{disk="0"} 7',
      'ft_disk_written_bytes_total{disk="0"} 3584',
      'ft_disk_sync_left_bytes{disk="0"} 65536',
      'ft_disk_discards_total{disk="1"} 2',
      'ft_disk_errors_total{disk="1"} 1',
      'ft_disk_backlog_bytes{disk="1"} 512',
      'ft_disk_regions_marked{disk="1"} 4',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
  });

  test('every promised name is there', async () => {
    const text = await new NodeMetrics().text();
    for (const name of [
      'ft_epochs_in_flight',
      'ft_epoch_ack_seconds',
      'ft_output_delay_seconds',
      'ft_epoch_dirty_pages_total',
      'ft_replication_raw_bytes_total',
      'ft_replication_wire_bytes_total',
      'ft_outbox_frames',
      'ft_outbox_bytes',
      'ft_heartbeats_missed_total',
      'ft_lease_expired_total',
      'ft_audit_mismatches_total',
      'ft_failovers_total',
      'ft_event_loop_delay_seconds',
    ]) {
      expect(text).toContain(`# HELP ${name} `);
    }
  });

  test('says of histograms what the registry would say', async () => {
    const metrics = new NodeMetrics(newNodeFigures(), { pair: 'a "b"\\c', node: 'x' });
    const { figures } = metrics;
    for (const stage of ['wake', 'encode']) figures.stages.set(stage, new Histogram());
    for (const us of [0, 1, 2, 63, 64, 65, 1e4, 1e9]) {
      figures.epochPages.record(us);
      figures.pauseUs.record(us);
      figures.stages.get('wake')?.record(us);
    }
    /** Series with its labels in order → value. */
    const seriesOf = (page: string): string[] =>
      page
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('process_'))
        .map((line) =>
          line.replace(/\{(.*)\}/, (_all, labels: string) =>
            labels
              .split(/,(?=[a-z]+=)/)
              .sort()
              .join(),
          ),
        )
        .sort();
    const own = await metrics.text();
    expect(seriesOf(own)).toEqual(seriesOf(await metrics.registry.metrics()));
    // Pages are whole numbers: 63 is at most 63, and 64 is not.
    expect(own).toMatch(/^ft_epoch_pages_bucket\{le="63",.*\} 4$/m);
    expect(own).toMatch(/^ft_epoch_pages_bucket\{le="127",.*\} 6$/m);
  });

  test('who asks while a page is made gets the same; turns of the loop come between', async () => {
    const metrics = new NodeMetrics();
    let refreshed = 0;
    metrics.refresh = () => {
      refreshed += 1;
    };
    const pages = await Promise.all(Array.from({ length: 50 }, () => metrics.text()));
    expect(new Set(pages).size).toBe(1);
    expect(refreshed).toBe(1);
    await metrics.text();
    expect(refreshed).toBe(2);
  });

  test('two nodes in one process do not mix', async () => {
    const [a, b] = [new NodeMetrics(), new NodeMetrics()];
    a.figures.epochsCut = 1;
    expect(await b.text()).toContain('ft_epochs_cut_total 0\n');
  });
});
