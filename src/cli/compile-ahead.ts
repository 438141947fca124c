/**
 * The first import of a node's command: everything that is loaded after it is compiled as it is
 * loaded, and stays compiled.
 *
 * As a rule V8 compiles a function when it is first called, and throws the code of one away that was
 * not called for a while. A takeover is code that runs once in a process's life, hours after its
 * start, with a guest that stands still meanwhile: compiling on the way took about a third of the
 * time. Here it costs some ms of the start instead (docs/adr/035).
 *
 * What Node itself brings along was loaded before and is compiled by its first use. The end of a
 * connection is such a part, and the first one in a process also makes the stream of stderr, only to
 * compare itself with it. So that stream is made here, and a socket destroyed.
 */
import { Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--no-lazy');
setFlagsFromString('--no-flush-bytecode');
void process.stderr;
new Socket().destroy();
