#!/usr/bin/env node
/** ft-drill: failover drills on a pair of its own or on a live one, with a report. */
import { drillMain } from '../drill/drill-main';
import { version } from './version';

void drillMain(process.argv.slice(2), version());
