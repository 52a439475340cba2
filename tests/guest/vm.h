/* SPDX-License-Identifier: ISC */
/*
 * A machine with a tiny guest in it, for tests: its output is collected, its end noted, and its
 * first slot holds a device that answers doorbells (see doorbell/main.c). What one saves, another
 * process can go on with.
 */
#ifndef HK_TESTS_VM_H
#define HK_TESTS_VM_H

#include "base/state.h"
#include "machine/machine.h"

enum { VM_DOORBELLS = 4, VM_OUTPUT_MAX = 65536 };

/**
 * struct vm_config - what to run
 * @guest: path of its ELF file
 * @engine: NULL picks one
 * @options: more words for the command line; may be NULL
 * @initramfs: give the guest one, of VM_INITRAMFS_BYTES
 */
struct vm_config {
	const char *guest;
	const char *engine;
	unsigned cpus;
	uint64_t ram_bytes;
	const char *options;
	bool pvh;
	bool initramfs;
};

struct vm;

struct vm_doorbell {
	struct hk_event event; /* its eventfd is the doorbell */
	struct vm *vm;
};

/* The device in the first slot. */
struct vm_echo {
	struct hk_region region;
	struct hk_slot slot;
	struct vm_doorbell bells[VM_DOORBELLS];
	int answer_fd;  /* eventfd, owned: the irqfd */
	bool doorbells; /* the engine has them */
	bool irqfd;
	unsigned heard;  /* doorbells; atomic */
	unsigned writes; /* that came as register accesses; atomic */
};

struct vm {
	struct hk_machine_owner owner;
	struct vm_config config;
	struct hk_loop *loop; /* owned */
	struct hk_machine *machine;
	struct vm_echo echo;
	char output[VM_OUTPUT_MAX]; /* NUL-terminated */
	unsigned output_len;        /* atomic */
	bool stopped;
	enum hk_stop why;
};

/** vm_create() - machine and devices, nothing in it yet. vm_destroy() is due also on failure. */
int vm_create(struct vm *vm, const struct vm_config *config, struct hk_err *err);
/** vm_load() - the guest, ready to start */
int vm_load(struct vm *vm, struct hk_err *err);
void vm_destroy(struct vm *vm);

/** vm_wait() - run the loop until the machine has stopped. Return: false after @timeout_ms */
bool vm_wait(struct vm *vm, unsigned timeout_ms);
/** vm_run_for() - run the loop for that long, or until the machine has stopped */
void vm_run_for(struct vm *vm, uint64_t ns);

/** vm_start() - vm_create(), vm_load() and the start */
int vm_start(struct vm *vm, const struct vm_config *config, struct hk_err *err);

/** vm_save() - the paused machine, its RAM and its output so far, to a new file */
int vm_save(struct vm *vm, const char *path, struct hk_err *err);
/** vm_restore() - instead of vm_load(); the output goes on where it was */
int vm_restore(struct vm *vm, const char *path, struct hk_err *err);

/**
 * vm_require() - can the engine run here? Says on stderr why not.
 *
 * Return: 0; 77, by which meson knows a skipped test; or 1 with MUST_WORK=1 in the environment.
 */
int vm_require(const char *engine);

#endif
