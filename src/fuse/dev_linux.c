/* SPDX-License-Identifier: ISC */
/*
 * Serving a mount through /dev/fuse: see dev_linux.h.
 *
 * Theory: every thread has a descriptor of its own, a clone of the mount's, so that replies find
 * their request without looking through those of others. A request is answered in place and its
 * reply written to the same descriptor.
 *
 * What costs is to wake somebody on another core: more than most requests do. So, as long as it
 * keeps up, one thread alone serves. It reads without blocking, and offers the core to others (the
 * one that asked, mostly) between some tries before it sleeps: then the next request of a program
 * that makes many finds it awake, on whatever core. Where others have so much to do that it gets
 * the core back late, it sleeps at once: who is woken gets it sooner.
 *
 * The other threads are parked. One is called
 * - by who finds, time and again, that a request of another thread than the last one's waits
 * already: several make
 *   requests, faster than one can serve them;
 * - before a request that is known to take long;
 * - by the watch, a thread that looks every few milliseconds, while requests come, whether nobody
 * reads because all are
 *   at work on something that takes long: a slow disk, or the user who is asked.
 * Threads are started when they are called for the first time. Who finds nothing to do is parked,
 * unless nobody else reads; then it sleeps in poll(2). So only one thread ever sleeps there, and a
 * request wakes one.
 *
 * What read(2) gives: EAGAIN, nothing there; ENODEV, the mount is gone; ECONNABORTED, it was
 * aborted; ENOENT, the process that asked was killed before we took its request; EPERM, not mounted
 * yet. write(2) gives ENOENT where nobody waits any more.
 *
 * The end: when a mount goes, who reads gets ENODEV and stops all others. When it is to end from
 * here, an eventfd wakes the sleeper; then the descriptors are closed, and with the last one the
 * kernel aborts the connection.
 *
 * A request that waits for somebody's answer holds its thread, for as long as a person thinks.
 * There may be as many threads more as there are such requests (ask.c).
 *
 * Limits: requests of up to 1 MiB; 16 threads, and one for each of up to HK_FUSE_WAITING_MAX
 * questions.
 */
#include "fuse/dev_linux.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/timespec.h"
#include "base/util.h"
#include "fuse/proto.h"
#include "fuse/dev_impl_linux.h"
#include "fuse/server_impl.h"
#include "fuse/setid_linux.h"

HK_LOG_CHANNEL("fuse");

enum {
	/* A WRITE's data with its two headers, or a READ's with one; whole pages. */
	BUFFER_BYTES = HK_FUSE_MAX_WRITE + 4096,
	THREADS_MAX = 16,                                /* that work */
	WORKERS_MAX = THREADS_MAX + HK_FUSE_WAITING_MAX, /* with those that wait for an answer */
	OPCODES_COUNTED = 64,
	WAIT_FOR_MOUNT_NS = 100 * 1000,
	WATCH_MS = 4,
	WATCH_TICKS = 250, /* the watch goes to sleep after so many without a request */
};

static_assert(BUFFER_BYTES >= FUSE_MIN_READ_BUFFER, "linux/fuse.h");

/**
 * struct worker - a thread that serves
 * @fd: what it reads from and writes to: a clone; the first one's is the mount's
 * @in, @out: owned; BUFFER_BYTES each
 * @serving: it is at work on a request
 * @load: how it keeps up
 * @counts: of requests, by opcode; only this thread writes
 * @parked, @called: under the lock
 */
struct worker {
	struct hk_fuse_dev *dev;
	pthread_t thread;
	int fd;
	char *in, *out;
	atomic_bool serving;
	bool parked, called;
	struct hk_fuse_load load;
	_Atomic uint64_t counts[OPCODES_COUNTED];
};

struct hk_fuse_dev {
	struct hk_fuse_tell tell;
	struct hk_fuse_server *server; /* borrowed */
	int fd;
	int stop_fd; /* wakes the sleeper */
	int ended_fd;
	unsigned wanted; /* threads at most, but for those that wait for an answer */
	unsigned cpus;   /* that we may use */
	pthread_t watch;
	bool has_watch;
	atomic_bool stop;
	atomic_bool watch_sleeps;  /* no request came for a while */
	pthread_mutex_t lock;      /* for what follows, and @parked and @called of the workers */
	pthread_cond_t call;       /* parked workers wait here */
	pthread_cond_t watch_call; /* and the watch here */
	atomic_uint started;       /* workers[0 .. started) have a thread */
	unsigned running;
	bool has_all; /* no further thread could be started */
	struct worker workers[WORKERS_MAX];
};

/* Before the first request, the descriptor may not be mounted yet. */
static bool waits_for_mount(const struct worker *w, int error)
{
	return error == EPERM && w == &w->dev->workers[0] &&
		atomic_load_explicit(&w->counts[FUSE_INIT], memory_order_relaxed) == 0;
}

/* Ends it for all threads. */
static void stop_all(struct hk_fuse_dev *dev)
{
	uint64_t one = 1;

	atomic_store(&dev->stop, true);
	(void)!write(dev->stop_fd, &one, sizeof(one));
	pthread_mutex_lock(&dev->lock);
	pthread_cond_broadcast(&dev->call);
	pthread_cond_broadcast(&dev->watch_call);
	pthread_mutex_unlock(&dev->lock);
}

/* Does somebody read, or will at once? */
static bool is_read_by_others_locked(const struct hk_fuse_dev *dev, const struct worker *but)
{
	for (unsigned i = 0; i < atomic_load(&dev->started); i++) {
		const struct worker *w = &dev->workers[i];

		if (w != but && !w->parked && !atomic_load(&w->serving)) {
			return true;
		}
	}
	return false;
}

/*
 * Waits until there are more requests than others can serve. Return: false where nobody else reads:
 * stay.
 */
static bool park(struct worker *w)
{
	struct hk_fuse_dev *dev = w->dev;
	bool others;

	pthread_mutex_lock(&dev->lock);
	others = is_read_by_others_locked(dev, w);
	if (others) {
		w->parked = true;
		while (!w->called && !atomic_load(&dev->stop)) {
			pthread_cond_wait(&dev->call, &dev->lock);
		}
		w->parked = false;
		w->called = false;
	}
	pthread_mutex_unlock(&dev->lock);
	return others;
}

static int start_worker_locked(struct hk_fuse_dev *dev, int fd);

/* Starts a further worker. Without it, it goes on more slowly. */
static void start_another_locked(struct hk_fuse_dev *dev)
{
	autoclose int fd = hk_open(AT_FDCWD, "/dev/fuse", O_RDWR | O_NONBLOCK, 0);
	int r = fd < 0 ? fd : 0;

	if (r == 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &dev->fd) < 0) {
		r = -errno;
	}
	if (r == 0) {
		r = start_worker_locked(dev, fd);
	}
	if (r < 0) {
		dev->has_all = true;
		hk_log_debug(
			"/dev/fuse: %u threads only: %s", atomic_load(&dev->started), strerror(-r));
		return;
	}
	take_fd(&fd);
}

static unsigned limit_of_threads_locked(const struct hk_fuse_dev *dev)
{
	if (dev->has_all) {
		return atomic_load(&dev->started);
	}
	return HK_MIN(dev->wanted + hk_fuse_server_waiting(dev->server), (unsigned)WORKERS_MAX);
}

/* Has one more thread read. */
static void call_one_locked(struct hk_fuse_dev *dev)
{
	for (unsigned i = 0; i < atomic_load(&dev->started); i++) {
		struct worker *w = &dev->workers[i];

		if (w->parked && !w->called) {
			w->called = true;
			pthread_cond_broadcast(&dev->call);
			return;
		}
	}
	if (atomic_load(&dev->started) < limit_of_threads_locked(dev) && !atomic_load(&dev->stop)) {
		start_another_locked(dev);
	}
}

/* @w is about to be busy for long. */
static void call_stand_in(struct worker *w)
{
	pthread_mutex_lock(&w->dev->lock);
	if (!is_read_by_others_locked(w->dev, w)) {
		call_one_locked(w->dev);
	}
	pthread_mutex_unlock(&w->dev->lock);
}

/* There is more to do: one more, if there is a core for it. */
static void call_help(struct hk_fuse_dev *dev)
{
	unsigned awake = 0;

	pthread_mutex_lock(&dev->lock);
	for (unsigned i = 0; i < atomic_load(&dev->started); i++) {
		awake += !dev->workers[i].parked || dev->workers[i].called;
	}
	if (awake < dev->cpus) {
		call_one_locked(dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* Sleeps until there is a request, or the end. */
static void sleep_until_asked(const struct worker *w)
{
	struct pollfd fds[2] = {
		{.fd = w->fd, .events = POLLIN}, {.fd = w->dev->stop_fd, .events = POLLIN}};

	poll(fds, HK_ARRAY_SIZE(fds), -1);
}

/*
 * Reads the next request. Return: bytes; 0 where serving is over. *@ret_tries: 1: it was there
 * already.
 */
static size_t next_request(struct worker *w, unsigned *ret_tries)
{
	struct hk_fuse_dev *dev = w->dev;
	unsigned tries = 0;
	uint64_t since_ns = 0;

	while (!atomic_load_explicit(&dev->stop, memory_order_relaxed)) {
		ssize_t n = read(w->fd, w->in, BUFFER_BYTES);

		tries++;
		if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
			if (since_ns != 0) {
				hk_fuse_load_got_one(&w->load);
			}
			*ret_tries = tries;
			return (size_t)n;
		}
		if (n < 0 && errno == EAGAIN) {
			if (hk_fuse_load_offer_core(&w->load, &since_ns)) {
				continue;
			}
			if (!park(w)) {
				sleep_until_asked(w);
			}
			since_ns = 0;
			tries = 1; /* it was not there */
		} else if (n < 0 && waits_for_mount(w, errno)) {
			nanosleep(&(struct timespec){.tv_nsec = WAIT_FOR_MOUNT_NS}, NULL);
		} else if (n >= 0 || (errno != EINTR && errno != ENOENT)) {
			if (n >= 0 || (errno != ENODEV && errno != ECONNABORTED)) {
				hk_log_debug("/dev/fuse: read: %s",
					n < 0 ? strerror(errno) : "too short");
			}
			return 0;
		}
	}
	return 0;
}

static void count_request(struct worker *w, uint32_t opcode)
{
	_Atomic uint64_t *count = &w->counts[opcode < OPCODES_COUNTED ? opcode : 0];

	/* Nobody else writes it, so it need not be one step. */
	atomic_store_explicit(
		count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Answers what is in the buffer. Return: false where serving cannot go on. */
static bool answer(struct worker *w, size_t len)
{
	struct iovec in = {w->in, len};
	struct iovec out = {w->out, BUFFER_BYTES};
	ssize_t n = hk_fuse_handle(w->dev->server, &in, 1, &out, 1);

	if (n < 0) {
		hk_log_debug("/dev/fuse: a request that is none: %s", strerror((int)-n));
		return false;
	}
	if (n > 0 && write(w->fd, w->out, (size_t)n) < 0 && errno != ENOENT && errno != ENODEV) {
		hk_log_debug("/dev/fuse: reply: %s", strerror(errno));
	}
	return true;
}

static void *serve(void *arg);

/* Gives a worker what it needs, and starts it. Return: 0 or -errno. */
static int start_worker_locked(struct hk_fuse_dev *dev, int fd)
{
	struct worker *w = &dev->workers[atomic_load(&dev->started)];
	char *buffers = mmap(NULL, 2 * (size_t)BUFFER_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (buffers == MAP_FAILED) {
		return -errno;
	}
	w->dev = dev;
	w->fd = fd;
	w->in = buffers;
	w->out = buffers + BUFFER_BYTES;
	hk_setid_take_up(); /* it inherits what this thread may do */
	r = pthread_create(&w->thread, NULL, serve, w);
	if (r != 0) {
		munmap(buffers, 2 * (size_t)BUFFER_BYTES);
		w->fd = -1;
		return -r;
	}
	dev->running++;
	atomic_fetch_add(&dev->started, 1);
	return 0;
}

/* Signals are others' business, but for those that tell of our own faults. */
static void take_no_signals(void)
{
	static const int faults[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
	sigset_t set;

	sigfillset(&set);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(faults); i++) {
		sigdelset(&set, faults[i]);
	}
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void wake_watch(struct hk_fuse_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	pthread_cond_signal(&dev->watch_call);
	pthread_mutex_unlock(&dev->lock);
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct hk_fuse_dev *dev = w->dev;
	uint64_t one = 1;
	unsigned tries;
	size_t len;

	take_no_signals();
	hk_fuse_thread_start();
	while ((len = next_request(w, &tries)) > 0) {
		const struct fuse_in_header *head = (const struct fuse_in_header *)w->in;
		bool goes_on;

		atomic_store(&w->serving, true); /* pairs with watch(): one sees the other */
		if (atomic_load(&dev->watch_sleeps)) {
			wake_watch(dev);
		}
		count_request(w, head->opcode);
		if (hk_fuse_load_is_behind(&w->load, head, tries)) {
			call_help(dev);
		} else if (hk_fuse_load_takes_long(head->opcode)) {
			call_stand_in(w);
		}
		goes_on = answer(w, len);
		atomic_store(&w->serving, false);
		if (!goes_on) {
			break;
		}
	}
	stop_all(dev);
	pthread_mutex_lock(&dev->lock);
	if (--dev->running == 0) {
		(void)!write(dev->ended_fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

static uint64_t count_all(const struct hk_fuse_dev *dev)
{
	uint64_t sum = 0;

	for (uint32_t opcode = 0; opcode < OPCODES_COUNTED; opcode++) {
		sum += hk_fuse_dev_count(dev, opcode);
	}
	return sum;
}

/* Sleeps while nobody asks. Return: false where there may be a request that nobody reads. */
static bool watch_sleeps_locked(struct hk_fuse_dev *dev)
{
	bool is_read;

	atomic_store(&dev->watch_sleeps, true);
	is_read = is_read_by_others_locked(dev, NULL);
	if (is_read && !atomic_load(&dev->stop)) {
		pthread_cond_wait(&dev->watch_call, &dev->lock);
	}
	atomic_store(&dev->watch_sleeps, false);
	return is_read;
}

/* Sees to it that somebody reads, however long the others' requests take. */
static void *watch(void *arg)
{
	struct hk_fuse_dev *dev = arg;
	unsigned quiet = 0;
	uint64_t before = 0;

	take_no_signals();
	pthread_mutex_lock(&dev->lock);
	while (!atomic_load(&dev->stop)) {
		uint64_t until_ns = hk_fuse_load_now_ns() + WATCH_MS * HK_NS_PER_MS;
		struct timespec until = hk_timespec_of(until_ns);
		uint64_t now = count_all(dev);

		quiet = now == before ? quiet + 1 : 0;
		before = now;
		if (quiet > 0 && !is_read_by_others_locked(dev, NULL)) {
			call_one_locked(dev);
		}
		if (quiet >= WATCH_TICKS && watch_sleeps_locked(dev)) {
			quiet = 0;
		} else {
			pthread_cond_timedwait(&dev->watch_call, &dev->lock, &until);
		}
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

static unsigned count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

static int start_threads(struct hk_fuse_dev *dev, struct hk_err *err)
{
	int r;

	pthread_mutex_lock(&dev->lock);
	r = start_worker_locked(dev, dev->fd);
	pthread_mutex_unlock(&dev->lock);
	if (r == 0 && dev->wanted > 1) {
		r = -pthread_create(&dev->watch, NULL, watch, dev);
		dev->has_watch = r == 0;
	}
	return r < 0 ? hk_fail(err, -r, "/dev/fuse: thread") : 0;
}

int hk_fuse_dev_create(struct hk_fuse_server *server, int fd, unsigned threads,
	struct hk_fuse_dev **ret_dev, struct hk_err *err)
{
	struct hk_fuse_dev *dev = hk_calloc(1, sizeof(*dev));
	pthread_condattr_t attr;
	int flags;
	int r = 0;

	if (dev == NULL) {
		close(fd);
		return hk_fail(err, ENOMEM, "/dev/fuse");
	}
	hk_fuse_tell_init(&dev->tell, fd);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->call, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&dev->watch_call, &attr);
	pthread_condattr_destroy(&attr);
	dev->server = server;
	dev->fd = fd;
	dev->cpus = count_cpus();
	dev->wanted = threads != 0 ? HK_MIN(threads, (unsigned)THREADS_MAX) : THREADS_MAX;
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		dev->workers[i].fd = -1;
	}
	dev->stop_fd = eventfd(0, EFD_CLOEXEC);
	dev->ended_fd = eventfd(0, EFD_CLOEXEC);
	flags = fcntl(fd, F_GETFL);
	if (dev->stop_fd < 0 || dev->ended_fd < 0) {
		r = hk_fail(err, errno, "eventfd");
	} else if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		r = hk_fail(err, errno, "/dev/fuse");
	}
	hk_fuse_server_set_transport(server, &dev->tell.transport);
	if (r == 0) {
		r = start_threads(dev, err);
	}
	if (r < 0) {
		hk_fuse_dev_destroy(dev);
		return r;
	}
	*ret_dev = dev;
	return 0;
}

int hk_fuse_dev_ended_fd(const struct hk_fuse_dev *dev)
{
	return dev->ended_fd;
}

uint64_t hk_fuse_dev_count(const struct hk_fuse_dev *dev, uint32_t opcode)
{
	unsigned started = atomic_load(&dev->started);
	uint64_t sum = 0;

	for (unsigned i = 0; i < started && opcode < OPCODES_COUNTED; i++) {
		sum += atomic_load_explicit(&dev->workers[i].counts[opcode], memory_order_relaxed);
	}
	return sum;
}

static void join_threads(struct hk_fuse_dev *dev)
{
	/*
	 * The watch first: it may start a worker. Workers do so too, but not once they have seen
	 * the end.
	 */
	if (dev->has_watch) {
		pthread_join(dev->watch, NULL);
	}
	for (unsigned i = 0; i < atomic_load(&dev->started); i++) {
		struct worker *w = &dev->workers[i];

		pthread_join(w->thread, NULL);
		munmap(w->in, 2 * (size_t)BUFFER_BYTES);
		if (i > 0) {
			hk_close(&w->fd);
		}
	}
}

void hk_fuse_dev_destroy(struct hk_fuse_dev *dev)
{
	if (dev == NULL) {
		return;
	}
	stop_all(dev);
	join_threads(dev);
	/* Files the kernel holds for us are let go with the connection. */
	hk_fuse_server_set_transport(dev->server, NULL);
	hk_close(&dev->fd);
	hk_close(&dev->stop_fd);
	hk_close(&dev->ended_fd);
	pthread_cond_destroy(&dev->watch_call);
	pthread_cond_destroy(&dev->call);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}
