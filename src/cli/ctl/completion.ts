/** ftctl completion: what the shell offers after "ftctl", made from the table of commands. */
import { assert } from '../../common/assert';
import { type CtlCommand, CtlExitCode, type CtlFlag } from './command';
import { ctlFlags } from './read-words';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** The command for `table`, which is complete only when it is called. */
export function completionCommand(table: () => readonly CtlCommand[]): CtlCommand {
  return {
    name: 'completion',
    summary: 'prints a script with which the shell completes the words of ftctl',
    about: [
      'The script knows every command, its flags and their values; it asks no node. For bash: put ' +
        'it into /etc/bash_completion.d/ftctl, or say source <(ftctl completion bash). For zsh: a ' +
        'file named _ftctl in a folder of $fpath. For fish: ~/.config/fish/completions/ftctl.fish.',
    ],
    operands: [{ name: 'SHELL', offers: SHELLS }],
    asksNode: false,
    examples: [
      ['completion bash > /etc/bash_completion.d/ftctl', 'for everybody on this host'],
      ['completion zsh > ~/.zsh/_ftctl', 'for zsh'],
    ],
    run: ({ operands }) => {
      const shell = SHELLS.find((one) => one === operands[0]);
      assert(shell !== undefined, 'the reader takes only words that are offered');
      process.stdout.write(completionScript(shell, table()));
      return CtlExitCode.ok;
    },
  };
}

/** The whole script, ending with a line feed. */
export function completionScript(shell: Shell, table: readonly CtlCommand[]): string {
  if (shell === 'bash') return bashScript(table);
  return shell === 'zsh' ? zshScript(table) : fishScript(table);
}

/** First words of commands, each once. */
function firstWords(table: readonly CtlCommand[]): string[] {
  return [...new Set(table.map(({ name }) => name.split(' ')[0] ?? name))];
}

/** First word → the second words that follow it; for commands of two words. */
function secondWords(table: readonly CtlCommand[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { name } of table) {
    const [first = '', second] = name.split(' ');
    if (second !== undefined) groups.set(first, [...(groups.get(first) ?? []), second]);
  }
  return groups;
}

/** Every flag with a value, of whatever command: what it offers. */
function valueFlags(table: readonly CtlCommand[]): Map<string, CtlFlag['offers']> {
  const flags = new Map<string, CtlFlag['offers']>();
  for (const command of table) {
    for (const { name, value, offers } of ctlFlags(command)) {
      if (value !== undefined) flags.set(name, offers ?? flags.get(name));
    }
  }
  return flags;
}

function bashScript(table: readonly CtlCommand[]): string {
  const cases = [...valueFlags(table)].map(([name, offers]) => {
    const reply =
      offers === 'files'
        ? 'COMPREPLY=($(compgen -f -- "$cur"))'
        : `COMPREPLY=($(compgen -W "${(offers ?? []).join(' ')}" -- "$cur"))`;
    return `    --${name}) ${reply}; return ;;`;
  });
  const words = table.map((command) => {
    const { name, operands = [] } = command;
    const flags = ctlFlags(command).map((flag) => `--${flag.name}`);
    const offered = operands.flatMap(({ offers }) => (Array.isArray(offers) ? offers : []));
    const files = operands.some(({ offers }) => offers === 'files') ? ' files=1' : '';
    return `    "${name}"|"${name} "*) words="${[...offered, ...flags].join(' ')}"${files} ;;`;
  });
  const groups = [...secondWords(table)].map(
    ([first, seconds]) => `    "${first}") words="${seconds.join(' ')} --help" ;;`,
  );
  const values = [...valueFlags(table).keys()].map((name) => `--${name}`).join('|');
  const global = ctlFlags().map(({ name }) => `--${name}`);
  return `# bash completion of ftctl, made by "ftctl completion bash".
_ftctl() {
  local cur prev words command i files=""
  COMPREPLY=()
  cur="\${COMP_WORDS[COMP_CWORD]}"
  prev="\${COMP_WORDS[COMP_CWORD - 1]}"
  case "$prev" in
${cases.join('\n')}
  esac
  # The command so far: the words that are neither flags nor their values.
  command=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      ${values}) i=$((i + 1)) ;;
      -*) ;;
      *) command="\${command:+$command }\${COMP_WORDS[i]}" ;;
    esac
  done
  case "$command" in
    "") words="${[...firstWords(table), 'help', ...global].join(' ')}" ;;
    help) words="${firstWords(table).join(' ')}" ;;
${[...groups, ...words].join('\n')}
    *) words="" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ -n "$files" ] && COMPREPLY+=($(compgen -f -- "$cur"))
  return 0
}
complete -o filenames -F _ftctl ftctl
`;
}

function zshScript(table: readonly CtlCommand[]): string {
  const spec = (flag: CtlFlag): string => {
    const help = zshText(flag.help);
    if (flag.value === undefined) return `'--${flag.name}[${help}]'`;
    const { offers } = flag;
    const action =
      offers === 'files' ? '_files' : offers === undefined ? ' ' : `(${offers.join(' ')})`;
    return `'--${flag.name}=[${help}]:${zshText(flag.value)}:${action}'`;
  };
  const cases = table.map((command) => {
    const operands = (command.operands ?? []).map(({ name, offers }) => {
      const action = Array.isArray(offers) ? `(${offers.join(' ')})` : '_files';
      return `':${zshText(name)}:${action}'`;
    });
    const specs = [...ctlFlags(command).map(spec), ...operands];
    return `    "${command.name}") _arguments ${specs.join(' ')} ;;`;
  });
  const lists = firstWords(table).map((first) => {
    const one = table.find(({ name }) => name === first || name.startsWith(`${first} `));
    return `    '${first}:${zshText(one?.summary ?? '')}'`;
  });
  // A command of two words: the second is offered, then belongs to the name.
  const groups = [...secondWords(table)].map(
    ([first, seconds]) => `    "${first}")
      if (( CURRENT == 3 )); then compadd ${seconds.join(' ')}; return; fi
      command="$command $words[3]"; shift words; (( CURRENT-- )) ;;`,
  );
  return `#compdef ftctl
# zsh completion of ftctl, made by "ftctl completion zsh".
_ftctl() {
  local -a commands
  commands=(
${lists.join('\n')}
  )
  local command="$words[2]"
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "$command" in
${groups.join('\n')}
  esac
  shift words
  (( CURRENT-- ))
  case "$command" in
${cases.join('\n')}
    *) _message 'no such command' ;;
  esac
}
_ftctl "$@"
`;
}

/** Text within single quotes of a zsh specification. */
function zshText(text: string): string {
  return text.replace(/[[\]:\\]/g, '\\$&').replaceAll("'", '’');
}

function fishScript(table: readonly CtlCommand[]): string {
  const lines = [
    '# fish completion of ftctl, made by "ftctl completion fish".',
    'complete -c ftctl -f',
  ];
  for (const first of firstWords(table)) {
    const whole = table.find(({ name }) => name === first);
    const summary = whole?.summary ?? table.find(({ name }) => name.startsWith(first))?.summary;
    lines.push(
      `complete -c ftctl -n __fish_use_subcommand -a ${first} -d '${fishText(summary ?? '')}'`,
    );
  }
  for (const command of table) {
    const seen = command.name
      .split(' ')
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join('; and ');
    const [first = '', second] = command.name.split(' ');
    if (second !== undefined) {
      const when = `__fish_seen_subcommand_from ${first}`;
      lines.push(`complete -c ftctl -n '${when}' -a ${second} -d '${fishText(command.summary)}'`);
    }
    for (const { offers } of command.operands ?? []) {
      if (Array.isArray(offers)) {
        lines.push(`complete -c ftctl -n '${seen}' -a '${offers.join(' ')}'`);
      }
    }
    for (const { name, value, help, offers } of ctlFlags(command)) {
      const takes = value === undefined ? '' : offers === 'files' ? ' -r -F' : ' -x';
      const words = Array.isArray(offers) ? ` -a '${offers.join(' ')}'` : '';
      lines.push(
        `complete -c ftctl -n '${seen}' -l ${name}${takes}${words} -d '${fishText(help)}'`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

function fishText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll("'", "\\'");
}
