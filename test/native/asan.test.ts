/** Every native test case under AddressSanitizer and UndefinedBehaviorSanitizer. */
import { declareNativeTests } from './sanitized';

describe('ASan and UBSan', () => {
  declareNativeTests('asan', []);
});
