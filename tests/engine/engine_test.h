/* SPDX-License-Identifier: ISC */
/* What the tests of engines share: cmocka, tiny guests by name, and a reference to compare with. */
#ifndef HK_TESTS_ENGINE_TEST_H
#define HK_TESTS_ENGINE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "../guest/vm.h"

/* Fails with the error's text. */
#define assert_ok(call, err) \
	do { \
		if ((call) < 0) { \
			fail_msg("%s: %s", #call, hk_err_text(err)); \
		} \
	} while (0)

/**
 * test_on() - the directory of the guests' ELF files, and the engine. Return: 0, or vm_require()'s.
 */
int test_on(const char *directory, const char *engine);
/** test_engine() - that engine */
const char *test_engine(void);
bool test_is_on(const char *engine);
/** guest_config() - @name on @cpus CPUs and 32 MiB; the path lives until the next call */
struct vm_config guest_config(const char *name, unsigned cpus, const char *options);

/** reference_output() - what a guest says that is left alone; owned by the caller */
char *reference_output(const struct vm_config *config);

unsigned count_fds(void);
unsigned count_threads(void);

/** random_below() - from a fixed seed, the same in each run */
uint64_t random_below(uint64_t limit);

/**
 * engine_test_main() - argv[1] is the directory of guests, argv[2] the engine, argv[3] a pattern of
 * tests to run
 *
 * Return: from main(); see vm_require() for hosts without that engine.
 */
#define engine_test_main(argc, argv, tests) \
	({ \
		int skip_ = \
			test_on((argc) > 1 ? (argv)[1] : ".", (argc) > 2 ? (argv)[2] : "soft"); \
		cmocka_set_test_filter((argc) > 3 ? (argv)[3] : NULL); \
		skip_ != 0 ? skip_ : cmocka_run_group_tests(tests, NULL, NULL); \
	})

#endif
