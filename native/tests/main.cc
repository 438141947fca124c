// The main() of the native tests: doctest's own. Test cases live in *_test.cc beside this file;
// those that need /dev/kvm have names beginning with "kvm: ", and those about threads live in
// TEST_SUITE("threads"), which is also run under TSan.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
