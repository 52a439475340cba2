/* SPDX-License-Identifier: ISC */
#include "engine_test.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static const char *guest_directory = ".";
static const char *engine_name = "soft";

int test_on(const char *directory, const char *engine)
{
	guest_directory = directory;
	engine_name = engine;
	return vm_require(engine);
}

const char *test_engine(void)
{
	return engine_name;
}

bool test_is_on(const char *engine)
{
	return strcmp(engine_name, engine) == 0;
}

struct vm_config guest_config(const char *name, unsigned cpus, const char *options)
{
	static char path[4096];

	assert_true(hk_fmt(path, sizeof(path), "%s/guest_%s", guest_directory, name) > 0);
	return (struct vm_config){
		.guest = path,
		.engine = engine_name,
		.cpus = cpus,
		.ram_bytes = 32 * HK_MIB,
		.options = options,
	};
}

char *reference_output(const struct vm_config *config)
{
	static struct vm vm;
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_start(&vm, config, &err), &err);
	assert_true(vm_wait(&vm, 30000));
	assert_int_equal(vm.why, HK_STOP_POWER_OFF);

	char *output = strdup(vm.output);

	assert_non_null(output);
	assert_true(strlen(output) > 0);
	vm_destroy(&vm);
	return output;
}

static unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count;
}

unsigned count_fds(void)
{
	return count_entries("/proc/self/fd");
}

unsigned count_threads(void)
{
	return count_entries("/proc/self/task");
}

/* splitmix64, by Sebastiano Vigna: public domain. */
uint64_t random_below(uint64_t limit)
{
	static uint64_t state = 1;
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % limit;
}
