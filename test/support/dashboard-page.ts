/**
 * The logic of the dashboard's page, loaded into a test: modules for browsers, without types that
 * this side could see. A model is filled as a feed would fill it.
 */
import path from 'node:path';
import { projectRoot } from '../../src/drill/process/process';

export interface Trouble {
  readonly kind: string;
  readonly said: string;
}

/** A node as the page knows it: model.js. */
export interface PageNode {
  readonly origin: string;
  feed: string;
  trouble: Trouble;
}

export interface PageModel {
  readonly nodes: PageNode[];
  take(node: PageNode, message: object): readonly { readonly seq: number }[];
}

export interface Verdict {
  readonly level: string;
  readonly title: string;
  readonly text: string;
  readonly action: string;
}

/** The feed of a node: feed.js. */
export interface PageFeed {
  readonly state: string;
  readonly trouble: Trouble;
  open(): void;
}

interface PageModules {
  readonly NodeModel: new (origin: string) => PageNode;
  readonly PairModel: new () => PageModel;
  readonly verdictOf: (model: PageModel) => Verdict;
  readonly troubleOf: (node: PageNode, model: PageModel) => { what: string; advice: string };
  readonly NodeFeed: new (
    origin: string,
    token: () => string | undefined,
    onMessage: (message: object) => void,
    onState: (feed: PageFeed) => void,
  ) => PageFeed;
}

const load = (name: string): Partial<PageModules> =>
  jest.requireActual(path.join(projectRoot, 'src/observe/dashboard/page', name));

export const page = {
  ...load('feed.js'),
  ...load('model.js'),
  ...load('trouble.js'),
  ...load('verdict.js'),
} as PageModules;

type Status = Readonly<Record<string, string | number | boolean>>;

export const event = (seq: number): object => ({
  ...{ seq, at: new Date().toISOString(), level: 'info', kind: 'note', text: `event ${seq}` },
  ...{ role: 'primary', state: 'solo', generation: 1, epoch: 0, life: 1, facts: {} },
});

/** What a node says first. */
export function hello(node: string, sample: Status, more: object = {}): object {
  const history = { fields: ['at', 'role', 'state'], rows: [] };
  const common = { type: 'hello', pair: 'web', peers: [], started: 1, events: [] };
  return { ...common, node, at: Date.now(), sample, history, ...more };
}

/** A model of nodes that are live and said this of themselves; those that are not were not heard. */
export function pairOf(statuses: Readonly<Record<string, Status | Trouble>>): PageModel {
  const model = new page.PairModel();
  for (const [name, status] of Object.entries(statuses)) {
    const node = new page.NodeModel(`http://${name}:9100`);
    model.nodes.push(node);
    if (typeof status['kind'] === 'string') {
      node.feed = 'lost';
      node.trouble = status as Trouble;
    } else {
      model.take(node, hello(name, status as Status));
      node.feed = 'live';
    }
  }
  return model;
}
