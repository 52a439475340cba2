/* SPDX-License-Identifier: ISC */
/*
 * Requests and replies in segments: see proto.h.
 *
 * Theory: three cursors walk the caller's segments. The one over the arguments is cut to the length
 * the header tells, so a handler can never read what belongs to nobody; the one over the payload
 * starts 16 bytes into the reply, and the header is written last, when length and error are known.
 * A copy that crosses segments goes on in the next one.
 *
 * Limits: a length that is larger than what was sent is a broken transport (-EPROTO); a smaller one
 * hides the rest.
 */
#include "fuse/proto.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

static_assert(sizeof(struct fuse_in_header) == 40, "fuse_in_header, linux/fuse.h");
static_assert(sizeof(struct fuse_out_header) == 16, "fuse_out_header, linux/fuse.h");

static size_t total_bytes(const struct iovec *iov, unsigned count)
{
	size_t total = 0;

	for (unsigned i = 0; i < count; i++) {
		total += iov[i].iov_len;
	}
	return total;
}

/* Steps over @len bytes that are known to be there. */
static void advance(struct hk_cursor *c, size_t len)
{
	assert(len <= c->left);
	c->left -= len;
	c->skip += len;
	while (c->count > 0 && c->skip >= c->iov[0].iov_len) {
		c->skip -= c->iov[0].iov_len;
		c->iov++;
		c->count--;
	}
}

/* Copies without moving the cursor; @len bytes are known to be there. */
static void copy(const struct hk_cursor *c, void *read_to, const void *write_from, size_t len)
{
	size_t skip = c->skip;
	size_t done = 0;

	for (unsigned i = 0; done < len; i++) {
		size_t n = HK_MIN(c->iov[i].iov_len - skip, len - done);

		if (n > 0 && read_to != NULL) {
			memcpy((char *)read_to + done, (const char *)c->iov[i].iov_base + skip, n);
		} else if (n > 0) {
			memcpy((char *)c->iov[i].iov_base + skip, (const char *)write_from + done,
				n);
		}
		done += n;
		skip = 0;
	}
}

int hk_req_parse(struct hk_req *req, const struct iovec *in, unsigned in_count,
	const struct iovec *out, unsigned out_count)
{
	req->in = (struct hk_cursor){in, in_count, 0, total_bytes(in, in_count)};
	req->out = (struct hk_cursor){out, out_count, 0, total_bytes(out, out_count)};
	req->payload_len = 0;
	if (hk_req_take(req, &req->head, sizeof(req->head)) < 0) {
		return -EPROTO;
	}
	if (req->head.len < sizeof(req->head) || req->head.len - sizeof(req->head) > req->in.left) {
		return -EPROTO;
	}
	req->in.left = req->head.len - sizeof(req->head);
	req->out_head = req->out;
	req->can_reply = req->out.left >= sizeof(struct fuse_out_header);
	if (req->can_reply) {
		advance(&req->out, sizeof(struct fuse_out_header));
	} else {
		req->out.left = 0;
	}
	return 0;
}

int hk_req_take(struct hk_req *req, void *buf, size_t len)
{
	if (len > req->in.left) {
		return -EINVAL;
	}
	copy(&req->in, buf, NULL, len);
	advance(&req->in, len);
	return 0;
}

int hk_req_take_string(struct hk_req *req, char *buf, size_t size)
{
	size_t len = HK_MIN(size, req->in.left);
	const char *end;

	copy(&req->in, buf, NULL, len);
	end = memchr(buf, '\0', len);
	if (end == NULL) {
		return len == size ? -ENAMETOOLONG : -EINVAL;
	}
	advance(&req->in, (size_t)(end - buf) + 1);
	return 0;
}

int hk_name_check(const char *name)
{
	size_t len = strlen(name);

	if (len > NAME_MAX) {
		return -ENAMETOOLONG;
	}
	if (len == 0 || memchr(name, '/', len) != NULL || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0) {
		return -EINVAL;
	}
	return 0;
}

int hk_req_take_name(struct hk_req *req, hk_name name)
{
	int r = hk_req_take_string(req, name, sizeof(hk_name));

	return r < 0 ? r : hk_name_check(name);
}

int hk_req_put(struct hk_req *req, const void *buf, size_t len)
{
	if (len > req->out.left) {
		return -ERANGE;
	}
	copy(&req->out, NULL, buf, len);
	hk_req_skip_out(req, len);
	return 0;
}

void hk_req_skip_out(struct hk_req *req, size_t len)
{
	advance(&req->out, len);
	req->payload_len += len;
}

unsigned hk_cursor_slice(const struct hk_cursor *c, size_t len, struct iovec *iov)
{
	size_t skip = c->skip;
	unsigned used = 0;

	len = HK_MIN(len, c->left);
	for (unsigned i = 0; i < c->count && len > 0; i++) {
		size_t n = HK_MIN(c->iov[i].iov_len - skip, len);

		if (n > 0) {
			iov[used].iov_base = (char *)c->iov[i].iov_base + skip;
			iov[used].iov_len = n;
			used++;
		}
		len -= n;
		skip = 0;
	}
	return used;
}

size_t hk_req_finish(struct hk_req *req, int result)
{
	struct fuse_out_header head = {.unique = req->head.unique};

	if (result == HK_REQ_NO_REPLY || !req->can_reply) {
		return 0;
	}
	if (result < 0) {
		head.error = result;
		req->payload_len = 0;
	}
	head.len = (uint32_t)(sizeof(head) + req->payload_len);
	copy(&req->out_head, NULL, &head, sizeof(head));
	return head.len;
}
