/**
 * A process of its own that prepares and claims when told to. Started with a directory, or with the JSON of an
 * etcd witness's options.
 */
const { readFileSync } = require('node:fs');
const { transformSync } = require('@swc/core');

require.extensions['.ts'] = (module, file) => {
  const { code } = transformSync(readFileSync(file, 'utf8'), {
    filename: file,
    jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
    module: { type: 'commonjs' },
  });
  module._compile(code, file);
};

const { EtcdWitness } = require('../../src/witness/etcd.ts');
const { FileWitness } = require('../../src/witness/file.ts');

function open(where) {
  return where.startsWith('{') ? EtcdWitness.open(JSON.parse(where)) : FileWitness.open(where);
}

open(process.argv[2]).then((witness) => {
  process.on('message', ({ from, prepare, nodeId }) => {
    if (prepare !== undefined) {
      witness.prepare('web', prepare, nodeId).then(() => process.send('prepared'));
      return;
    }
    witness.claim('web', from, nodeId).then(
      (result) => process.send(result),
      (error) => process.send({ outcome: 'error', message: error.message }),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.send('ready');
});
