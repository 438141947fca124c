/** The native test cases about threads (suite "threads") under ThreadSanitizer. */
import { declareNativeTests } from './sanitized';

describe('TSan', () => {
  declareNativeTests('tsan', ['--test-suite=threads']);
});
