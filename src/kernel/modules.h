/* SPDX-License-Identifier: ISC */
/*
 * Which modules a guest needs, and in which order they are loaded. No I/O: the caller gives the
 * index files as text and reads module files when asked.
 */
#ifndef HK_KERNEL_MODULES_H
#define HK_KERNEL_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/** enum hk_module_stage - when the guest loads a module */
enum hk_module_stage {
	HK_MODULE_EARLY, /* before the control channel can be opened */
	HK_MODULE_LATE,  /* right after the agent has said hello */
	HK_MODULE_STAGE_COUNT,
};

/**
 * struct hk_module_need - one driver that a guest needs
 * @name: with underscores
 * @why: what it is for, in a few words
 * @missing: required: the message's words for it, "has no ... driver"; NULL if boxes run without
 * @builtin_mark: required: a string that is in every vmlinux with it built in
 */
struct hk_module_need {
	const char *name;
	enum hk_module_stage stage;
	const char *why;
	const char *missing;
	const char *builtin_mark;
};

/** hk_module_needs - the one table of what guests need, stages in order; ends with a NULL name */
extern const struct hk_module_need hk_module_needs[];

/** hk_module_needs_key() - a number that is another one when names or stages in @needs are */
uint32_t hk_module_needs_key(const struct hk_module_need *needs);

enum { HK_MODULE_NAME_SIZE = 64 };

/** struct hk_modules - what the module directory of a kernel holds; made by hk_modules_create() */
struct hk_modules;

int hk_modules_create(struct hk_modules **ret_modules, struct hk_err *err);
void hk_modules_destroy(struct hk_modules *modules); /* NULL is fine */

/**
 * hk_modules_add_dep() - take in modules.dep: "path.ko: path.ko path.ko" lines
 *
 * Return: 0, -EBADMSG (names the line), or -ENOMEM.
 */
int hk_modules_add_dep(
	struct hk_modules *modules, const char *text, size_t len, struct hk_err *err);

/** hk_modules_add_builtin() - take in modules.builtin: one path a line. Return: as above. */
int hk_modules_add_builtin(
	struct hk_modules *modules, const char *text, size_t len, struct hk_err *err);

/**
 * hk_modules_add_file() - take in one module file whose dependencies only it knows
 * @path: as in modules.dep: relative to the directory
 *
 * For directories without modules.dep, as they are in a Debian package. Other files are let pass.
 */
int hk_modules_add_file(struct hk_modules *modules, const char *path, struct hk_err *err);

/** struct hk_module_reader - embedded in whoever can read module files */
struct hk_module_reader {
	/*
	 * Gives the whole file, unpacked, owned by the caller. @path is as it was in the index.
	 * Return: 0, or -errno with the path in @err. Required.
	 */
	int (*read)(struct hk_module_reader *reader, const char *path, void **ret_data,
		size_t *ret_len, struct hk_err *err);
};

/** struct hk_module_file - a module to take along */
struct hk_module_file {
	char name[HK_MODULE_NAME_SIZE]; /* with underscores, without ".ko" */
	enum hk_module_stage stage;
	void *data; /* owned */
	size_t len;
};

/** struct hk_module_set - the picked modules in load order; zero-initialize */
struct hk_module_set {
	struct hk_module_file *files; /* owned */
	size_t count;
	size_t cap; /* the picker's own */
};

/**
 * hk_modules_pick() - pick what @needs asks for, with dependencies, in load order
 * @needs: ends with a NULL name; usually hk_module_needs
 * @release: of the kernel: a module made for another one is refused
 * @vmlinux: the kernel, to look for required drivers that no index tells of
 * @ret_set: filled on success only; hk_module_set_finish() it
 *
 * Return: 0, -ENODEV (a required driver is neither built in nor there), -ENOENT (a module that
 * another one needs is not there, or its file is missing), -ELOOP (modules need each other),
 * -EBADMSG or -ENOEXEC (a corrupt module), -ENOMEM, or what the reader returned.
 */
int hk_modules_pick(const struct hk_modules *modules, const struct hk_module_need *needs,
	const char *release, const void *vmlinux, size_t vmlinux_len,
	struct hk_module_reader *reader, struct hk_module_set *ret_set, struct hk_err *err);
void hk_module_set_finish(struct hk_module_set *set);

/** hk_module_name() - "kernel/a/virtio-rng.ko.xz" is "virtio_rng". Return: 0, or -EINVAL. */
int hk_module_name(const char *path, size_t len, char ret_name[HK_MODULE_NAME_SIZE]);

#endif
