/**
 * Opens a node's HTTP server (--http): health, metrics, the dashboard and its feed, put together from
 * parts that do not know each other.
 *
 *   GET /livez /readyz /primary /standby     open      200 or 503, and nothing else
 *   GET /  /assets/…                         open      the page: no figure is in it
 *   GET /access                              open      { "reader": whether the next two are open }
 *   GET /metrics                             reader    for Prometheus
 *   GET /feed                                reader    WebSocket, for the page
 */
import { formatAddress } from '../common/address';
import { assert } from '../common/assert';
import { systemClock } from '../common/clock';
import type { Logger } from '../common/logger';
import type { HttpConfig } from '../config/http';
import { COARSE_MS, EventLoopWatch } from '../node/event-loop';
import { copyFigures } from '../node/figures';
import type { Journal } from '../node/journal';
import { LiveSamples } from '../node/live-samples';
import type { RunningNode } from '../node/running-node';
import { pageRoutes } from '../observe/dashboard/assets';
import { Feed } from '../observe/dashboard/feed';
import { HEALTH_PATHS, isHealthy } from '../observe/health';
import { HttpAccess, TokenFile } from '../observe/http-access';
import { type HttpRoute, HttpServer, type HttpTls, plain } from '../observe/http-server';
import { NodeMetrics } from '../observe/metrics';
import { newNodeFigures } from '../observe/node-figures';
import { mayRead } from '../transport/tls-names';
import { httpThrottle } from './http-throttle';
import { version } from './version';

const FEED_PATH = '/feed';

/** What a command may ask of its HTTP server later. */
export interface OpenHttp {
  /**
   * Reads the token file again, or throws what is wrong with it. What it returns puts the token to use;
   * readers that came by an old one are let go, and whoever else is connected.
   */
  readTokenAgain(): () => void;
  close(): Promise<void>;
}

/**
 * Serves from now on. Rejects with FT_ERR_PORT_TAKEN, FT_ERR_LISTEN, FT_ERR_HTTP_TOKEN or
 * FT_ERR_DASHBOARD.
 */
export async function openHttp(
  config: HttpConfig,
  node: RunningNode,
  journal: Journal,
  tls: HttpTls | undefined,
  logger: Logger,
): Promise<OpenHttp> {
  assert(!config.tls || tls !== undefined, 'HTTPS is served with TLS material');
  const token = config.tokenFile === undefined ? undefined : TokenFile.load(config.tokenFile);
  const { peers } = config;
  const access = new HttpAccess({
    tls: config.tls,
    token,
    peers,
    host: config.address.host,
    // Our authority may have signed for other pairs as well.
    isReader: (certificate) => mayRead(certificate, node.settings.pair),
  });
  const metrics = openMetrics(node, tls);
  const samples = new LiveSamples(node, journal, peers, systemClock);
  const feed = new Feed(() => samples.hello());
  samples.onMessage = (message) => feed.publish(message);
  const server = new HttpServer({
    access,
    tls: config.tls ? tls : undefined,
    routes: new Map([
      ...healthRoutes(node),
      ...pageRoutes(peers),
      accessRoute(access),
      metricsRoute(metrics),
    ]),
    feedPath: FEED_PATH,
    feed,
    throttle: httpThrottle(config.tls),
  });
  const address = await server.listen(config.address);
  const loop = new EventLoopWatch(COARSE_MS, metrics.figures.eventLoopDelayUs);
  samples.start();
  const scheme = config.tls ? 'https' : 'http';
  logger.info('the dashboard is served', { url: `${scheme}://${formatAddress(address)}/` });
  return {
    readTokenAgain: () => {
      const install = token?.readAgain();
      return () => {
        const before = token?.changes;
        install?.();
        if (token?.changes !== before) server.dropAll('there is another token');
      };
    },
    close: () => {
      loop.close();
      samples.stop();
      feed.close();
      return server.close();
    },
  };
}

function openMetrics(node: RunningNode, tls: HttpTls | undefined): NodeMetrics {
  const { pair, nodeId } = node.settings;
  const metrics = new NodeMetrics(newNodeFigures(), { pair, node: nodeId });
  const { figures } = metrics;
  figures.version = version();
  metrics.refresh = () => {
    copyFigures(node, figures);
    figures.tlsExpirySeconds = tls?.expirySeconds;
  };
  return metrics;
}

/** How the page learns whether it must ask for a token, without an error in the browser's console. */
function accessRoute(access: HttpAccess): [string, HttpRoute] {
  const answer: HttpRoute['answer'] = (request) => {
    const body = JSON.stringify({ reader: access.isReader(request) });
    return { status: 200, type: 'application/json', body };
  };
  // A peer's page asks as well.
  return ['/access', { access: 'open', isForOtherSites: true, answer }];
}

function metricsRoute(metrics: NodeMetrics): [string, HttpRoute] {
  const answer: HttpRoute['answer'] = async () => {
    return { status: 200, type: metrics.contentType, body: await metrics.text() };
  };
  return ['/metrics', { access: 'reader', answer }];
}

function healthRoutes(node: RunningNode): [string, HttpRoute][] {
  return HEALTH_PATHS.map((path) => {
    const answer = (): ReturnType<HttpRoute['answer']> =>
      isHealthy(path, node.state) ? plain(200, 'yes') : plain(503, 'no');
    return [path, { access: 'open', isProbe: true, answer }];
  });
}
