/* SPDX-License-Identifier: ISC */
/* The choice of modules: order, stages, what is built in, what is missing, cycles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"
#include "kernel/modules.h"
#include "test_kernel_fixture.h"

/* Files of a directory that is not there: each "path:depends" gives one module. */
struct memory_reader {
	struct hk_module_reader reader;
	const char *const *files; /* ends with NULL */
	const char *release;
};

static int read_memory(struct hk_module_reader *reader, const char *path, void **ret_data,
	size_t *ret_len, struct hk_err *err)
{
	struct memory_reader *memory = hk_container_of(reader, struct memory_reader, reader);
	size_t len = strlen(path);

	for (const char *const *file = memory->files; *file != NULL; file++) {
		if (strncmp(*file, path, len) == 0 && (*file)[len] == ':') {
			const char *depends = *file + len + 1;
			struct fx_bytes module = fx_module(path, depends, memory->release);

			if (strcmp(depends, "CORRUPT") == 0) {
				module.data[0] = 0;
			}
			*ret_data = module.data;
			*ret_len = module.len;
			return 0;
		}
	}
	return hk_fail(err, ENOENT, "'%s': open", path);
}

static const struct hk_module_need needs[] = {
	{"bus", HK_MODULE_EARLY, "", "bus", "BUSMARK"},
	{"my_link", HK_MODULE_EARLY, "", "link", "LINKMARK"},
	{"fs", HK_MODULE_LATE, ""},
	{"extra", HK_MODULE_LATE, ""},
	{NULL},
};

struct pick_case {
	const char *dep;      /* modules.dep; NULL: a walk finds the files */
	const char *builtin;  /* modules.builtin, or NULL */
	const char *files[8]; /* "path:depends" */
	const char *vmlinux;
	const char *module_release; /* NULL: the right one */
	int result;
	const char *text; /* the order, with a "--"; or the message */
};

static const struct pick_case cases[] = {
	/* Dependencies from modules.dep come first, once; dashes are underscores. */
	{"k/bus.ko: k/core.ko\nk/my-link.ko: k/core.ko\nk/core.ko:\nk/fs.ko: k/lib.ko k/core.ko\n"
	 "k/lib.ko:\n",
		NULL, {"k/bus.ko:", "k/my-link.ko:", "k/core.ko:", "k/fs.ko:", "k/lib.ko:"}, "",
		NULL, 0, "core bus my_link -- lib fs"},
	/* The same from the modules themselves. */
	{NULL, NULL,
		{"k/bus.ko.xz:core", "k/my-link.ko:core", "k/core.ko.zst:", "k/fs.ko:lib,core",
			"k/lib.ko.gz:", "k/README:"},
		"", NULL, 0, "core bus my_link -- lib fs"},
	/* Without a newline at the end, with empty lines, with blanks to spare. */
	{"\nk/bus.ko:   k/core.ko  \n\nk/core.ko:\nk/my-link.ko:", NULL,
		{"k/bus.ko:", "k/my-link.ko:", "k/core.ko:"}, "", NULL, 0, "core bus my_link"},
	/* Built in: as a need, and as a dependency. */
	{"k/fs.ko: k/core.ko\n", "k/bus.ko\nk/my-link.ko\nk/core.ko\n", {"k/fs.ko:"}, "", NULL, 0,
		"-- fs"},
	{"", "k/bus.ko\nk/my-link.ko\nk/fs.ko\nk/extra.ko\n", {NULL}, "", NULL, 0, ""},
	/* No index tells, but the kernel shows it. */
	{"", NULL, {NULL}, "xxBUSMARKxxLINKMARK", NULL, 0, ""},
	{"", NULL, {NULL}, "xxBUSMARKxx", NULL, -ENODEV,
		"the kernel has no link driver: it is neither built in nor a module"},
	{"", NULL, {NULL}, "", NULL, -ENODEV,
		"the kernel has no bus driver: it is neither built in nor a module"},
	/* Both: the file is taken. */
	{"k/bus.ko:\n", "k/bus.ko\nk/my_link.ko", {"k/bus.ko:"}, "", NULL, 0, "bus"},
	/* Cycles: of two, of one, of three. */
	{"k/bus.ko: k/core.ko\nk/core.ko: k/bus.ko\n", NULL, {"k/bus.ko:", "k/core.ko:"}, "", NULL,
		-ELOOP, "modules 'bus' and 'core' need each other"},
	{"k/bus.ko: k/bus.ko\n", NULL, {"k/bus.ko:"}, "", NULL, -ELOOP,
		"modules 'bus' and 'bus' need each other"},
	{NULL, NULL, {"bus.ko:a", "a.ko:b", "b.ko:bus"}, "", NULL, -ELOOP,
		"modules 'bus' and 'b' need each other"},
	/* Missing: the dependency, the file of a needed one, the file of a dependency. */
	{"k/bus.ko: k/core.ko\n", NULL, {"k/bus.ko:"}, "", NULL, -ENOENT,
		"module 'bus' needs the module 'core', which is not there"},
	{"k/bus.ko:\n", NULL, {NULL}, "", NULL, -ENOENT,
		"module 'bus': 'k/bus.ko': open: No such file or directory"},
	{"k/bus.ko: k/core.ko\nk/core.ko:\n", NULL, {"k/bus.ko:"}, "", NULL, -ENOENT,
		"module 'core': 'k/core.ko': open: No such file or directory"},
	/* Corrupt. */
	{"k/bus.ko:\n", NULL, {"k/bus.ko:CORRUPT"}, "", NULL, -ENOEXEC,
		"module 'bus': 'k/bus.ko': not an ELF file"},
	{NULL, NULL, {"bus.ko:.,a"}, "", NULL, -EBADMSG,
		"module 'bus': its dependencies are corrupt"},
	{"k/bus.ko:\nk/my-link.ko\n", NULL, {NULL}, "", NULL, -EBADMSG,
		"modules.dep: line 2 is corrupt"},
	{": k/bus.ko\n", NULL, {NULL}, "", NULL, -EBADMSG, "modules.dep: line 1 is corrupt"},
	{"", "k/bus.ko\nk/\n", {NULL}, "", NULL, -EBADMSG, "modules.builtin: line 2 is corrupt"},
	/* Of another kernel. */
	{"k/bus.ko:\n", NULL, {"k/bus.ko:"}, "", "6.1.0-10-test-amd64", -EBADMSG,
		"module 'bus' is for the kernel '6.1.0-10-test-amd64', not '" FX_RELEASE "'"},
	{"k/bus.ko:\n", NULL, {"k/bus.ko:"}, "", "6.1.0-9-test-amd64x", -EBADMSG,
		"module 'bus' is for the kernel '6.1.0-9-test-amd64x', not '" FX_RELEASE "'"},
};

/* Return: as the functions that it calls; the order goes to @order. */
static int run_case(const struct pick_case *c, struct hk_str *order, struct hk_err *err)
{
	struct memory_reader memory = {
		.reader = {.read = read_memory},
		.files = c->files,
		.release = c->module_release != NULL ? c->module_release : FX_RELEASE,
	};
	struct hk_modules *modules;
	struct hk_module_set set = {0};
	bool late = false;
	int r = hk_modules_create(&modules, err);

	if (r < 0) {
		return r;
	}
	if (c->dep != NULL) {
		r = hk_modules_add_dep(modules, c->dep, strlen(c->dep), err);
	}
	for (size_t i = 0; c->dep == NULL && r == 0 && c->files[i] != NULL; i++) {
		char path[64];

		snprintf(path, sizeof(path), "%.*s", (int)strcspn(c->files[i], ":"), c->files[i]);
		r = hk_modules_add_file(modules, path, err);
	}
	if (r == 0 && c->builtin != NULL) {
		r = hk_modules_add_builtin(modules, c->builtin, strlen(c->builtin), err);
	}
	if (r == 0) {
		r = hk_modules_pick(modules, needs, FX_RELEASE, c->vmlinux, strlen(c->vmlinux),
			&memory.reader, &set, err);
	}
	for (size_t i = 0; r == 0 && i < set.count; i++) {
		if (set.files[i].stage == HK_MODULE_LATE && !late) {
			late = true;
			hk_str_addf(order, "%s--", i > 0 ? " " : "");
		}
		hk_str_addf(order, "%s%s", order->len > 0 ? " " : "", set.files[i].name);
	}
	if (r < 0) {
		assert_null(set.files);
	}
	hk_module_set_finish(&set);
	hk_modules_destroy(modules);
	return r;
}

static void test_cases(void **state)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_str order = {0};
		int r = run_case(&cases[i], &order, &err);

		if (r != cases[i].result) {
			print_error("case %zu: %d, %s\n", i, r, hk_err_text(&err));
		}
		assert_int_equal(r, cases[i].result);
		assert_string_equal(
			r == 0 ? hk_str_text(&order) : hk_err_text(&err), cases[i].text);
		hk_str_finish(&order);
	}
}

static void test_no_memory(void **state)
{
	for (uint64_t nth = 1;; nth++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_str order = {0};
		int r;

		/* The fixture allocates through the hook too, and ends by assert: leave it out. */
		static const struct pick_case c = {"k/core.ko:\n",
			"k/bus.ko\nk/my-link.ko\nk/core.ko\n", {NULL}, "", NULL, 0, ""};

		hk_fault_arm(HK_FAULT_ALLOC, nth);
		r = run_case(&c, &order, &err);
		hk_str_finish(&order);
		if (!hk_fault_fired()) {
			assert_int_equal(r, 0);
			assert_true(nth > 4);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(err.code, ENOMEM);
	}
	hk_fault_arm(0, 0);
}

/* A chain that is too long to be true must not use up the stack. */
static void test_long_chain(void **state)
{
	struct hk_modules *modules;
	struct hk_module_set set = {0};
	struct hk_err err = HK_ERR_INIT;
	struct hk_str dep = {0};
	struct memory_reader memory = {.reader = {.read = read_memory}, .release = FX_RELEASE};
	static char names[3000][16];
	static const char *files[3001];

	hk_str_add(&dep, "bus.ko: m0.ko\n");
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(names[i], sizeof(names[i]), "m%u.ko:", i);
		files[i] = names[i];
		hk_str_addf(&dep, "m%u.ko: m%u.ko\n", i, i + 1);
	}
	files[2999] = "bus.ko:";
	memory.files = files;
	assert_int_equal(hk_modules_create(&modules, &err), 0);
	assert_int_equal(hk_modules_add_dep(modules, dep.data, dep.len, &err), 0);
	assert_int_equal(
		hk_modules_pick(modules, needs, FX_RELEASE, "", 0, &memory.reader, &set, &err),
		-ELOOP);
	assert_string_equal(hk_err_text(&err), "module 'm63' stands behind too many others");
	hk_modules_destroy(modules);
	hk_str_finish(&dep);
}

static void test_names(void **state)
{
	static const struct {
		const char *path;
		const char *name; /* NULL: refused */
	} names[] = {
		{"virtio-rng.ko", "virtio_rng"},
		{"kernel/a/b/virtio_rng.ko.xz", "virtio_rng"},
		{"/abs/x.ko", "x"},
		{"x", "x"},
		{"", NULL},
		{"a/", NULL},
		{".ko", NULL},
		{"a/.ko", NULL},
		{"a23456789012345678901234567890123456789012345678901234567890123.ko",
			"a23456789012345678901234567890123456789012345678901234567890123"},
		{"a234567890123456789012345678901234567890123456789012345678901234.ko", NULL},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(names); i++) {
		char name[HK_MODULE_NAME_SIZE];
		int r = hk_module_name(names[i].path, strlen(names[i].path), name);

		assert_int_equal(r, names[i].name != NULL ? 0 : -EINVAL);
		if (r == 0) {
			assert_string_equal(name, names[i].name);
		}
	}
	{
		char name[HK_MODULE_NAME_SIZE];

		assert_int_equal(hk_module_name("a\0b.ko", 6, name), -EINVAL);
	}
}

/* The real table: stages in order, what is required tells how it is seen and what to say. */
static void test_table(void **state)
{
	enum hk_module_stage stage = HK_MODULE_EARLY;
	struct hk_module_need changed[2] = {hk_module_needs[0]};
	uint32_t key;

	for (const struct hk_module_need *need = hk_module_needs; need->name != NULL; need++) {
		assert_true(need->stage >= stage);
		stage = need->stage;
		assert_null(strchr(need->name, '-'));
		assert_int_equal(need->missing != NULL, need->builtin_mark != NULL);
		assert_non_null(need->why);
	}
	key = hk_module_needs_key(changed);
	assert_int_equal(key, hk_module_needs_key(changed));
	changed[0].stage = HK_MODULE_LATE;
	assert_int_not_equal(key, hk_module_needs_key(changed));
	changed[0] = hk_module_needs[0];
	changed[0].name = "virtio_mmiq";
	assert_int_not_equal(key, hk_module_needs_key(changed));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_long_chain),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
