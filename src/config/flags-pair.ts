/** The flags of the pair: who belongs to it, who decides, how its nodes reach each other. */
import { DEFAULT_PREFIX, ON_FENCED } from './choices';
import type { FlagSpec } from './flag-spec';

export const PAIR_FLAGS: readonly FlagSpec[] = [
  {
    group: 'Pair',
    name: 'pair',
    value: 'NAME',
    type: { kind: 'name' },
    fallback: 'default',
    help: 'name of the pair; the same on both hosts; generations are counted per pair',
  },
  {
    group: 'Pair',
    name: 'node',
    value: 'NAME',
    type: { kind: 'name' },
    help: 'name of this node at the witness, differs between hosts (host name and role if absent)',
  },
  {
    group: 'Pair',
    name: 'witness',
    value: 'file:DIR|etcd:URL[,URL…]|none',
    type: { kind: 'witness' },
    help: 'who decides which side runs: a directory that both hosts see, etcd, or nobody (needed)',
  },
  {
    group: 'Pair',
    name: 'listen',
    value: 'HOST:PORT',
    type: { kind: 'address', portMin: 0 },
    help:
      'where the primary connects to (needed by ft-standby); with it ft-primary becomes the ' +
      'standby when another node runs the guest',
  },
  {
    group: 'Pair',
    name: 'standby',
    value: 'HOST:PORT',
    type: { kind: 'address', portMin: 1 },
    repeats: true,
    reload: true,
    help:
      'where a standby listens; dialled while this node runs the guest; of several the first that ' +
      'answers is taken, and another one when it is lost',
  },
  {
    group: 'Pair',
    name: 'on-fenced',
    value: 'rejoin|exit',
    type: { kind: 'choice', choices: ON_FENCED },
    help:
      'when another node has won the guest: join as its standby in this process (default with ' +
      '--listen), or end with code 4 (default without)',
  },
  {
    group: 'Pair',
    name: 'tls-ca',
    value: 'PATH',
    type: { kind: 'path' },
    reload: 'contents',
    help: 'authorities that sign the certificates of both nodes, in PEM; with it the link is TLS 1.3',
  },
  {
    group: 'Pair',
    name: 'tls-cert',
    value: 'PATH',
    type: { kind: 'path' },
    reload: 'contents',
    help: "this node's certificate, in PEM; it names the pair (ftctl pki makes such)",
  },
  {
    group: 'Pair',
    name: 'tls-key',
    value: 'PATH',
    type: { kind: 'path' },
    reload: 'contents',
    help: 'the key of that certificate, in PEM',
  },
  {
    group: 'Pair',
    name: 'insecure',
    help:
      'allows replication, HTTP and etcd in the clear on an address that is not loopback; ' +
      'without --tls-cert anybody there can read the guest and write to it',
  },
  {
    group: 'Pair',
    name: 'force-claim',
    only: 'ft-primary',
    commandLineOnly: true,
    help: 'boots although another node owns the newest generation; only if that node is off for good',
  },
  {
    group: 'Witness',
    name: 'witness-prefix',
    value: 'PREFIX',
    type: { kind: 'prefix' },
    fallback: DEFAULT_PREFIX,
    help: 'with etcd: what the keys begin with; the same on both hosts',
  },
  {
    group: 'Witness',
    name: 'witness-ca',
    value: 'PATH',
    type: { kind: 'path' },
    help: "with etcd over https: who signs etcd's certificate, in PEM (public authorities if absent)",
  },
  {
    group: 'Witness',
    name: 'witness-cert',
    value: 'PATH',
    type: { kind: 'path' },
    help: "with etcd over https: this node's certificate, in PEM",
  },
  {
    group: 'Witness',
    name: 'witness-key',
    value: 'PATH',
    type: { kind: 'path' },
    help: 'with etcd over https: the key of that certificate, in PEM',
  },
  {
    group: 'Witness',
    name: 'witness-user',
    value: 'NAME',
    type: { kind: 'text' },
    help: 'with etcd: whom to log in as',
  },
  {
    group: 'Witness',
    name: 'witness-password-file',
    value: 'PATH',
    type: { kind: 'path' },
    help: "with etcd: file that holds that user's password",
  },
];
