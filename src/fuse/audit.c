/* SPDX-License-Identifier: ISC */
/*
 * The audit's queue, and the thread that empties it.
 *
 * Theory: threads of the server copy events into a ring of bytes under one lock, held for the copy
 * only. The audit's thread takes them out in order, adds them to the tree (audit_tree.c) and writes
 * them as lines (audit_line.c). Waking a thread costs more than all else here, and takes the
 * processor from who asked: so the thread is woken by the first event, then naps for NAP_NS while
 * more gather, unless the ring is half full. Where the ring is full, the server's threads wait, and
 * the time is counted: nothing is dropped.
 *
 * The log's reader may go away: then lines are counted as lost, the sums go on, and
 * hk_audit_finish() tells.
 *
 * Limits: a line is up to NAP_NS late. Order is that of the calls; two threads that call at once
 * come in any order.
 */
#include "fuse/audit.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/timespec.h"
#include "fuse/audit_impl.h"

enum { RING_BYTES = 1 << 20, BATCH_BYTES = 128 * 1024 };

#define NAP_NS (10 * HK_NS_PER_MS)

struct hk_audit {
	struct hk_audit_results results; /* filled in at the end */
	struct hk_processes *processes;  /* owned */
	char *home, *cwd;                /* owned */
	atomic_uint_fast64_t violations;
	const struct hk_audit_root *roots; /* borrowed */
	unsigned root_count;
	pthread_t thread;
	bool has_thread;

	/* The thread's own. */
	struct hk_tree tree;
	struct hk_lines lines;
	int log_fd;          /* borrowed; -1: none */
	int log_error;       /* positive errno, sticky */
	uint64_t lines_held; /* in @lines, to be written */
	uint64_t lines_lost;

	pthread_mutex_t lock;
	pthread_cond_t filled;  /* the audit's thread waits for it */
	pthread_cond_t emptied; /* others do */
	char *ring;             /* owned; its bytes from @tail to @head are the audit's thread's */
	uint64_t head, tail;    /* lock; bytes ever put in, and taken out */
	unsigned waiting;       /* lock; threads that wait for room */
	bool idle, napping;     /* lock */
	bool stopping;          /* lock */
	uint64_t blocked_ns, blocked_times; /* lock */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)hk_timespec_ns(now);
}

/* The server's threads */

/* Waits until @size bytes in one piece are free. Return: where they are. */
static struct hk_record *reserve_locked(struct hk_audit *audit, uint32_t size)
{
	uint64_t since_ns = 0;

	for (;;) {
		uint64_t at = audit->head % RING_BYTES;
		uint64_t rest = at + size > RING_BYTES ? RING_BYTES - at : 0;

		if (audit->head + rest + size - audit->tail <= RING_BYTES) {
			if (rest != 0) {
				memset(audit->ring + at, 0, sizeof(uint32_t)); /* hk_record.size */
				audit->head += rest;
			}
			break;
		}
		if (since_ns == 0) {
			since_ns = clock_ns(CLOCK_MONOTONIC);
			audit->blocked_times++;
		}
		audit->waiting++;
		pthread_cond_signal(&audit->filled);
		pthread_cond_wait(&audit->emptied, &audit->lock);
		audit->waiting--;
	}
	if (since_ns != 0) {
		audit->blocked_ns += clock_ns(CLOCK_MONOTONIC) - since_ns;
	}
	return (struct hk_record *)(void *)(audit->ring + audit->head % RING_BYTES);
}

/* Enough has gathered, so that the thread need not wait for more? */
static bool is_half_full_locked(const struct hk_audit *audit)
{
	return audit->head - audit->tail >= RING_BYTES / 2;
}

static void copy_path(char *to, const char *path, uint32_t len)
{
	memcpy(to, path, len);
	to[len] = '\0';
}

static void fill(struct hk_record *record, const struct hk_audit_event *event,
	const struct hk_process *process)
{
	record->flags = event->flags;
	record->rule = event->rule;
	record->error = event->error;
	record->tid = event->pid;
	record->uid = event->uid;
	record->time_ns = event->time_ns;
	record->bytes_read = event->bytes_read;
	record->bytes_written = event->bytes_written;
	record->op = (uint8_t)event->op;
	record->class = (uint8_t)event->class;
	record->verdict = (uint8_t)event->verdict;
	record->exact = event->exact;
	record->process = *process;
}

static uint32_t bounded_len(const char *path, bool *cut)
{
	size_t len = strnlen(path, HK_AUDIT_PATH_MAX + 1);

	*cut |= len > HK_AUDIT_PATH_MAX || (len > 0 && path[0] != '/');
	return (uint32_t)HK_MIN(len, HK_AUDIT_PATH_MAX);
}

void hk_audit_event(struct hk_audit *audit, const struct hk_audit_event *event)
{
	const char *other = event->other != NULL ? event->other : "";
	bool cut = false;
	uint32_t path_len = bounded_len(event->path, &cut);
	uint32_t other_len = bounded_len(other, &cut);
	uint32_t size =
		(uint32_t)hk_align_up(sizeof(struct hk_record) + path_len + 1 + other_len + 1,
			_Alignof(struct hk_record));
	struct hk_process process;
	struct hk_record *record;
	bool wake;

	assert((unsigned)event->op < HK_EVENT_COUNT && (unsigned)event->class < HK_CLASS_COUNT &&
		(unsigned)event->verdict < HK_VERDICT_COUNT);
	hk_processes_find(audit->processes, event->pid, event->time_ns,
		event->op == HK_EVENT_EXEC && event->error == 0, &process);
	hk_processes_note(audit->processes, event);
	if (event->rule != 0 && hk_verdict_refuses(event->verdict, event->error) &&
		!(audit->results.rules != NULL &&
			hk_rules_is_quiet(audit->results.rules, event->rule))) {
		atomic_fetch_add_explicit(&audit->violations, 1, memory_order_relaxed);
	}

	pthread_mutex_lock(&audit->lock);
	assert(!audit->stopping);
	record = reserve_locked(audit, size);
	fill(record, event, &process);
	record->size = size;
	record->path_len = path_len;
	record->other_len = other_len;
	record->has_other = event->other != NULL;
	record->cut = cut;
	copy_path(record->paths, event->path, path_len);
	copy_path(record->paths + path_len + 1, other, other_len);
	audit->head += size;
	wake = audit->idle || (audit->napping && is_half_full_locked(audit));
	audit->idle = false;
	pthread_mutex_unlock(&audit->lock);
	if (wake) {
		pthread_cond_signal(&audit->filled);
	}
}

/* The audit's thread */

static void put_log(struct hk_json *json, const char *bytes, size_t len)
{
	struct hk_audit *audit = hk_container_of(json, struct hk_audit, lines.json);
	int r;

	if (audit->log_error == 0) {
		r = hk_log_write(audit->log_fd, bytes, len);
		audit->log_error = r < 0 ? -r : 0;
	}
	if (audit->log_error != 0) {
		audit->lines_lost += audit->lines_held;
	}
	audit->lines_held = 0;
}

static void handle_record(struct hk_audit *audit, const struct hk_record *record)
{
	hk_tree_add(&audit->tree, record);
	if (audit->log_fd < 0) {
		return;
	}
	if (audit->log_error != 0) {
		audit->lines_lost++;
		return;
	}
	audit->lines_held++;
	hk_lines_event(&audit->lines, record, audit->results.rules);
}

/* Handles what is between @at and @end, or the first BATCH_BYTES of it. Return: how far it came. */
static uint64_t handle_batch(struct hk_audit *audit, uint64_t at, uint64_t end)
{
	uint64_t start = at;

	while (at < end && at - start < BATCH_BYTES) {
		const void *p = audit->ring + at % RING_BYTES;
		const struct hk_record *record = p;

		if (record->size == 0) {
			at += RING_BYTES - at % RING_BYTES;
			continue;
		}
		handle_record(audit, record);
		at += record->size;
	}
	return at;
}

static void nap_locked(struct hk_audit *audit)
{
	uint64_t until_ns = clock_ns(CLOCK_MONOTONIC) + NAP_NS;
	struct timespec until = hk_timespec_of(until_ns);
	int r = 0;

	audit->napping = true;
	while (r == 0 && !audit->stopping && audit->waiting == 0 && !is_half_full_locked(audit)) {
		r = pthread_cond_timedwait(&audit->filled, &audit->lock, &until);
	}
	audit->napping = false;
}

static void *run(void *argument)
{
	struct hk_audit *audit = argument;

	pthread_setname_np(pthread_self(), "hako-audit");
	if (audit->log_fd >= 0) {
		hk_lines_begin(
			&audit->lines, clock_ns(CLOCK_REALTIME), audit->roots, audit->root_count);
		hk_json_flush(&audit->lines.json);
	}
	pthread_mutex_lock(&audit->lock);
	for (;;) {
		uint64_t at, end;

		while (audit->head == audit->tail && !audit->stopping) {
			audit->idle = true;
			pthread_cond_wait(&audit->filled, &audit->lock);
		}
		audit->idle = false;
		if (audit->head == audit->tail) {
			break;
		}
		nap_locked(audit);
		at = audit->tail;
		end = audit->head;
		pthread_mutex_unlock(&audit->lock);

		at = handle_batch(audit, at, end);
		if (at == end) {
			hk_json_flush(&audit->lines.json);
		}

		pthread_mutex_lock(&audit->lock);
		audit->tail = at;
		if (audit->waiting != 0) {
			pthread_cond_broadcast(&audit->emptied);
		}
	}
	pthread_mutex_unlock(&audit->lock);
	if (audit->log_fd >= 0 && audit->log_error == 0) {
		hk_lines_end(&audit->lines, clock_ns(CLOCK_REALTIME), audit->tree.events,
			hk_audit_violations(audit), audit->blocked_ns);
		hk_json_flush(&audit->lines.json);
	}
	return NULL;
}

/*
 * Starts the thread with all signals blocked: a closed pipe is an error to it, and nobody's
 * SIGPIPE.
 */
int hk_audit_start(struct hk_audit *audit, struct hk_err *err)
{
	sigset_t all, before;
	int r;

	assert(!audit->has_thread);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&audit->thread, NULL, run, audit);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	audit->has_thread = r == 0;
	return r == 0 ? 0 : hk_fail(err, r, "audit: thread");
}

/*
 * A copy without slashes at its end; NULL for NULL, "/", "" and relative paths: these are no use as
 * variables.
 */
static int copy_directory(const char *path, char **ret_copy)
{
	size_t len = path != NULL && path[0] == '/' ? strlen(path) : 0;

	while (len > 0 && path[len - 1] == '/') {
		len--;
	}
	if (len == 0) {
		return 0;
	}
	*ret_copy = hk_malloc(len + 1);
	if (*ret_copy == NULL) {
		return -ENOMEM;
	}
	memcpy(*ret_copy, path, len);
	(*ret_copy)[len] = '\0';
	return 0;
}

static void init_locks(struct hk_audit *audit)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&audit->lock, NULL);
	pthread_cond_init(&audit->filled, &monotonic);
	pthread_cond_init(&audit->emptied, NULL);
	pthread_condattr_destroy(&monotonic);
}

int hk_audit_create(
	const struct hk_audit_options *options, struct hk_audit **ret_audit, struct hk_err *err)
{
	struct hk_audit *audit;
	int r;

	if (hk_new(audit) == NULL) {
		return hk_fail(err, ENOMEM, "audit");
	}
	init_locks(audit);
	audit->log_fd = options->log_fd;
	audit->roots = options->roots;
	audit->root_count = options->root_count;
	audit->lines.json.put = put_log;
	audit->results.rules = options->rules;
	audit->ring = hk_malloc(RING_BYTES);
	if (audit->ring == NULL || hk_tree_init(&audit->tree) < 0 ||
		copy_directory(options->home, &audit->home) < 0 ||
		copy_directory(options->cwd, &audit->cwd) < 0) {
		r = hk_fail(err, ENOMEM, "audit");
		goto failed;
	}
	r = hk_processes_create(options->proc, &audit->processes, err);
	if (r == 0 && !options->start_later) {
		r = hk_audit_start(audit, err);
	}
	if (r < 0) {
		goto failed;
	}
	*ret_audit = audit;
	return 0;

failed:
	hk_audit_free(audit);
	return r;
}

int hk_audit_finish(struct hk_audit *audit, struct hk_err *err)
{
	if (audit->has_thread) {
		pthread_mutex_lock(&audit->lock);
		audit->stopping = true;
		pthread_cond_signal(&audit->filled);
		pthread_mutex_unlock(&audit->lock);
		pthread_join(audit->thread, NULL);
		audit->has_thread = false;
		audit->results.tree = &audit->tree;
		audit->results.home = audit->home;
		audit->results.cwd = audit->cwd;
		audit->results.violations = hk_audit_violations(audit);
		audit->results.blocked_ns = audit->blocked_ns;
		audit->results.blocked_times = audit->blocked_times;
		audit->results.lines_lost = audit->lines_lost;
	}
	if (audit->log_error != 0) {
		hk_fail(err, audit->log_error, "--log: %llu events were not written",
			(unsigned long long)audit->lines_lost);
		return hk_err_hint(err, "name a file where there is room, or a reader that stays");
	}
	return 0;
}

void hk_audit_free(struct hk_audit *audit)
{
	if (audit == NULL) {
		return;
	}
	hk_audit_finish(audit, NULL);
	hk_processes_destroy(audit->processes);
	hk_tree_finish(&audit->tree);
	pthread_cond_destroy(&audit->emptied);
	pthread_cond_destroy(&audit->filled);
	pthread_mutex_destroy(&audit->lock);
	free(audit->ring);
	free(audit->home);
	free(audit->cwd);
	free(audit);
}

uint64_t hk_audit_violations(const struct hk_audit *audit)
{
	return atomic_load_explicit(&audit->violations, memory_order_relaxed);
}

const struct hk_audit_results *hk_audit_results(struct hk_audit *audit)
{
	assert(!audit->has_thread); /* after hk_audit_finish() */
	return &audit->results;
}

const char *hk_audit_rule_text(const struct hk_audit_results *results, uint32_t rule)
{
	return results->rules != NULL && rule != 0 ? hk_rules_text(results->rules, rule) : NULL;
}
