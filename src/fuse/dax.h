/* SPDX-License-Identifier: ISC */
/*
 * DAX: files of the host mapped into a window, which is memory that the guest sees as a device's
 * (VIRTIO 1.2, 5.11.6). What one side writes there the other reads, with no request in between.
 *
 * The window is cut into slots of 2 MiB. A slot shows a stretch of one file, or nothing. The guest
 * says which (SETUPMAPPING, REMOVEMAPPING); we say what it may.
 *
 * All functions: any thread. Where the server has no window they do nothing.
 */
#ifndef HK_FUSE_DAX_H
#define HK_FUSE_DAX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/server_impl.h"

/* log2 of a slot, and of the alignment that INIT asks for. It is what Linux maps at a time. */
enum { HK_DAX_SLOT_SHIFT = 21 };

void hk_dax_free(struct hk_dax *dax); /* the window is empty then; NULL is fine */

/** hk_dax_offers() - is the guest told to map this file, instead of reading and writing it? */
bool hk_dax_offers(struct hk_fuse_server *server, struct hk_node *node, uint32_t mode);

/**
 * hk_dax_open_flags() - how the host's file is opened, where the guest opens it with @flags
 *
 * A file that is written to in the window is mapped, and a mapping can also be read.
 */
uint32_t hk_dax_open_flags(
	struct hk_fuse_server *server, struct hk_node *node, uint32_t mode, uint32_t flags);

/**
 * hk_dax_opened() - an open file of @node, just opened or made longer by the guest: what was mended
 * of it (hk_fuse_server_mend()) shows the file again
 */
void hk_dax_opened(struct hk_fuse_server *server, struct hk_node *node, int file);

/** hk_dax_writes() - is a part of this file mapped so that the guest can write there? */
bool hk_dax_writes(struct hk_fuse_server *server, const struct hk_node *node);

/**
 * hk_dax_shrinks() - the guest is about to make the file this short: it believes in no more of it,
 * from now on
 */
void hk_dax_shrinks(struct hk_fuse_server *server, struct hk_node *node, uint64_t size);

void hk_dax_drop_all(struct hk_fuse_server *server);

/** struct hk_dax_mapping - what slot @slot shows: @len bytes of a file from @offset on */
struct hk_dax_mapping {
	uint32_t slot;
	uint32_t len;
	uint64_t nodeid;
	uint64_t offset;
	bool writable;
};

/** hk_dax_next() - the next mapping from slot *@cursor on; for save, nothing else running */
bool hk_dax_next(
	struct hk_fuse_server *server, uint32_t *cursor, struct hk_dax_mapping *ret_mapping);
/**
 * hk_dax_put_back() - after a restore; nothing else running
 * @file: of @backend; -1: lost, the guest sees zeroes
 *
 * Return: 0; -EPROTO where there cannot be such a mapping; what mapping gave.
 */
int hk_dax_put_back(struct hk_fuse_server *server, const struct hk_dax_mapping *mapping,
	struct hk_backend *backend, int file);

/* dax_linux.c: memory of the host. */

/** hk_dax_map() - show @len bytes of the file at @at. Return: 0 or -errno. */
int hk_dax_map(uint8_t *at, size_t len, int fd, uint64_t offset, bool writable);
/** hk_dax_unmap() - nothing is there any more. Return: 0 or -errno. */
int hk_dax_unmap(uint8_t *at, size_t len);
/** hk_dax_stand_in() - memory of our own, zero. Return: 0 or -errno. */
int hk_dax_stand_in(uint8_t *at, size_t len);
/** hk_dax_can_read() - would reading this byte work? It is read. */
bool hk_dax_can_read(const uint8_t *at);

#endif
