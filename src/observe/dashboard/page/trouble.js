/**
 * Why a node shows nothing on this page, in words that follow its name, and what to do about it.
 * A browser tells little of why it did not connect: what it cannot tell apart is named together.
 */

/** @typedef {import('./model.js').NodeModel} NodeModel */
/** @typedef {import('./model.js').PairModel} PairModel */

/**
 * @param {NodeModel} node One that cannot be heard.
 * @param {PairModel} model
 * @returns {{ what: string, advice: string }}
 */
export function troubleOf(node, model) {
  const [own] = model.nodes;
  const { kind, said } = node.trouble;
  switch (kind) {
    case 'token':
      return { what: 'asks for a token', advice: 'Enter it above.' };
    case 'odd':
      return { what: `answers “${said.replace(/\.$/, '')}”`, advice: 'This page asks again.' };
    case 'full':
      return {
        what: 'is looked at by as many pages as it serves',
        advice: 'Close the dashboard where nobody looks at it; this page asks again.',
      };
    case 'refused':
      return {
        what: 'answers, but does not let this page read',
        advice:
          node === own
            ? 'This page asks again. What stands between may not let WebSockets through.'
            : `Give both nodes the same token, and name ${own?.origin} with --http-peer there.`,
      };
    default:
      return away(node, node === own);
  }
}

/** @param {NodeModel} node @param {boolean} isOwn */
function away(node, isOwn) {
  if (isOwn || node.heardMs > 0) return { what: 'is not reachable', advice: '' };
  const causes = ['Its node or host is down', 'the way there is blocked'];
  if (!node.origin.startsWith('https:')) {
    return { what: 'was not reached yet', advice: `${causes.join(', or ')}.` };
  }
  return {
    what: 'was not reached yet',
    advice:
      `${causes.join(', ')}, or this browser does not trust its certificate: ` +
      'install the pair’s ca.pem in this browser.',
  };
}
