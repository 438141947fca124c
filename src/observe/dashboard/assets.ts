/**
 * The dashboard's page and what belongs to it: read once, when the server is opened, and served from
 * memory. No path of a request ever reaches the file system. The files are served as they are
 * written (src/observe/dashboard/page), the plotting library as its package has it.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { FtError, toFtError } from '../../common/errors';
import type { HttpAnswer, HttpRoute } from '../http-server';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** File in the page's folder → path on the server. */
const PAGE: Readonly<Record<string, string>> = {
  'index.html': '/',
  'style.css': '/assets/style.css',
  'figures.css': '/assets/figures.css',
  'app.js': '/assets/app.js',
  'feed.js': '/assets/feed.js',
  'format.js': '/assets/format.js',
  'model.js': '/assets/model.js',
  'plots.js': '/assets/plots.js',
  'trouble.js': '/assets/trouble.js',
  'verdict.js': '/assets/verdict.js',
  'view.js': '/assets/view.js',
  'icon.svg': '/assets/icon.svg',
};

/**
 * Routes of the page, open to whoever reaches the port: there is nothing in it but what everybody
 * may read in the source. What it shows comes by the feed.
 * @param peers Origins that the page may open a feed to.
 * @throws FtError FT_ERR_DASHBOARD when a file is missing: the installation is not whole.
 */
export function pageRoutes(peers: readonly string[]): ReadonlyMap<string, HttpRoute> {
  const folder = pageFolder();
  const routes = new Map<string, HttpRoute>();
  for (const [file, where] of Object.entries(PAGE)) {
    const body = read(path.join(folder, file));
    const headers = where === '/' ? pageHeaders(peers) : {};
    routes.set(where, fixed(file, body, headers));
  }
  routes.set('/assets/uplot.js', fixed('.js', readPackaged('uplot/dist/uPlot.esm.js')));
  routes.set('/assets/uplot.css', fixed('.css', readPackaged('uplot/dist/uPlot.min.css')));
  return routes;
}

/**
 * Scripts and styles of this server, its feed and those of the peers, before each of which comes a
 * request (feed.js), and nothing from anywhere else.
 */
function pageHeaders(peers: readonly string[]): Readonly<Record<string, string>> {
  const sockets = peers.map((peer) => peer.replace(/^http/, 'ws'));
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    ["connect-src 'self'", ...sockets, ...peers].join(' '),
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return { 'Content-Security-Policy': policy.join('; ') };
}

function fixed(
  file: string,
  body: Buffer,
  headers: Readonly<Record<string, string>> = {},
): HttpRoute {
  const type = TYPES[path.extname(file) || file] ?? 'application/octet-stream';
  const answer: HttpAnswer = { status: 200, type, body, headers };
  return { access: 'open', answer: () => answer };
}

/** The sources lie beside this file, or, when it was compiled to dist/, beside its own source. */
function pageFolder(): string {
  const compiled = `${path.sep}dist${path.sep}src${path.sep}`;
  const at = __dirname.lastIndexOf(compiled);
  const source =
    at < 0
      ? __dirname
      : path.join(__dirname.slice(0, at), 'src', __dirname.slice(at + compiled.length));
  return path.join(source, 'page');
}

function readPackaged(name: string): Buffer {
  return read(require.resolve(name));
}

function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (thrown) {
    const cause = toFtError(thrown).message;
    const message = `A file of the dashboard cannot be read (${cause}); install Romulus again.`;
    throw new FtError('FT_ERR_DASHBOARD', message, { file }, thrown);
  }
}
