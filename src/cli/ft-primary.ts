#!/usr/bin/env node
/** ft-primary: boots a guest and keeps a copy of it on a standby. */
import './compile-ahead';
import { main } from './main';

void main('ft-primary', process.argv.slice(2));
