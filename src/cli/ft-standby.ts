#!/usr/bin/env node
/** ft-standby: holds the copy of a guest and goes on with it when its primary is lost. */
import './compile-ahead';
import { main } from './main';

void main('ft-standby', process.argv.slice(2));
