/* SPDX-License-Identifier: ISC */
/*
 * A FUSE client in memory, for tests of the server: builds requests, calls hk_fuse_handle(), takes
 * replies apart. Each has a fresh temporary directory with `out`side and, exported as "x",
 * `in`side. Misuse aborts.
 */
#ifndef HK_TESTS_FUSE_CLIENT_H
#define HK_TESTS_FUSE_CLIENT_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuse/server.h"

/* An assert() that is always there. */
#define must(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* What Linux 6.1 offers, and we take. */
#define FC_FEATURES \
	(FUSE_ASYNC_READ | FUSE_AUTO_INVAL_DATA | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | \
		FUSE_NO_OPENDIR_SUPPORT | FUSE_HANDLE_KILLPRIV_V2 | FUSE_DO_READDIRPLUS)

enum { FC_SLOT_BYTES = 2 << 20, FC_WINDOW_BYTES = 4 * FC_SLOT_BYTES };

struct fc {
	struct hk_fuse_owner owner;
	struct hk_fuse_server *server;
	uint64_t root; /* nodeid of the export */
	char dir[64];
	char inside[80];
	char outside[80];
	int inside_fd;
	/* The last denial. */
	atomic_uint denials;
	char denied_path[1024];
	char denied_operation[64];
	int denied_error;
	uint32_t uid, gid; /* of requests */
	int file_flags; /* of files that are written to, as they are set now: a kernel sends them with each WRITE */
	struct fuse_init_out init;
	uint8_t *window; /* FC_WINDOW_BYTES, where the export has @dax */
};

/**
 * fc_start() - directory, server with one export, INIT done
 * @config: its flags and ids are taken; may be NULL
 * @features: offered in INIT
 */
void fc_start(struct fc *fc, const struct hk_fuse_export *config, uint64_t features);
void fc_stop(struct fc *fc); /* removes the directory */
/** fc_again() - a second server on the same directories; shares nothing else with @fc */
void fc_again(struct fc *again, const struct fc *fc, const struct hk_fuse_export *config);
void fc_drop(struct fc *again);

/** struct fc_reply - what came back; @data is what the caller gave */
struct fc_reply {
	int error; /* 0 or -errno */
	size_t len;
};

struct fc_part {
	const void *data;
	size_t len;
};

/**
 * fc_call() - one request: a header, then @parts; the reply is checked for what all replies have in
 * common
 * @out: @out_size bytes for the payload
 */
struct fc_reply fc_call(struct fc *fc, uint32_t opcode, uint64_t nodeid,
	const struct fc_part *parts, unsigned part_count, void *out, size_t out_size);

/* The usual ones. They return 0 or -errno. */
int fc_lookup(struct fc *fc, uint64_t dir, const char *name, struct fuse_entry_out *entry);
uint64_t fc_node(struct fc *fc, uint64_t dir, const char *name); /* 0 where there is none */
void fc_forget(struct fc *fc, uint64_t node, uint64_t count);
int fc_getattr(struct fc *fc, uint64_t node, struct fuse_attr *attr);
int fc_setattr(struct fc *fc, uint64_t node, const struct fuse_setattr_in *in);
int fc_open(struct fc *fc, uint64_t node, int flags, struct fuse_open_out *out);
int fc_create(struct fc *fc, uint64_t dir, const char *name, int flags, uint32_t mode,
	uint64_t *ret_node, uint64_t *ret_fh);
int fc_release(struct fc *fc, uint64_t node, uint64_t fh);
int fc_read(struct fc *fc, uint64_t node, uint64_t fh, uint64_t offset, void *buf, uint32_t size);
int fc_write(
	struct fc *fc, uint64_t node, uint64_t fh, uint64_t offset, const void *buf, uint32_t size);
int fc_mkdir(struct fc *fc, uint64_t dir, const char *name, struct fuse_entry_out *entry);
int fc_name_op(struct fc *fc, uint32_t opcode, uint64_t dir, const char *name); /* UNLINK, RMDIR */
int fc_rename(struct fc *fc, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
	uint32_t flags);
int fc_link(struct fc *fc, uint64_t node, uint64_t dir, const char *name);
int fc_symlink(struct fc *fc, uint64_t dir, const char *name, const char *target);
/** fc_readdir() - entries from @offset on. Return: bytes of payload, or -errno. */
int fc_readdir(struct fc *fc, uint64_t dir, uint64_t fh, uint64_t offset, bool plus, void *buf,
	uint32_t size);

/* On the host. */
void fc_host_file(const char *dir, const char *name, const char *text);
bool fc_host_has(const char *dir, const char *name, const char *text);

#endif
