/* SPDX-License-Identifier: ISC */
/*
 * Split virtqueues, the device's side.
 *
 * Theory of operation. A queue is three areas of guest memory. The driver fills descriptors,
 * chains them, writes the chain's head into the available ring and then moves that ring's index
 * on; we walk the chain, serve it, write its head into the used ring and move that index on. Each
 * side only ever writes its own ring, so that two indices and two barriers are all the locking
 * there is.
 *
 *	descriptor (16 bytes)       available ring          used ring
 *	 0  u64 addr                 0  u16 flags            0  u16 flags
 *	 8  u32 len                  2  u16 idx              2  u16 idx
 *	12  u16 flags                4  u16 ring[size]       4  {u32 id, u32 len}[size]
 *	14  u16 next                    u16 used_event          u16 avail_event
 *
 * The indices run freely modulo 2^16. At any time
 *
 *	next_used <= next_avail <= avail_seen <= next_used + size
 *
 * (modulo 2^16): a driver that claims to have more than `size` chains under way has jumped.
 *
 * Barriers. Where ours pair with the driver's, the comment names Linux's function in
 * drivers/virtio/virtio_ring.c.
 *
 * Limits: in-order use, packed rings and queue reset are not offered. A chain has at most `size`
 * segments, those of its indirect table included; a longer one may well be a loop, and is not told
 * from it.
 */
#include "virtio/virtq.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

HK_LOG_CHANNEL("virtio");

enum {
	DESC_SIZE = 16,
	DESC_ALIGN = 16,
	AVAIL_ALIGN = 2,
	USED_ALIGN = 4,
	USED_ELEM_SIZE = 8,

	DESC_F_NEXT = 1u << 0,
	DESC_F_WRITE = 1u << 1,
	DESC_F_INDIRECT = 1u << 2,

	AVAIL_F_NO_INTERRUPT = 1u << 0,
	USED_F_NO_NOTIFY = 1u << 0,

	STATE_VERSION = 1,
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
static_assert(sizeof(struct desc) == DESC_SIZE, "VIRTIO 1.2, 2.7.5");

/* The areas' fields. All are naturally aligned, because hk_virtq_enable() checked the areas. */

static uint16_t *avail_flags(const struct hk_virtq *vq)
{
	return (uint16_t *)vq->avail;
}

static uint16_t *avail_idx(const struct hk_virtq *vq)
{
	return (uint16_t *)(vq->avail + 2);
}

static uint16_t *avail_entry(const struct hk_virtq *vq, uint16_t index)
{
	return (uint16_t *)(vq->avail + 4) + (index & (vq->size - 1));
}

static uint16_t *used_event(const struct hk_virtq *vq)
{
	return (uint16_t *)(vq->avail + 4) + vq->size;
}

static uint16_t *used_flags(const struct hk_virtq *vq)
{
	return (uint16_t *)vq->used;
}

static uint16_t *used_idx(const struct hk_virtq *vq)
{
	return (uint16_t *)(vq->used + 2);
}

static uint32_t *used_entry(const struct hk_virtq *vq, uint16_t index)
{
	return (uint32_t *)(vq->used + 4 + USED_ELEM_SIZE * (index & (vq->size - 1)));
}

static uint16_t *avail_event(const struct hk_virtq *vq)
{
	return (uint16_t *)(vq->used + 4 + USED_ELEM_SIZE * vq->size);
}

/* An indirect table may stand at any address. Volatile: the compiler must not read it twice. */
struct unaligned64 {
	uint64_t value;
} __attribute__((packed, may_alias));

static struct desc read_desc(const uint8_t *table, unsigned index)
{
	const volatile struct unaligned64 *raw =
		(const volatile struct unaligned64 *)(table + (size_t)index * DESC_SIZE);
	uint64_t addr = le64toh(raw[0].value);
	uint64_t rest = le64toh(raw[1].value);

	return (struct desc){
		.addr = addr,
		.len = (uint32_t)rest,
		.flags = (uint16_t)(rest >> 32),
		.next = (uint16_t)(rest >> 48),
	};
}

static int break_queue(struct hk_virtq *vq, const char *why)
{
	vq->broken = true;
	vq->why = why;
	hk_log_debug("queue broken at available index %u: %s", vq->next_avail, why);
	return -EPROTO;
}

static void *area_at(const struct hk_virtq *vq, hk_gpa gpa, uint64_t len, unsigned alignment)
{
	return gpa % alignment == 0 ? hk_mem_at(vq->mem, gpa, len) : NULL;
}

int hk_virtq_enable(struct hk_virtq *vq)
{
	uint8_t *desc, *avail, *used;

	vq->enabled = false;
	if (vq->size == 0 || vq->size > HK_VIRTQ_MAX_SIZE || (vq->size & (vq->size - 1)) != 0) {
		return -EINVAL;
	}
	/* The event fields at the ends are part of the areas, negotiated or not. */
	desc = area_at(vq, vq->desc_gpa, (uint64_t)vq->size * DESC_SIZE, DESC_ALIGN);
	avail = area_at(vq, vq->avail_gpa, 6 + (uint64_t)vq->size * 2, AVAIL_ALIGN);
	used = area_at(vq, vq->used_gpa, 6 + (uint64_t)vq->size * USED_ELEM_SIZE, USED_ALIGN);
	if (desc == NULL || avail == NULL || used == NULL) {
		return -EINVAL;
	}
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->broken = false;
	vq->why = NULL;
	vq->next_avail = 0;
	vq->next_used = 0;
	vq->avail_seen = 0;
	vq->notified_used = 0;
	vq->enabled = true;
	return 0;
}

void hk_virtq_reset(struct hk_virtq *vq)
{
	*vq = (struct hk_virtq){.mem = vq->mem};
}

static int add_segment(struct hk_virtq *vq, struct hk_chain *chain, const struct desc *desc)
{
	unsigned count = chain->readable_count + chain->writable_count;
	uint64_t total = (uint64_t)chain->readable_bytes + chain->writable_bytes + desc->len;
	void *host;

	if (count == vq->size || count == chain->capacity) {
		return break_queue(vq, "chain is too long");
	}
	if (desc->len == 0) {
		return break_queue(vq, "buffer of no length");
	}
	if (total > UINT32_MAX) {
		return break_queue(vq, "chain of 4 GiB or more");
	}
	host = hk_mem_buffer_at(vq->mem, desc->addr, desc->len);
	if (host == NULL) {
		return break_queue(vq, "buffer outside of memory");
	}
	chain->iov[count] = (struct iovec){.iov_base = host, .iov_len = desc->len};
	if (desc->flags & DESC_F_WRITE) {
		chain->writable_count++;
		chain->writable_bytes += desc->len;
	} else if (chain->writable_count != 0) {
		return break_queue(vq, "readable buffer after a writable one");
	} else {
		chain->readable_count++;
		chain->readable_bytes += desc->len;
	}
	return 0;
}

/* Checks the descriptor of an indirect table. Return: 0 with the table, or -EPROTO. */
static int indirect_table(struct hk_virtq *vq, const struct desc *desc, const uint8_t **ret_table,
	unsigned *ret_entries)
{
	if (!vq->indirect) {
		return break_queue(vq, "indirect table was not negotiated");
	}
	if (desc->flags & DESC_F_NEXT) {
		return break_queue(vq, "indirect table is not last in its chain");
	}
	if (desc->len == 0 || desc->len % DESC_SIZE != 0) {
		return break_queue(vq, "indirect table has a broken length");
	}
	if (desc->len / DESC_SIZE > vq->size) {
		return break_queue(vq, "indirect table is longer than the queue");
	}
	*ret_table = hk_mem_at(vq->mem, desc->addr, desc->len);
	if (*ret_table == NULL) {
		return break_queue(vq, "indirect table outside RAM");
	}
	*ret_entries = desc->len / DESC_SIZE;
	return 0;
}

/*
 * Follows the chain that starts at descriptor @index: any number of direct descriptors, the last of
 * which may name an indirect table (VIRTIO 1.2, 2.7.5.3). Ends, because every step adds a
 * segment, and add_segment() limits those, or enters the one indirect table.
 */
static int walk(struct hk_virtq *vq, struct hk_chain *chain, unsigned index)
{
	const uint8_t *table = vq->desc;
	unsigned entries = vq->size;
	bool in_indirect = false;

	for (;;) {
		struct desc desc;
		int rc;

		if (index >= entries) {
			return break_queue(vq, "descriptor index beyond its table");
		}
		desc = read_desc(table, index);
		if (desc.flags & DESC_F_INDIRECT) {
			if (in_indirect) {
				return break_queue(vq, "indirect table within an indirect table");
			}
			rc = indirect_table(vq, &desc, &table, &entries);
			if (rc < 0) {
				return rc;
			}
			in_indirect = true;
			index = 0;
			continue;
		}
		rc = add_segment(vq, chain, &desc);
		if (rc < 0) {
			return rc;
		}
		if (!(desc.flags & DESC_F_NEXT)) {
			return 0;
		}
		index = desc.next;
	}
}

/*
 * Looks how far the driver has filled the ring. Return: false where its index is one that cannot
 * be.
 */
static bool look_ahead(struct hk_virtq *vq)
{
	/*
	 * Acquire: pairs with virtio_wmb() in virtqueue_add_split(), between the descriptors and
	 * ring entry and the index that publishes them.
	 */
	uint16_t idx = le16toh(hk_load_acquire(avail_idx(vq)));
	uint16_t under_way = (uint16_t)(idx - vq->next_used);
	uint16_t served = (uint16_t)(vq->next_avail - vq->next_used);

	/* Neither beyond what the ring holds, nor back to before what was popped. */
	if (under_way > vq->size || under_way < served) {
		return false;
	}
	vq->avail_seen = idx;
	return true;
}

int hk_virtq_pop(struct hk_virtq *vq, struct hk_chain *chain)
{
	uint16_t head;
	int rc;

	if (vq->broken) {
		return -EPROTO;
	}
	if (!vq->enabled) {
		return 0;
	}
	if (vq->next_avail == vq->avail_seen) {
		if (!look_ahead(vq)) {
			return break_queue(vq, "available index jumped");
		}
		if (vq->next_avail == vq->avail_seen) {
			return 0;
		}
	}
	head = le16toh(hk_load_once(avail_entry(vq, vq->next_avail)));
	chain->head = head;
	chain->readable_count = 0;
	chain->writable_count = 0;
	chain->readable_bytes = 0;
	chain->writable_bytes = 0;
	rc = walk(vq, chain, head);
	if (rc < 0) {
		return rc;
	}
	vq->next_avail++;
	return 1;
}

void hk_virtq_unpop(struct hk_virtq *vq)
{
	assert(vq->enabled && vq->next_avail != vq->next_used);
	vq->next_avail--;
}

/*
 * The whole writable part, and not only what the driver is told of: a transfer that failed half-way
 * has written, too.
 */
static void tell_engine(const struct hk_virtq *vq, const struct hk_chain *chain)
{
	if (vq->mem->watcher == NULL) {
		return;
	}
	for (unsigned i = 0; i < chain->writable_count; i++) {
		const struct iovec *segment = &chain->iov[chain->readable_count + i];

		hk_mem_written(vq->mem, hk_mem_gpa(vq->mem, segment->iov_base), segment->iov_len);
	}
}

void hk_virtq_push(struct hk_virtq *vq, const struct hk_chain *chain, uint32_t written)
{
	uint32_t *entry;

	/*
	 * After the device's writes, so that no code of before stays, and before the used ring says
	 * that they are done. A queue that was reset or broken meanwhile had them all the same.
	 */
	tell_engine(vq, chain);
	if (!vq->enabled || vq->broken) {
		return;
	}
	entry = used_entry(vq, vq->next_used);
	hk_store_once(&entry[0], htole32((uint32_t)chain->head));
	hk_store_once(&entry[1], htole32(written));
	vq->next_used++;
	if (vq->next_used == vq->notified_used) {
		/* 65536 pushes without a look: keep "all of them" from reading as "none". */
		vq->notified_used++;
	}
	/*
	 * Release: the entry, and what was written to the buffers, before the index. Pairs with
	 * virtio_rmb() in virtqueue_get_buf_ctx_split().
	 */
	hk_store_release(used_idx(vq), htole16(vq->next_used));
}

bool hk_virtq_wants_interrupt(struct hk_virtq *vq)
{
	uint16_t pushed = (uint16_t)(vq->next_used - vq->notified_used);

	if (!vq->enabled || pushed == 0) {
		return false;
	}
	vq->notified_used = vq->next_used;
	/*
	 * Full: our used index before we look whether the driver wants to hear of it. Pairs with
	 * virtio_mb() in virtqueue_enable_cb_delayed_split() and virtio_store_mb() in
	 * virtqueue_get_buf_ctx_split(), where the driver writes what it wants before it looks at
	 * the used index: one of the two sees the other.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (vq->event_idx) {
		uint16_t event = le16toh(hk_load_once(used_event(vq)));

		/* Did next_used move past the event in this batch? (VIRTIO 1.2, 2.7.7.2) */
		return (uint16_t)(vq->next_used - event - 1) < pushed;
	}
	return !(le16toh(hk_load_once(avail_flags(vq))) & AVAIL_F_NO_INTERRUPT);
}

bool hk_virtq_want_kicks(struct hk_virtq *vq, bool want)
{
	if (!vq->enabled || vq->broken) {
		return false;
	}
	if (vq->event_idx) {
		/* To spare us, leave the event behind: the driver does not pass it again for long.
		 */
		if (want) {
			hk_store_once(avail_event(vq), htole16(vq->next_avail));
		}
	} else {
		hk_store_once(used_flags(vq), htole16(want ? 0 : USED_F_NO_NOTIFY));
	}
	if (!want) {
		return false;
	}
	/*
	 * Full: our wish before we look at the available index. Pairs with virtio_mb() in
	 * virtqueue_kick_prepare_split(), between the available index and the look at our wish.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	return le16toh(hk_load_once(avail_idx(vq))) != vq->next_avail;
}

/*
 * State: the registers the driver set, the indices, and what became of the queue. The rings
 * themselves are guest memory.
 */
void hk_virtq_save(const struct hk_virtq *vq, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "virtq", STATE_VERSION);

	hk_write_u16(w, vq->size);
	hk_write_u64(w, vq->desc_gpa);
	hk_write_u64(w, vq->avail_gpa);
	hk_write_u64(w, vq->used_gpa);
	hk_write_u8(w, vq->enabled);
	hk_write_u8(w, vq->broken);
	hk_write_u8(w, vq->event_idx);
	hk_write_u8(w, vq->indirect);
	hk_write_u16(w, vq->next_avail);
	hk_write_u16(w, vq->next_used);
	hk_write_u16(w, vq->notified_used);
	hk_writer_end(w, mark);
}

void hk_virtq_restore(struct hk_virtq *vq, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "virtq", STATE_VERSION);
	uint16_t next_avail, next_used, notified_used;
	bool enabled, broken;

	hk_virtq_reset(vq);
	vq->size = hk_read_u16(r);
	vq->desc_gpa = hk_read_u64(r);
	vq->avail_gpa = hk_read_u64(r);
	vq->used_gpa = hk_read_u64(r);
	enabled = hk_read_u8(r);
	broken = hk_read_u8(r);
	vq->event_idx = hk_read_u8(r);
	vq->indirect = hk_read_u8(r);
	next_avail = hk_read_u16(r);
	next_used = hk_read_u16(r);
	notified_used = hk_read_u16(r);
	hk_reader_end(r, section);

	if (enabled && hk_virtq_enable(vq) < 0) {
		hk_reader_fail(r);
	}
	if ((uint16_t)(next_avail - next_used) > (enabled ? vq->size : 0)) {
		hk_reader_fail(r);
	}
	if (r->error != 0) {
		hk_virtq_reset(vq);
		return;
	}
	vq->broken = broken;
	vq->why = broken ? "it was broken when it was saved" : NULL;
	vq->next_avail = next_avail;
	vq->avail_seen = next_avail;
	vq->next_used = next_used;
	vq->notified_used = notified_used;
}

unsigned hk_chain_slice(const struct hk_chain *chain, bool writable, uint32_t offset, uint32_t len,
	struct iovec *out, unsigned capacity)
{
	const struct iovec *part = chain->iov + (writable ? chain->readable_count : 0);
	unsigned part_count = writable ? chain->writable_count : chain->readable_count;
	unsigned count = 0;

	for (unsigned i = 0; i < part_count && len > 0 && count < capacity; i++) {
		size_t take;

		if (offset >= part[i].iov_len) {
			offset -= (uint32_t)part[i].iov_len;
			continue;
		}
		take = HK_MIN(part[i].iov_len - offset, len);
		out[count++] = (struct iovec){
			.iov_base = (uint8_t *)part[i].iov_base + offset,
			.iov_len = take,
		};
		len -= (uint32_t)take;
		offset = 0;
	}
	return count;
}

/* Most copies are of headers, which stand in one segment. */
enum { COPY_SLICES = 8 };

uint32_t hk_chain_read(const struct hk_chain *chain, uint32_t offset, void *buf, uint32_t len)
{
	uint8_t *out = buf;
	uint32_t done = 0;

	while (done < len) {
		struct iovec iov[COPY_SLICES];
		unsigned count =
			hk_chain_slice(chain, false, offset + done, len - done, iov, COPY_SLICES);

		if (count == 0) {
			break;
		}
		for (unsigned i = 0; i < count; i++) {
			memcpy(out + done, iov[i].iov_base, iov[i].iov_len);
			done += (uint32_t)iov[i].iov_len;
		}
	}
	return done;
}

uint32_t hk_chain_write(
	const struct hk_chain *chain, uint32_t offset, const void *buf, uint32_t len)
{
	const uint8_t *in = buf;
	uint32_t done = 0;

	while (done < len) {
		struct iovec iov[COPY_SLICES];
		unsigned count =
			hk_chain_slice(chain, true, offset + done, len - done, iov, COPY_SLICES);

		if (count == 0) {
			break;
		}
		for (unsigned i = 0; i < count; i++) {
			memcpy(iov[i].iov_base, in + done, iov[i].iov_len);
			done += (uint32_t)iov[i].iov_len;
		}
	}
	return done;
}
