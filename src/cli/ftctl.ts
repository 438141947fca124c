#!/usr/bin/env node
/** ftctl: asks a running node how it is, and tells it what to do. */
import { ctlMain } from './ctl/main';

void ctlMain(process.argv.slice(2));
