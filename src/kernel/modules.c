/* SPDX-License-Identifier: ISC */
/*
 * The modules of a guest: the table of needs, the index of what a kernel has, and the choice.
 *
 * Theory: the index is an array of names, sorted once it is complete. The choice visits each need
 * depth first, so that a module comes behind all it depends on; dependencies are those of
 * modules.dep or, where there is none, of the module's own .modinfo. Names are compared with
 * underscores for dashes, as modprobe does.
 *
 * Limits: soft dependencies, aliases and options of modprobe.d play no part; none of ours has any.
 */
#include "kernel/modules.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "kernel/elf_file.h"

const struct hk_module_need hk_module_needs[] = {
	{"virtio_mmio", HK_MODULE_EARLY, "how the guest finds its devices", "virtio-mmio",
		"LNRO0005"},
	{"vmw_vsock_virtio_transport", HK_MODULE_EARLY, "the control channel and every stream",
		"virtio vsock", "vmw_vsock_virtio_transport"},
	{"virtiofs", HK_MODULE_LATE, "the root file system and shared directories", "virtiofs",
		"virtiofs"},
	{"overlay", HK_MODULE_LATE, "writable layers over read-only shares"},
	{"virtio_console", HK_MODULE_LATE, "the console beside the serial port"},
	{"virtio_rng", HK_MODULE_LATE, "entropy"},
	{"virtio_balloon", HK_MODULE_LATE, "giving free memory back to the host"},
	{"virtio_blk", HK_MODULE_LATE, "disks"},
	{NULL},
};

/* Source: FNV-1a, draft-eastlake-fnv. */
uint32_t hk_module_needs_key(const struct hk_module_need *needs)
{
	uint32_t key = UINT32_C(2166136261);

	for (; needs->name != NULL; needs++) {
		for (const char *c = needs->name; *c != '\0'; c++) {
			key = (key ^ (uint8_t)*c) * UINT32_C(16777619);
		}
		key = (key ^ (uint8_t)needs->stage) * UINT32_C(16777619);
	}
	return key;
}

/* Where a name of the index was met. */
enum origin {
	BUILTIN,   /* part of the kernel */
	FROM_DEP,  /* a file, dependencies known */
	FROM_FILE, /* a file, dependencies in it */
};

struct module {
	char name[HK_MODULE_NAME_SIZE];
	enum origin origin;
	char *path; /* owned; NULL if built in */
	char *deps; /* owned; FROM_DEP: paths with blanks between */
};

struct hk_modules {
	struct module *list; /* owned */
	size_t count;
	size_t cap;
};

int hk_module_name(const char *path, size_t len, char ret_name[HK_MODULE_NAME_SIZE])
{
	const char *slash = memrchr(path, '/', len);
	const char *name = slash != NULL ? slash + 1 : path;
	size_t rest = len - (size_t)(name - path);
	size_t n = 0;

	while (n < rest && name[n] != '.') {
		n++;
	}
	if (n == 0 || n >= HK_MODULE_NAME_SIZE || memchr(name, '\0', n) != NULL) {
		return -EINVAL;
	}
	for (size_t i = 0; i < n; i++) {
		ret_name[i] = (char)(name[i] == '-' ? '_' : name[i]);
	}
	ret_name[n] = '\0';
	return 0;
}

int hk_modules_create(struct hk_modules **ret_modules, struct hk_err *err)
{
	struct hk_modules *modules;

	if (hk_new(modules) == NULL) {
		return hk_fail(err, ENOMEM, "modules");
	}
	*ret_modules = modules;
	return 0;
}

void hk_modules_destroy(struct hk_modules *modules)
{
	if (modules == NULL) {
		return;
	}
	for (size_t i = 0; i < modules->count; i++) {
		free(modules->list[i].path);
		free(modules->list[i].deps);
	}
	free(modules->list);
	free(modules);
}

static char *dup_range(const char *text, size_t len)
{
	char *copy = hk_malloc(len + 1);

	if (copy != NULL) {
		memcpy(copy, text, len);
		copy[len] = '\0';
	}
	return copy;
}

/* Appends one module; @deps is NULL but for FROM_DEP. Return: 0, -EINVAL (no name), -ENOMEM. */
static int add(struct hk_modules *modules, enum origin origin, const char *path, size_t path_len,
	const char *deps, size_t deps_len)
{
	struct module module = {.origin = origin};
	int r = hk_module_name(path, path_len, module.name);

	if (r < 0) {
		return r;
	}
	if (modules->count == modules->cap) {
		size_t cap = modules->cap == 0 ? 256 : modules->cap * 2;
		struct module *list = hk_realloc_array(modules->list, cap, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		modules->list = list;
		modules->cap = cap;
	}
	if (origin != BUILTIN) {
		module.path = dup_range(path, path_len);
		module.deps = deps != NULL ? dup_range(deps, deps_len) : NULL;
		if (module.path == NULL || (deps != NULL && module.deps == NULL)) {
			free(module.path);
			free(module.deps);
			return -ENOMEM;
		}
	}
	modules->list[modules->count++] = module;
	return 0;
}

static int fail_line(struct hk_err *err, int code, const char *file, unsigned line)
{
	if (code == -ENOMEM) {
		return hk_fail(err, ENOMEM, "%s", file);
	}
	return hk_fail_msg(err, EBADMSG, "%s: line %u is corrupt", file, line);
}

int hk_modules_add_dep(struct hk_modules *modules, const char *text, size_t len, struct hk_err *err)
{
	const char *end = text + len;

	for (unsigned line = 1; text < end; line++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *line_end = newline != NULL ? newline : end;
		const char *colon = memchr(text, ':', (size_t)(line_end - text));
		int r = -EINVAL;

		if (line_end != text) {
			if (colon != NULL) {
				r = add(modules, FROM_DEP, text, (size_t)(colon - text), colon + 1,
					(size_t)(line_end - colon - 1));
			}
			if (r < 0) {
				return fail_line(err, r, "modules.dep", line);
			}
		}
		text = line_end + 1;
	}
	return 0;
}

int hk_modules_add_builtin(
	struct hk_modules *modules, const char *text, size_t len, struct hk_err *err)
{
	const char *end = text + len;

	for (unsigned line = 1; text < end; line++) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *line_end = newline != NULL ? newline : end;

		if (line_end != text) {
			int r = add(modules, BUILTIN, text, (size_t)(line_end - text), NULL, 0);

			if (r < 0) {
				return fail_line(err, r, "modules.builtin", line);
			}
		}
		text = line_end + 1;
	}
	return 0;
}

int hk_modules_add_file(struct hk_modules *modules, const char *path, struct hk_err *err)
{
	int r;

	if (!hk_str_ends_with(path, ".ko") && !hk_str_ends_with(path, ".ko.xz") &&
		!hk_str_ends_with(path, ".ko.zst") && !hk_str_ends_with(path, ".ko.gz")) {
		return 0;
	}
	r = add(modules, FROM_FILE, path, strlen(path), NULL, 0);
	return r == -ENOMEM ? hk_fail(err, ENOMEM, "modules") : 0;
}

/* By name; of the same name files come before what is built in. */
static int compare(const void *a, const void *b)
{
	const struct module *left = a;
	const struct module *right = b;
	int order = strcmp(left->name, right->name);

	if (order != 0) {
		return order;
	}
	return (left->origin == BUILTIN) - (right->origin == BUILTIN);
}

/* --- the choice --- */

enum mark { NEW, OPEN, DONE };

/* Real chains are under ten long; recursion must not follow a made-up one. */
enum { MAX_DEPTH = 64 };

struct picker {
	const struct hk_modules *modules;
	const struct module **sorted; /* owned */
	enum mark *marks;             /* owned; one for each of @sorted */
	const char *release;
	struct hk_module_reader *reader;
	struct hk_module_set set;
	enum hk_module_stage stage;
	unsigned depth;
	struct hk_err *err;
};

static int compare_pointers(const void *a, const void *b)
{
	return compare(*(const struct module *const *)a, *(const struct module *const *)b);
}

/* The first of that name, or -1. */
static ssize_t find(const struct picker *picker, const char *name)
{
	size_t low = 0;
	size_t high = picker->modules->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(picker->sorted[mid]->name, name) < 0) {
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (low == picker->modules->count || strcmp(picker->sorted[low]->name, name) != 0) {
		return -1;
	}
	return (ssize_t)low;
}

static int append(struct picker *picker, const struct module *module, void *data, size_t len)
{
	struct hk_module_set *set = &picker->set;

	if (set->count == set->cap) {
		size_t cap = set->cap == 0 ? 32 : set->cap * 2;
		struct hk_module_file *files = hk_realloc_array(set->files, cap, sizeof(*files));

		if (files == NULL) {
			return -ENOMEM;
		}
		set->files = files;
		set->cap = cap;
	}
	set->files[set->count] = (struct hk_module_file){
		.stage = picker->stage,
		.data = data,
		.len = len,
	};
	memcpy(set->files[set->count].name, module->name, sizeof(module->name));
	set->count++;
	return 0;
}

static int visit(struct picker *picker, size_t index);

/* Visits each of a list of names or paths with @separator between. */
static int visit_deps(
	struct picker *picker, const struct module *module, const char *deps, char separator)
{
	while (*deps != '\0') {
		const char *end = strchrnul(deps, separator);
		char name[HK_MODULE_NAME_SIZE];
		ssize_t index;
		int r;

		if (end == deps) {
			deps++;
			continue;
		}
		if (hk_module_name(deps, (size_t)(end - deps), name) < 0) {
			return hk_fail_msg(picker->err, EBADMSG,
				"module '%s': its dependencies are corrupt", module->name);
		}
		index = find(picker, name);
		if (index < 0) {
			return hk_fail_msg(picker->err, ENOENT,
				"module '%s' needs the module '%s', which is not there",
				module->name, name);
		}
		if (picker->marks[index] == OPEN) {
			return hk_fail_msg(picker->err, ELOOP,
				"modules '%s' and '%s' need each other", name, module->name);
		}
		r = visit(picker, (size_t)index);
		if (r < 0) {
			return r;
		}
		deps = end;
	}
	return 0;
}

/* Takes one module file and all that it needs. */
static int visit_file(struct picker *picker, const struct module *module)
{
	autofree void *data = NULL;
	struct hk_modinfo modinfo;
	size_t len;
	int r = picker->reader->read(picker->reader, module->path, &data, &len, picker->err);

	if (r < 0) {
		hk_err_ctx(picker->err, "module '%s'", module->name);
		return r;
	}
	r = hk_elf_modinfo(data, len, &modinfo, picker->err);
	if (r < 0) {
		hk_err_ctx(picker->err, "module '%s': '%s'", module->name, module->path);
		return r;
	}
	if (modinfo.release != NULL &&
		(modinfo.release_len != strlen(picker->release) ||
			memcmp(modinfo.release, picker->release, modinfo.release_len) != 0)) {
		return hk_fail_msg(picker->err, EBADMSG,
			"module '%s' is for the kernel '%.*s', not '%s'", module->name,
			(int)HK_MIN(modinfo.release_len, (size_t)64), modinfo.release,
			picker->release);
	}
	r = module->origin == FROM_DEP ? visit_deps(picker, module, module->deps, ' ')
				       : visit_deps(picker, module, modinfo.depends, ',');
	if (r < 0) {
		return r;
	}
	r = append(picker, module, data, len);
	if (r < 0) {
		return hk_fail(picker->err, -r, "modules");
	}
	take_ptr(data);
	return 0;
}

static int visit(struct picker *picker, size_t index)
{
	const struct module *module = picker->sorted[index];
	int r = 0;

	if (picker->marks[index] == DONE) {
		return 0;
	}
	if (picker->depth == MAX_DEPTH) {
		return hk_fail_msg(picker->err, ELOOP, "module '%s' stands behind too many others",
			module->name);
	}
	picker->depth++;
	picker->marks[index] = OPEN;
	if (module->origin != BUILTIN) {
		r = visit_file(picker, module);
	}
	picker->marks[index] = DONE;
	picker->depth--;
	return r;
}

static int pick_all(struct picker *picker, const struct hk_module_need *needs, const void *vmlinux,
	size_t vmlinux_len)
{
	for (const struct hk_module_need *need = needs; need->name != NULL; need++) {
		ssize_t index = find(picker, need->name);
		int r;

		if (index < 0) {
			if (need->missing == NULL ||
				memmem(vmlinux, vmlinux_len, need->builtin_mark,
					strlen(need->builtin_mark)) != NULL) {
				continue;
			}
			return hk_fail_msg(picker->err, ENODEV,
				"the kernel has no %s driver: it is neither built in nor a module",
				need->missing);
		}
		picker->stage = need->stage;
		r = visit(picker, (size_t)index);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int hk_modules_pick(const struct hk_modules *modules, const struct hk_module_need *needs,
	const char *release, const void *vmlinux, size_t vmlinux_len,
	struct hk_module_reader *reader, struct hk_module_set *ret_set, struct hk_err *err)
{
	autofree const struct module **sorted = hk_calloc(modules->count + 1, sizeof(*sorted));
	autofree enum mark *marks = hk_calloc(modules->count + 1, sizeof(*marks));
	struct picker picker = {
		.modules = modules,
		.sorted = sorted,
		.marks = marks,
		.release = release,
		.reader = reader,
		.err = err,
	};
	int r;

	if (sorted == NULL || marks == NULL) {
		return hk_fail(err, ENOMEM, "modules");
	}
	for (size_t i = 0; i < modules->count; i++) {
		sorted[i] = &modules->list[i];
	}
	qsort(sorted, modules->count, sizeof(*sorted), compare_pointers);
	r = pick_all(&picker, needs, vmlinux, vmlinux_len);
	if (r < 0) {
		hk_module_set_finish(&picker.set);
		return r;
	}
	*ret_set = picker.set;
	return 0;
}

void hk_module_set_finish(struct hk_module_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		free(set->files[i].data);
	}
	free(set->files);
	*set = (struct hk_module_set){0};
}
