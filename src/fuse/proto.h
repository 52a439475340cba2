/* SPDX-License-Identifier: ISC */
/*
 * One FUSE request taken out of the segments it came in, and its reply put into those that wait for
 * it.
 *
 * A protocol core: touches the caller's memory and nothing else. The segments are guest memory,
 * which may change at any time: every byte is copied once, in order, and what was copied is
 * checked.
 *
 * Source: linux/fuse.h (7.38, and what is new up to 7.45): struct fuse_in_header, struct
 * fuse_out_header.
 */
#ifndef HK_FUSE_PROTO_H
#define HK_FUSE_PROTO_H

#include <limits.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

/* The newest protocol we speak: Linux 6.18. What the header of 7.38 does not have yet: */
enum { HK_FUSE_MINOR = 45 };

#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH  (UINT64_C(1) << 37)
#define FOPEN_PASSTHROUGH (1 << 7)
#endif

#ifndef FUSE_DEV_IOC_BACKING_OPEN
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN  _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
#endif

/* Members whose place was reserved in 7.38, by their offset. */
enum {
	HK_FUSE_INIT_OUT_STACK_DEPTH = 36, /* uint32_t max_stack_depth */
	HK_FUSE_OPEN_OUT_BACKING_ID = 12,  /* int32_t backing_id */
};

/** hk_fuse_put_u32() - set a member of a reply that the header does not know */
static inline void hk_fuse_put_u32(void *reply, size_t offset, uint32_t value)
{
	memcpy((char *)reply + offset, &value, sizeof(value));
}

/** struct hk_cursor - a place in a list of segments; bytes before it are used up */
struct hk_cursor {
	const struct iovec *iov; /* borrowed */
	unsigned count;
	size_t skip; /* bytes of iov[0] used up */
	size_t left; /* bytes that may be used */
};

/** struct hk_req - a request and its reply to be */
struct hk_req {
	struct fuse_in_header head;
	struct hk_cursor in;       /* arguments, in order */
	struct hk_cursor out_head; /* where the reply's header goes */
	struct hk_cursor out;      /* where the payload goes on */
	size_t payload_len;
	bool can_reply; /* there is room for a header */
};

/* What a handler returns when the request has no reply. */
enum { HK_REQ_NO_REPLY = 1 };

typedef char hk_name[NAME_MAX + 1];

/**
 * hk_req_parse() - take the header off a request
 *
 * Return: 0; -EPROTO where the header is not whole or its length lies.
 */
int hk_req_parse(struct hk_req *req, const struct iovec *in, unsigned in_count,
	const struct iovec *out, unsigned out_count);

/** hk_req_take() - the next @len bytes of arguments. Return: 0, or -EINVAL where there are less. */
int hk_req_take(struct hk_req *req, void *buf, size_t len);

/**
 * hk_req_take_string() - the next NUL-terminated string
 * @size: of @buf; longer ones give -ENAMETOOLONG
 *
 * Return: 0; -EINVAL where no NUL comes.
 */
int hk_req_take_string(struct hk_req *req, char *buf, size_t size);

/** hk_req_take_name() - the next string, checked by hk_name_check() */
int hk_req_take_name(struct hk_req *req, hk_name name);

/**
 * hk_name_check() - is this one component that stays in its directory?
 *
 * Return: 0; -EINVAL for "", ".", ".." and names with a slash; -ENAMETOOLONG.
 */
int hk_name_check(const char *name);

/** hk_req_put() - append to the payload. Return: 0, or -ERANGE where the reply has no room. */
int hk_req_put(struct hk_req *req, const void *buf, size_t len);

/** hk_req_room() - bytes of payload the reply can still take */
static inline size_t hk_req_room(const struct hk_req *req)
{
	return req->out.left;
}

/** hk_req_skip_out() - count @len bytes as payload that somebody else has put there */
void hk_req_skip_out(struct hk_req *req, size_t len);

/**
 * hk_cursor_slice() - the segments of the next @len bytes
 * @iov: HK_FUSE_MAX_SEGMENTS elements
 *
 * Return: number of elements used; fewer bytes where the cursor has less.
 */
unsigned hk_cursor_slice(const struct hk_cursor *c, size_t len, struct iovec *iov);

/**
 * hk_req_finish() - write the reply's header
 * @result: 0, -errno (payload is then dropped), or HK_REQ_NO_REPLY
 *
 * Return: bytes of reply; 0 where there is none.
 */
size_t hk_req_finish(struct hk_req *req, int result);

#endif
