/** The manual pages, each made from what the command itself says of its words and flags. */
import { flagsOf } from '../config/flags';
import { helpText } from '../config/help';
import { type ManPage, manPage } from '../config/man';
import { settingsPage } from '../config/man-settings';
import { drillHelp } from '../drill/help';
import { ctlHelp } from './ctl/help-text';
import { ctlManBody } from './ctl/man-body';
import { CTL_COMMANDS } from './ctl/table';
import { version } from './version';

/** File name in docs/man → the page. */
export function manPages(): ReadonlyMap<string, string> {
  const pages = new Map<string, string>();
  const add = (page: Omit<ManPage, 'version'>): void => {
    pages.set(`${page.name}.${page.section}`, manPage({ ...page, version: version() }));
  };
  add({
    name: 'ft-primary',
    section: 1,
    about: 'runs a virtual machine and keeps a copy of it on another host',
    help: helpText('ft-primary'),
    more: NODE_SECTIONS,
    seeAlso: ['ft-standby(1)', 'ftctl(1)', 'romulus.yaml(5)'],
  });
  add({
    name: 'ft-standby',
    section: 1,
    about: 'holds the copy of a virtual machine and goes on with it when its host is lost',
    help: helpText('ft-standby'),
    more: NODE_SECTIONS,
    seeAlso: ['ft-primary(1)', 'ftctl(1)', 'romulus.yaml(5)'],
  });
  add({
    name: 'ftctl',
    section: 1,
    about: 'asks a node how it is doing, and tells it what to do',
    help: ctlHelp(CTL_COMMANDS),
    body: ctlManBody(CTL_COMMANDS),
    more: [],
    seeAlso: ['ft-primary(1)', 'ft-standby(1)'],
  });
  add({
    name: 'ft-drill',
    section: 1,
    about: 'does something wrong to a protected pair, and judges what clients saw of it',
    help: drillHelp(),
    more: [],
    seeAlso: ['ft-primary(1)', 'ftctl(1)'],
  });
  pages.set('romulus.yaml.5', settingsPage(flagsOf('ft-primary'), version()));
  return pages;
}

const NODE_SECTIONS: ManPage['more'] = [
  [
    'ENVIRONMENT',
    [
      'ROMULUS_NAME, with the name of a flag in capitals and "_" for "-", stands for that flag ' +
        '(ROMULUS_INTERVAL_US=400 for --interval-us 400). The command line wins over the ' +
        'environment, the environment over the file of --config.',
      'NOTIFY_SOCKET, WATCHDOG_USEC: the supervisor, as systemd names it to a service of ' +
        'Type=notify. It is told when the node is ready, in one sentence how it is doing, and that ' +
        'it lives; the watchdog is switched off while no other node holds the guest.',
    ],
  ],
  [
    'FILES',
    [
      '/etc/romulus/PAIR.yaml: settings of the pair PAIR on this host, as romulus@PAIR.service ' +
        'reads them.',
      '/run/romulus/PAIR/control.sock: where ftctl asks that node.',
    ],
  ],
];
