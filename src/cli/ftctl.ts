#!/usr/bin/env node
/** ftctl: asks a running node how it is, or to exchange roles with its standby. */
import { ctlMain } from './ctl-main';

void ctlMain(process.argv.slice(2));
