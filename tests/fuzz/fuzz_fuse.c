/* SPDX-License-Identifier: ISC */
/*
 * Sequences of FUSE requests on a temporary directory.
 *
 * An input is a list of records: opcode, which node, which handle, which name, how many raw bytes,
 * the bytes. The request is made of them: nodeids and handles are mostly ones the server gave, so
 * that sequences get somewhere. A file outside of the export, and what there is beside it, must
 * never change.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/server.h"
#include "fuzz_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_IDS = 16, MAX_RAW = 200, MAX_RECORDS = 64 };
enum { SLOT_BYTES = 2 << 20, WINDOW_BYTES = 8 * SLOT_BYTES };

static uint8_t *window;

static char base[64];
static char inside[80];
static char secret[80];

struct session {
	struct hk_fuse_server *server;
	uint64_t nodes[MAX_IDS];
	uint64_t fhs[MAX_IDS];
	unsigned node_count;
	unsigned fh_count;
};

static void must(bool condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "fuzz_fuse: %s\n", what);
		abort();
	}
}

static void remove_base(void)
{
	fuzz_dir_empty(inside);
	unlink(secret);
	rmdir(inside);
	rmdir(base);
}

static void prepare(void)
{
	int fd;

	must(fuzz_dir_make(base, sizeof(base)) == 0, "mkdtemp");
	snprintf(inside, sizeof(inside), "%s/in", base);
	snprintf(secret, sizeof(secret), "%s/secret", base);
	must(mkdir(inside, 0755) == 0, "mkdir");
	fd = open(secret, O_WRONLY | O_CREAT, 0644);
	must(fd >= 0 && write(fd, "outside", 7) == 7 && close(fd) == 0, "secret");
	must(fuzz_dir_limit() == 0, "limit");
	window = mmap(NULL, WINDOW_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(window != MAP_FAILED, "window");
	atexit(remove_base);
}

static void check_outside(void)
{
	struct stat st;
	struct stat dir;
	char text[8];
	int fd = open(secret, O_RDONLY);

	must(fd >= 0 && read(fd, text, 8) == 7 && memcmp(text, "outside", 7) == 0,
		"the outside was written to");
	must(fstat(fd, &st) == 0 && st.st_nlink == 1 && (st.st_mode & 07777) == 0644,
		"attributes outside");
	must(stat(base, &dir) == 0 && dir.st_nlink == 3, "directories outside");
	close(fd);
}

static void note(uint64_t *ids, unsigned *count, uint64_t id)
{
	ids[(*count)++ % MAX_IDS] = id;
}

/* Takes ids out of a reply. */
static void learn(struct session *s, uint32_t opcode, const char *reply, size_t len)
{
	const struct fuse_entry_out *entry = (const struct fuse_entry_out *)reply;

	switch (opcode) {
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		if (len >= sizeof(*entry) + sizeof(struct fuse_open_out)) {
			note(s->fhs, &s->fh_count, ((const struct fuse_open_out *)(entry + 1))->fh);
		}
		/* fall through */
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		if (len >= sizeof(*entry) && entry->nodeid != 0) {
			note(s->nodes, &s->node_count, entry->nodeid);
		}
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		if (len >= sizeof(struct fuse_open_out)) {
			note(s->fhs, &s->fh_count, ((const struct fuse_open_out *)reply)->fh);
		}
		break;
	default:
		break;
	}
}

static bool starts_with_fh(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNC:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_FALLOCATE:
	case FUSE_LSEEK:
	case FUSE_COPY_FILE_RANGE:
	case FUSE_SETUPMAPPING:
		return true;
	default:
		return false;
	}
}

/* Slots are large: a few bits say which, so that mappings come about, are replaced and removed. */
static void aim(uint32_t opcode, char *body, size_t len)
{
	struct fuse_setupmapping_in in;
	struct fuse_removemapping_one one;
	const size_t at = sizeof(struct fuse_removemapping_in);

	if (opcode == FUSE_SETUPMAPPING && len >= sizeof(in) && (body[39] & 1) == 0) {
		memcpy(&in, body, sizeof(in));
		in.fh = (body[39] & 2) == 0 ? UINT64_MAX : in.fh;
		in.foffset = in.foffset % 4 * SLOT_BYTES;
		in.moffset = in.moffset % 10 * SLOT_BYTES;
		in.len %= 3 * SLOT_BYTES;
		in.flags %= 5;
		memcpy(body, &in, sizeof(in));
	}
	if (opcode == FUSE_REMOVEMAPPING && len >= at + sizeof(one) && (body[3] & 1) == 0) {
		memcpy(&one, body + at, sizeof(one));
		one.moffset = one.moffset % 10 * SLOT_BYTES;
		one.len %= 3 * SLOT_BYTES;
		memcpy(body + at, &one, sizeof(one));
		body[0] = 1;
		body[1] = body[2] = body[3] = 0;
	}
}

/* Whatever is mapped: of the secret outside nothing shows, and reading is the kernel's affair. */
static void look_into_window(void)
{
	char text[8];
	int fds[2];

	must(pipe(fds) == 0, "pipe");
	for (unsigned i = 0; i < WINDOW_BYTES / SLOT_BYTES; i++) {
		if (write(fds[1], window + (size_t)i * SLOT_BYTES, 7) == 7) {
			must(read(fds[0], text, 7) == 7 && memcmp(text, "outside", 7) != 0,
				"the window shows the outside");
		}
	}
	close(fds[0]);
	close(fds[1]);
}

static void request(
	struct session *s, uint32_t opcode, uint64_t nodeid, const char *body, size_t len)
{
	static _Alignas(8) char reply[1 << 17];
	char buf[sizeof(struct fuse_in_header) + 2 * MAX_RAW + 64];
	struct fuse_in_header head = {.len = (uint32_t)(sizeof(head) + len),
		.opcode = opcode,
		.unique = 1,
		.nodeid = nodeid};
	struct iovec in[2] = {
		{buf, sizeof(head) / 2}, {buf + sizeof(head) / 2, sizeof(head) / 2 + len}};
	struct iovec out = {reply, sizeof(reply)};
	ssize_t n;

	memcpy(buf, &head, sizeof(head));
	memcpy(buf + sizeof(head), body, len);
	n = hk_fuse_handle(s->server, in, 2, &out, 1);
	must(n == 0 || (n >= 16 && n <= (ssize_t)sizeof(reply)), "length of the reply");
	if (n >= 16) {
		struct fuse_out_header *out_head = (struct fuse_out_header *)reply;

		must(out_head->len == n && out_head->unique == 1, "header of the reply");
		must(out_head->error <= 0 && out_head->error > -4096, "error of the reply");
		if (out_head->error == 0) {
			learn(s, opcode, reply + 16, (size_t)n - 16);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a", "b", "c", "d", ".", "..", "a/b", "../secret",
		"/etc/passwd", "x", "a\0b", "b\0../../secret"};
	static const uint8_t name_len[] = {2, 2, 2, 2, 2, 3, 4, 10, 12, 2, 4, 15};
	struct session s = {0};
	struct hk_fuse_export export = {.name = "x"};
	struct fuse_init_in init = {.major = 7, .minor = 38};
	struct hk_err err = HK_ERR_INIT;

	if (base[0] == '\0') {
		prepare();
	}
	if (size == 0) {
		return 0;
	}
	export.path = inside;
	export.read_only = (data[0] & 1) != 0;
	export.public_only = (data[0] & 2) != 0;
	export.dax = (data[0] & 8) != 0;
	must(hk_fuse_server_create(NULL, &s.server, &err) == 0, "create");
	must(hk_fuse_server_export(s.server, &export, &err) == 0, "export");
	if (export.dax) {
		must(hk_fuse_server_set_window(s.server, window, WINDOW_BYTES, &err) == 0,
			"set_window");
	}
	init.flags = (data[0] & 4) != 0 ? FUSE_NO_OPENDIR_SUPPORT : 0;
	init.flags |= FUSE_INIT_EXT | FUSE_MAP_ALIGNMENT;
	init.flags2 = (uint32_t)(FUSE_HAS_INODE_DAX >> 32);
	request(&s, FUSE_INIT, 0, (const char *)&init, sizeof(init));
	note(s.nodes, &s.node_count, FUSE_ROOT_ID);
	request(&s, FUSE_LOOKUP, FUSE_ROOT_ID, "x", 2);
	data++;
	size--;
	for (unsigned i = 0; i < MAX_RECORDS && size >= 5; i++) {
		uint32_t opcode = data[0] % 64;
		unsigned which_node = data[1] % (MAX_IDS + 1);
		unsigned which_fh = data[2] % (MAX_IDS + 1);
		unsigned which_name = data[3] % 16;
		size_t raw = data[4] % MAX_RAW;
		char body[2 * MAX_RAW] = {0};
		size_t len;
		uint64_t nodeid = s.nodes[which_node % MAX_IDS];

		data += 5;
		size -= 5;
		raw = HK_MIN(raw, size);
		len = raw;
		memcpy(body, data, raw);
		data += raw;
		size -= raw;
		if (opcode == FUSE_SYNCFS) {
			continue; /* would wait for the whole machine */
		}
		if (which_node == MAX_IDS && raw >= 8) {
			memcpy(&nodeid, body, sizeof(nodeid));
		}
		if (starts_with_fh(opcode) && which_fh < MAX_IDS && raw >= 8) {
			memcpy(body, &s.fhs[which_fh], 8);
		}
		if ((opcode == FUSE_RENAME || opcode == FUSE_RENAME2 || opcode == FUSE_LINK) &&
			raw >= 8) {
			memcpy(body, &s.nodes[which_fh % MAX_IDS], 8);
		}
		if (which_name < HK_ARRAY_SIZE(names)) {
			memcpy(body + len, names[which_name], name_len[which_name]);
			len += name_len[which_name];
		}
		aim(opcode, body, len);
		request(&s, opcode, nodeid, body, len);
	}
	hk_fuse_server_mend(s.server);
	look_into_window();
	hk_fuse_server_destroy(s.server);
	fuzz_dir_empty(inside);
	chmod(inside, 0755);
	check_outside();
	return 0;
}
