/* SPDX-License-Identifier: ISC */
/*
 * Serving a mount through /dev/fuse: see dev_linux.h.
 *
 * Theory: every thread has a descriptor of its own, a clone of the mount's, so that replies find their request without
 * looking through those of others, and blocks in read(2). A request is answered in place and its reply written to
 * the same descriptor. The first thread serves alone until it has answered a request: before that the
 * descriptor may not be mounted yet, and cannot be cloned.
 *
 * What read(2) gives: ENODEV, the mount is gone; ECONNABORTED, it was aborted; ENOENT, the process that asked was killed
 * before we took its request; EPERM, not mounted yet. write(2) gives ENOENT where nobody waits any more.
 *
 * The end: when a mount goes, each thread gets ENODEV and returns. To end it from here, threads are woken by a signal
 * that does nothing, again and again until they have seen that they are to stop (a signal may come just before read(2));
 * then the descriptors are closed, and with the last one the kernel aborts the connection.
 *
 * Passthrough: the kernel opens the file once more with the credentials of the thread that registers it, and each write
 * is made with these. A thread that may keep set-id bits (CAP_FSETID) would keep them for everybody, also where a file
 * gets them while it is open; so that capability is laid down for the moment.
 *
 * Limits: requests of up to 1 MiB; 16 threads.
 */
#include "fuse/dev_linux.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/proto.h"
#include "fuse/server_impl.h"

HK_LOG_CHANNEL("fuse");

#define KICK_SIGNAL (SIGRTMIN + 1)

enum {
	/* A WRITE's data with its two headers, or a READ's with one; whole pages. */
	BUFFER_BYTES = HK_FUSE_MAX_WRITE + 4096,
	THREADS_MAX = 16,
	OPCODES_COUNTED = 64,
	WAIT_FOR_MOUNT_NS = 100 * 1000,
	KICK_AGAIN_NS = 1000 * 1000,
};

static_assert(BUFFER_BYTES >= FUSE_MIN_READ_BUFFER, "linux/fuse.h");

/**
 * struct worker - a thread that serves
 * @fd: what it reads from and writes to: a clone; the first one's is the mount's
 * @in, @out: owned; BUFFER_BYTES each
 * @counts: of requests, by opcode; only this thread writes
 */
struct worker {
	struct hk_fuse_dev *dev;
	pthread_t thread;
	int fd;
	char *in, *out;
	_Atomic uint64_t counts[OPCODES_COUNTED];
};

struct hk_fuse_dev {
	struct hk_fuse_transport transport; /* first */
	struct hk_fuse_server *server;      /* borrowed */
	int fd;
	int ended_fd;
	unsigned wanted; /* threads; the first worker's, once it runs */
	pthread_mutex_t lock;
	atomic_uint started; /* workers[0 .. started) have a thread; changes under the lock */
	atomic_uint running;
	atomic_bool stop;
	atomic_bool no_backing; /* the kernel does not let us pass files through */
	struct worker workers[THREADS_MAX];
};

static struct hk_fuse_dev *dev_of(struct hk_fuse_transport *transport)
{
	return hk_container_of(transport, struct hk_fuse_dev, transport);
}

/* What the thread may do, asked once. */
static _Thread_local struct {
	bool known;
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
} my_caps;

/* Lays CAP_FSETID down, or takes it up again. Return: false where the thread does not have it. */
static bool hold_fsetid(bool hold)
{
	enum { BIT = 1 << CAP_FSETID };
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	static_assert(CAP_FSETID < 32, "linux/capability.h");
	if (!my_caps.known) {
		my_caps.known = syscall(SYS_capget, &head, my_caps.sets) == 0;
	}
	if ((my_caps.sets[0].effective & BIT) == 0) {
		return false;
	}
	memcpy(sets, my_caps.sets, sizeof(sets));
	if (!hold) {
		sets[0].effective &= ~(uint32_t)BIT;
	}
	return syscall(SYS_capset, &head, sets) == 0;
}

static int backing_open(struct hk_fuse_transport *transport, int fd)
{
	struct hk_fuse_dev *dev = dev_of(transport);
	struct fuse_backing_map map = {.fd = fd};
	bool held;
	int id;

	if (atomic_load_explicit(&dev->no_backing, memory_order_relaxed)) {
		return -EPERM;
	}
	held = hold_fsetid(false);
	id = ioctl(dev->fd, FUSE_DEV_IOC_BACKING_OPEN, &map);
	id = id < 0 ? -errno : id;
	if (held) {
		hold_fsetid(true);
	}
	if (id == -EPERM || id == -ENOTTY) {
		atomic_store(&dev->no_backing, true); /* it will not change its mind */
		hk_log_debug("no passthrough: %s", strerror(-id));
	}
	return id;
}

static void backing_close(struct hk_fuse_transport *transport, int id)
{
	uint32_t number = (uint32_t)id;

	if (ioctl(dev_of(transport)->fd, FUSE_DEV_IOC_BACKING_CLOSE, &number) < 0) {
		hk_log_debug("backing file %d: close: %s", id, strerror(errno));
	}
}

/* Sends the kernel a message it did not ask for. ENOENT: it does not know the object, which is fine. */
static void notify(struct hk_fuse_dev *dev, int code, const struct iovec *parts, unsigned count)
{
	struct fuse_out_header head = {.len = sizeof(head), .error = code};
	struct iovec iov[4] = {{&head, sizeof(head)}};

	assert(count < HK_ARRAY_SIZE(iov));
	for (unsigned i = 0; i < count; i++) {
		iov[i + 1] = parts[i];
		head.len += (uint32_t)parts[i].iov_len;
	}
	if (writev(dev->fd, iov, (int)count + 1) < 0 && errno != ENOENT) {
		hk_log_debug("notification %d: %s", code, strerror(errno));
	}
}

static void forget_entry(struct hk_fuse_transport *transport, uint64_t parent, const char *name)
{
	size_t len = strlen(name);
	struct fuse_notify_inval_entry_out out = {.parent = parent, .namelen = (uint32_t)len};
	struct iovec parts[2] = {{&out, sizeof(out)}, {(void *)name, len + 1}};

	notify(dev_of(transport), FUSE_NOTIFY_INVAL_ENTRY, parts, 2);
}

static void forget_data(struct hk_fuse_transport *transport, uint64_t nodeid)
{
	struct fuse_notify_inval_inode_out out = {.ino = nodeid}; /* from 0, to the end */
	struct iovec part = {&out, sizeof(out)};

	notify(dev_of(transport), FUSE_NOTIFY_INVAL_INODE, &part, 1);
}

static void nap(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* Reads the next request. Return: bytes; 0 where serving is over. */
static size_t next_request(struct worker *w)
{
	struct hk_fuse_dev *dev = w->dev;

	while (!atomic_load_explicit(&dev->stop, memory_order_relaxed)) {
		ssize_t n = read(w->fd, w->in, BUFFER_BYTES);

		if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
			return (size_t)n;
		}
		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) {
			continue;
		}
		if (n < 0 && errno == EPERM && atomic_load(&dev->started) <= 1) {
			nap(WAIT_FOR_MOUNT_NS);
			continue;
		}
		if (n >= 0 || (errno != ENODEV && errno != ECONNABORTED)) {
			hk_log_debug("/dev/fuse: read: %s", n < 0 ? strerror(errno) : "too short");
		}
		return 0;
	}
	return 0;
}

static void count_request(struct worker *w)
{
	uint32_t opcode = ((const struct fuse_in_header *)w->in)->opcode;
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
	atomic_fetch_add(&dev->running, 1);
	r = pthread_create(&w->thread, NULL, serve, w);
	if (r != 0) {
		atomic_fetch_sub(&dev->running, 1);
		munmap(buffers, 2 * (size_t)BUFFER_BYTES);
		w->fd = -1;
		return -r;
	}
	atomic_fetch_add(&dev->started, 1);
	return 0;
}

static int start_worker(struct hk_fuse_dev *dev, int fd)
{
	int r;

	pthread_mutex_lock(&dev->lock);
	r = start_worker_locked(dev, fd);
	pthread_mutex_unlock(&dev->lock);
	return r;
}

/* By the first worker, which can do without the others. */
static void start_others(struct hk_fuse_dev *dev)
{
	while (atomic_load(&dev->started) < dev->wanted && !atomic_load(&dev->stop)) {
		autoclose int fd = hk_open(AT_FDCWD, "/dev/fuse", O_RDWR, 0);
		int r = fd < 0 ? fd : 0;

		if (r == 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &dev->fd) < 0) {
			r = -errno;
		}
		if (r == 0) {
			r = start_worker(dev, fd);
		}
		if (r < 0) {
			hk_log_debug("/dev/fuse: %u threads only: %s", atomic_load(&dev->started),
				strerror(-r));
			return;
		}
		take_fd(&fd);
	}
}

/* Signals are others' business, but for the one that wakes us and those that tell of our own faults. */
static void take_no_signals(void)
{
	static const int ours[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, KICK_SIGNAL);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(ours); i++) {
		sigdelset(&set, ours[i]);
	}
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct hk_fuse_dev *dev = w->dev;
	uint64_t one = 1;
	size_t len;

	take_no_signals();
	hk_fuse_thread_start();
	while ((len = next_request(w)) > 0) {
		count_request(w);
		if (!answer(w, len)) {
			break;
		}
		if (w == &dev->workers[0] && atomic_load(&dev->started) < dev->wanted) {
			start_others(dev);
			dev->wanted = atomic_load(&dev->started);
		}
	}
	if (atomic_fetch_sub(&dev->running, 1) == 1) {
		(void)!write(dev->ended_fd, &one, sizeof(one));
	}
	return NULL;
}

static void ignore_kick(int signo)
{
}

static int install_kick(struct hk_err *err)
{
	/* Without SA_RESTART: read(2) is to end with EINTR. */
	struct sigaction action = {.sa_handler = ignore_kick};

	return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? hk_fail(err, errno, "sigaction") : 0;
}

/* One for each CPU we may use. */
static unsigned default_threads(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

int hk_fuse_dev_create(struct hk_fuse_server *server, int fd, unsigned threads,
	struct hk_fuse_dev **ret_dev, struct hk_err *err)
{
	struct hk_fuse_dev *dev = hk_calloc(1, sizeof(*dev));
	int flags;
	int r;

	if (dev == NULL) {
		close(fd);
		return hk_fail(err, ENOMEM, "/dev/fuse");
	}
	dev->transport = (struct hk_fuse_transport){
		.backing_open = backing_open,
		.backing_close = backing_close,
		.forget_entry = forget_entry,
		.forget_data = forget_data,
	};
	pthread_mutex_init(&dev->lock, NULL);
	dev->server = server;
	dev->fd = fd;
	dev->wanted = HK_MIN(threads != 0 ? threads : default_threads(), (unsigned)THREADS_MAX);
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		dev->workers[i].fd = -1;
	}
	dev->ended_fd = eventfd(0, EFD_CLOEXEC);
	r = dev->ended_fd < 0 ? hk_fail(err, errno, "eventfd") : install_kick(err);
	flags = fcntl(fd, F_GETFL);
	if (r == 0 && (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)) {
		r = hk_fail(err, errno, "/dev/fuse");
	}
	if (r == 0) {
		hk_fuse_server_set_transport(server, &dev->transport);
		r = start_worker(dev, fd);
		if (r < 0) {
			hk_fail(err, -r, "/dev/fuse: thread");
		}
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
	uint64_t sum = 0;

	for (unsigned i = 0; i < THREADS_MAX && opcode < OPCODES_COUNTED; i++) {
		sum += atomic_load_explicit(&dev->workers[i].counts[opcode], memory_order_relaxed);
	}
	return sum;
}

static void stop_threads(struct hk_fuse_dev *dev)
{
	atomic_store(&dev->stop, true);
	while (atomic_load(&dev->running) > 0) {
		pthread_mutex_lock(&dev->lock);
		for (unsigned i = 0; i < atomic_load(&dev->started); i++) {
			pthread_kill(dev->workers[i].thread, KICK_SIGNAL);
		}
		pthread_mutex_unlock(&dev->lock);
		nap(KICK_AGAIN_NS);
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
	stop_threads(dev);
	/* Files the kernel holds for us are let go with the connection. */
	hk_fuse_server_set_transport(dev->server, NULL);
	hk_close(&dev->fd);
	hk_close(&dev->ended_fd);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}
