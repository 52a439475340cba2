/* SPDX-License-Identifier: ISC */
/* A FUSE client in memory: see fuse_client.h. */
#include "fuse_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void note_denial(struct hk_fuse_owner *owner, const struct hk_fuse_denial *denial)
{
	struct fc *fc = (struct fc *)owner; /* first member */

	must(strcmp(denial->export_name, "x") == 0);
	snprintf(fc->denied_path, sizeof(fc->denied_path), "%s", denial->path);
	snprintf(fc->denied_operation, sizeof(fc->denied_operation), "%s", denial->operation);
	fc->denied_error = denial->error;
	fc->denials++;
}

static void make_window(struct fc *fc)
{
	struct hk_err err = HK_ERR_INIT;

	fc->window = mmap(NULL, FC_WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(fc->window != MAP_FAILED);
	must(hk_fuse_server_set_window(fc->server, fc->window, FC_WINDOW_BYTES, &err) == 0);
}

static void drop_window(struct fc *fc)
{
	if (fc->window != NULL) {
		munmap(fc->window, FC_WINDOW_BYTES);
	}
}

static void start_server(struct fc *fc, const struct hk_fuse_export *config, uint64_t features)
{
	struct hk_fuse_export export = {0};
	struct hk_err err = HK_ERR_INIT;
	struct fuse_init_in in = {.major = 7, .minor = 38, .max_readahead = 131072};
	struct fuse_entry_out entry;
	struct fc_reply reply;

	if (config != NULL) {
		export = *config;
	}
	export.name = "x";
	export.path = fc->inside;
	fc->owner.denied = note_denial;
	must(hk_fuse_server_create(&fc->owner, &fc->server, &err) == 0);
	must(hk_fuse_server_export(fc->server, &export, &err) == 0);
	if (export.dax) {
		make_window(fc);
	}
	in.flags = (uint32_t)features | FUSE_INIT_EXT;
	in.flags2 = (uint32_t)(features >> 32);
	reply = fc_call(fc, FUSE_INIT, 0, &(struct fc_part){&in, sizeof(in)}, 1, &fc->init,
		sizeof(fc->init));
	must(reply.error == 0 && reply.len == sizeof(fc->init));
	must(fc_lookup(fc, FUSE_ROOT_ID, "x", &entry) == 0);
	fc->root = entry.nodeid;
	fc->uid = getuid();
	fc->gid = getgid();
}

void fc_start(struct fc *fc, const struct hk_fuse_export *config, uint64_t features)
{
	memset(fc, 0, sizeof(*fc));
	snprintf(fc->dir, sizeof(fc->dir), "/tmp/hako-fuse-XXXXXX");
	must(mkdtemp(fc->dir) != NULL);
	chmod(fc->dir, 0755);
	snprintf(fc->inside, sizeof(fc->inside), "%s/in", fc->dir);
	snprintf(fc->outside, sizeof(fc->outside), "%s/out", fc->dir);
	must(mkdir(fc->inside, 0755) == 0 && mkdir(fc->outside, 0755) == 0);
	fc->inside_fd = open(fc->inside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(fc->inside_fd >= 0);
	start_server(fc, config, features);
}

void fc_stop(struct fc *fc)
{
	char command[256];

	hk_fuse_server_destroy(fc->server);
	drop_window(fc);
	close(fc->inside_fd);
	snprintf(command, sizeof(command), "chmod -R u+rwx '%s'; rm -rf '%s'", fc->dir, fc->dir);
	must(system(command) == 0);
}

void fc_again(struct fc *again, const struct fc *fc, const struct hk_fuse_export *config)
{
	struct hk_fuse_export export = {0};
	struct hk_err err = HK_ERR_INIT;

	memset(again, 0, sizeof(*again));
	memcpy(again->inside, fc->inside, sizeof(fc->inside));
	again->owner.denied = note_denial;
	again->root = fc->root;
	again->uid = fc->uid;
	again->gid = fc->gid;
	if (config != NULL) {
		export = *config;
	}
	export.name = "x";
	export.path = again->inside;
	must(hk_fuse_server_create(&again->owner, &again->server, &err) == 0);
	must(hk_fuse_server_export(again->server, &export, &err) == 0);
	if (export.dax) {
		make_window(again);
	}
}

void fc_drop(struct fc *again)
{
	hk_fuse_server_destroy(again->server);
	drop_window(again);
}

struct fc_reply fc_call(struct fc *fc, uint32_t opcode, uint64_t nodeid,
	const struct fc_part *parts, unsigned part_count, void *out, size_t out_size)
{
	static _Thread_local uint64_t unique;
	struct fuse_in_header head = {
		.len = sizeof(head),
		.opcode = opcode,
		.unique = ++unique,
		.nodeid = nodeid,
		.uid = fc->uid,
		.gid = fc->gid,
		.pid = 1,
	};
	struct fuse_out_header reply_head = {0};
	struct iovec in[8] = {{&head, sizeof(head)}};
	struct iovec reply[2] = {{&reply_head, sizeof(reply_head)}, {out, out_size}};
	ssize_t n;

	must(part_count < 8);
	for (unsigned i = 0; i < part_count; i++) {
		in[i + 1] = (struct iovec){(void *)parts[i].data, parts[i].len};
		head.len += (uint32_t)parts[i].len;
	}
	n = hk_fuse_handle(fc->server, in, part_count + 1, reply, out_size > 0 ? 2 : 1);
	if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET) {
		must(n == 0);
		return (struct fc_reply){0, 0};
	}
	must(n >= (ssize_t)sizeof(reply_head));
	must(reply_head.len == n && reply_head.unique == head.unique);
	must(reply_head.error <= 0 && reply_head.error > -4096);
	must(reply_head.error == 0 || n == sizeof(reply_head));
	return (struct fc_reply){reply_head.error, (size_t)n - sizeof(reply_head)};
}

static struct fc_part text_part(const char *text)
{
	return (struct fc_part){text, strlen(text) + 1};
}

int fc_lookup(struct fc *fc, uint64_t dir, const char *name, struct fuse_entry_out *entry)
{
	struct fc_part part = text_part(name);
	struct fc_reply r = fc_call(fc, FUSE_LOOKUP, dir, &part, 1, entry, sizeof(*entry));

	if (r.error == 0) {
		must(r.len == sizeof(*entry));
		return entry->nodeid == 0 ? -ENOENT : 0;
	}
	return r.error;
}

uint64_t fc_node(struct fc *fc, uint64_t dir, const char *name)
{
	struct fuse_entry_out entry;

	return fc_lookup(fc, dir, name, &entry) == 0 ? entry.nodeid : 0;
}

void fc_forget(struct fc *fc, uint64_t node, uint64_t count)
{
	struct fuse_forget_in in = {.nlookup = count};

	fc_call(fc, FUSE_FORGET, node, &(struct fc_part){&in, sizeof(in)}, 1, NULL, 0);
}

int fc_getattr(struct fc *fc, uint64_t node, struct fuse_attr *attr)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;
	struct fc_reply r = fc_call(
		fc, FUSE_GETATTR, node, &(struct fc_part){&in, sizeof(in)}, 1, &out, sizeof(out));

	if (r.error == 0 && attr != NULL) {
		*attr = out.attr;
	}
	return r.error;
}

int fc_setattr(struct fc *fc, uint64_t node, const struct fuse_setattr_in *in)
{
	struct fuse_attr_out out;

	return fc_call(
		fc, FUSE_SETATTR, node, &(struct fc_part){in, sizeof(*in)}, 1, &out, sizeof(out))
		.error;
}

int fc_open(struct fc *fc, uint64_t node, int flags, struct fuse_open_out *out)
{
	struct fuse_open_in in = {.flags = (uint32_t)flags};

	return fc_call(
		fc, FUSE_OPEN, node, &(struct fc_part){&in, sizeof(in)}, 1, out, sizeof(*out))
		.error;
}

int fc_create(struct fc *fc, uint64_t dir, const char *name, int flags, uint32_t mode,
	uint64_t *ret_node, uint64_t *ret_fh)
{
	struct fuse_create_in in = {.flags = (uint32_t)flags, .mode = mode | S_IFREG};
	struct fc_part parts[] = {{&in, sizeof(in)}, text_part(name)};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct fc_reply r = fc_call(fc, FUSE_CREATE, dir, parts, 2, &out, sizeof(out));

	if (r.error == 0) {
		*ret_node = out.entry.nodeid;
		*ret_fh = out.open.fh;
	}
	return r.error;
}

int fc_release(struct fc *fc, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	return fc_call(fc, FUSE_RELEASE, node, &(struct fc_part){&in, sizeof(in)}, 1, NULL, 0)
		.error;
}

int fc_read(struct fc *fc, uint64_t node, uint64_t fh, uint64_t offset, void *buf, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};
	struct fc_reply r =
		fc_call(fc, FUSE_READ, node, &(struct fc_part){&in, sizeof(in)}, 1, buf, size);

	return r.error < 0 ? r.error : (int)r.len;
}

int fc_write(
	struct fc *fc, uint64_t node, uint64_t fh, uint64_t offset, const void *buf, uint32_t size)
{
	struct fuse_write_in in = {
		.fh = fh, .offset = offset, .size = size, .flags = (uint32_t)fc->file_flags};
	struct fc_part parts[] = {{&in, sizeof(in)}, {buf, size}};
	struct fuse_write_out out;
	struct fc_reply r = fc_call(fc, FUSE_WRITE, node, parts, 2, &out, sizeof(out));

	return r.error < 0 ? r.error : (int)out.size;
}

int fc_mkdir(struct fc *fc, uint64_t dir, const char *name, struct fuse_entry_out *entry)
{
	struct fuse_mkdir_in in = {.mode = 0755};
	struct fc_part parts[] = {{&in, sizeof(in)}, text_part(name)};

	return fc_call(fc, FUSE_MKDIR, dir, parts, 2, entry, sizeof(*entry)).error;
}

int fc_name_op(struct fc *fc, uint32_t opcode, uint64_t dir, const char *name)
{
	struct fc_part part = text_part(name);

	return fc_call(fc, opcode, dir, &part, 1, NULL, 0).error;
}

int fc_rename(struct fc *fc, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name,
	uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = new_dir, .flags = flags};
	struct fc_part parts[] = {{&in, sizeof(in)}, text_part(name), text_part(new_name)};

	return fc_call(fc, FUSE_RENAME2, dir, parts, 3, NULL, 0).error;
}

int fc_link(struct fc *fc, uint64_t node, uint64_t dir, const char *name)
{
	struct fuse_link_in in = {.oldnodeid = node};
	struct fc_part parts[] = {{&in, sizeof(in)}, text_part(name)};
	struct fuse_entry_out entry;

	return fc_call(fc, FUSE_LINK, dir, parts, 2, &entry, sizeof(entry)).error;
}

int fc_symlink(struct fc *fc, uint64_t dir, const char *name, const char *target)
{
	struct fc_part parts[] = {text_part(name), text_part(target)};
	struct fuse_entry_out entry;

	return fc_call(fc, FUSE_SYMLINK, dir, parts, 2, &entry, sizeof(entry)).error;
}

int fc_readdir(struct fc *fc, uint64_t dir, uint64_t fh, uint64_t offset, bool plus, void *buf,
	uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};
	struct fc_reply r = fc_call(fc, plus ? FUSE_READDIRPLUS : FUSE_READDIR, dir,
		&(struct fc_part){&in, sizeof(in)}, 1, buf, size);

	return r.error < 0 ? r.error : (int)r.len;
}

void fc_host_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	must(fd >= 0);
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

bool fc_host_has(const char *dir, const char *name, const char *text)
{
	char path[512];
	char buf[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0) {
		return false;
	}
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}
