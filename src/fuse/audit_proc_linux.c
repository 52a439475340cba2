/* SPDX-License-Identifier: ISC */
/*
 * Who a process is: its parent, and its name.
 *
 * Theory: both are read from /proc/PID/status when an event of a process comes that is not known,
 * by the thread of the server that handles it: the process waits for the answer, so it is still
 * there. What was read is kept in a table of fixed size, and read again after a second (names
 * change, numbers of processes come around), and after the process has opened a program to run
 * (HK_EVENT_EXEC): it takes that one's name a little later, after it has opened interpreter and
 * dynamic linker, too. So a further HK_EVENT_EXEC changes nothing, and the next event of another
 * kind reads again.
 *
 * FUSE tells the number of a thread. Its status has the process's number, whose own status has the
 * process's name.
 *
 * The command line is not read: for /proc/PID/cmdline (as for environ, maps) the kernel takes the
 * lock of the process's memory map, which one of its threads may hold while it waits for us to read
 * a page. status needs no such lock.
 *
 * Processes of a guest cannot be looked up. What is known of one is the program it has opened to
 * run, the first of such events in a row, whose name the kernel gives it; of one that was forked
 * and has run nothing, nothing.
 *
 * Limits: names have 15 bytes. A process that is gone when it is first heard of has no name. A
 * guest's that has the number of an earlier one has its name, too, until it runs something.
 *
 * Locks: one for each 16th of the table, never while /proc is read.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "fuse/audit_impl.h"

enum { SETS = 1024, WAYS = 4, LOCKS = 16, STATUS_BYTES = 512 };

#define GOOD_FOR_NS HK_NS_PER_SEC

/** struct entry - @tid: 0: free; @runs: it has opened a program to run */
struct entry {
	pid_t tid;
	bool runs;
	uint64_t read_ns;
	struct hk_process process;
};

struct hk_processes {
	int proc_fd; /* -1: nobody is looked up */
	pthread_mutex_t locks[LOCKS];
	struct entry entries[SETS][WAYS]; /* lock of the set */
};

int hk_processes_create(const char *proc, struct hk_processes **ret_processes, struct hk_err *err)
{
	struct hk_processes *processes;
	bool wanted = proc == NULL || proc[0] != '\0';

	if (hk_new(processes) == NULL) {
		return hk_fail(err, ENOMEM, "audit");
	}
	processes->proc_fd = -1;
	for (unsigned i = 0; i < LOCKS; i++) {
		pthread_mutex_init(&processes->locks[i], NULL);
	}
	if (wanted) {
		const char *path = proc != NULL ? proc : "/proc";

		processes->proc_fd = hk_open(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
		if (processes->proc_fd < 0) {
			int r = hk_fail(err, -processes->proc_fd, "audit: %s", path);

			hk_processes_destroy(processes);
			return r;
		}
	}
	*ret_processes = processes;
	return 0;
}

void hk_processes_destroy(struct hk_processes *processes)
{
	if (processes == NULL) {
		return;
	}
	for (unsigned i = 0; i < LOCKS; i++) {
		pthread_mutex_destroy(&processes->locks[i]);
	}
	if (processes->proc_fd >= 0) {
		close(processes->proc_fd);
	}
	free(processes);
}

/*
 * Names come as in status: newline and backslash are \n and \\. Return: what follows the line's
 * end.
 */
static void read_name(const char *from, char name[HK_COMMAND_SIZE])
{
	size_t len = 0;

	while (*from != '\n' && *from != '\0' && len < HK_COMMAND_SIZE - 1) {
		if (from[0] == '\\' && (from[1] == 'n' || from[1] == '\\')) {
			name[len++] = from[1] == 'n' ? '\n' : '\\';
			from += 2;
		} else {
			name[len++] = *from++;
		}
	}
	name[len] = '\0';
}

/* The number that follows @key in @status, or 0. */
static pid_t read_number(const char *status, const char *key)
{
	const char *at = strstr(status, key);
	uint32_t number = 0;

	if (at == NULL) {
		return 0;
	}
	for (at += strlen(key); *at >= '0' && *at <= '9'; at++) {
		number = number * 10 + (uint32_t)(*at - '0');
	}
	return (pid_t)(number & INT32_MAX);
}

static bool read_status(int proc_fd, pid_t pid, struct hk_process *ret_process)
{
	static const char name_key[] = "Name:\t";
	char path[32];
	char status[STATUS_BYTES];
	ssize_t n;

	hk_fmt(path, sizeof(path), "%d/status", (int)pid);
	{
		autoclose int fd = hk_open(proc_fd, path, O_RDONLY, 0);

		n = fd >= 0 ? read(fd, status, sizeof(status) - 1) : -1;
	}
	if (n <= 0) {
		return false;
	}
	status[n] = '\0';
	if (strncmp(status, name_key, strlen(name_key)) != 0) {
		return false;
	}
	read_name(status + strlen(name_key), ret_process->command);
	/* The name has no newline in it, so these are found in their own lines only. */
	ret_process->pid = read_number(status, "\nTgid:\t");
	ret_process->ppid = read_number(status, "\nPPid:\t");
	return true;
}

static bool read_process(int proc_fd, pid_t tid, struct hk_process *ret_process)
{
	struct hk_process leader;

	if (!read_status(proc_fd, tid, ret_process)) {
		return false;
	}
	if (ret_process->pid == 0) {
		ret_process->pid = tid;
	}
	if (ret_process->pid != tid && read_status(proc_fd, ret_process->pid, &leader)) {
		memcpy(ret_process->command, leader.command, sizeof(leader.command));
	}
	return true;
}

/* The entry of @tid, else the one to use for it: a free one, or the oldest. */
static struct entry *find_locked(struct entry set[WAYS], pid_t tid)
{
	struct entry *best = &set[0];

	for (unsigned i = 0; i < WAYS; i++) {
		struct entry *entry = &set[i];

		if (entry->tid == tid) {
			return entry;
		}
		if (best->tid != 0 && (entry->tid == 0 || entry->read_ns < best->read_ns)) {
			best = entry;
		}
	}
	return best;
}

/* Of a guest's process. */
static void recall(struct hk_processes *processes, pid_t pid, struct hk_process *ret_process)
{
	unsigned set = (unsigned)pid % SETS;
	pthread_mutex_t *lock = &processes->locks[set % LOCKS];
	struct entry *entry;

	pthread_mutex_lock(lock);
	entry = find_locked(processes->entries[set], pid);
	if (entry->tid == pid) {
		*ret_process = entry->process;
	}
	pthread_mutex_unlock(lock);
}

/* What the kernel does, too, on the way from a program to its dynamic linker. */
static bool is_part_of_exec(enum hk_event_op op)
{
	return op == HK_EVENT_LOOKUP || op == HK_EVENT_READLINK || op == HK_EVENT_CLOSE ||
		op == HK_EVENT_EXEC;
}

void hk_processes_note(struct hk_processes *processes, const struct hk_audit_event *event)
{
	unsigned set = (unsigned)event->pid % SETS;
	pthread_mutex_t *lock = &processes->locks[set % LOCKS];
	struct entry *entry;
	const char *slash;
	bool known;

	if (event->pid <= 0 || processes->proc_fd >= 0) {
		return;
	}
	pthread_mutex_lock(lock);
	entry = find_locked(processes->entries[set], event->pid);
	known = entry->tid == event->pid;
	if (event->op == HK_EVENT_EXEC && event->error == 0 && !(known && entry->runs)) {
		*entry = (struct entry){.tid = event->pid,
			.runs = true,
			.read_ns = event->time_ns,
			.process = {.pid = event->pid}};
		slash = strrchr(event->path, '/');
		hk_fmt(entry->process.command, sizeof(entry->process.command), "%s",
			slash != NULL ? slash + 1 : event->path);
	} else if (known && !is_part_of_exec(event->op)) {
		entry->runs = false;
	}
	pthread_mutex_unlock(lock);
}

void hk_processes_find(struct hk_processes *processes, pid_t pid, uint64_t now_ns, bool runs,
	struct hk_process *ret_process)
{
	unsigned set = (unsigned)pid % SETS;
	pthread_mutex_t *lock = &processes->locks[set % LOCKS];
	struct entry *entry;
	bool known, good;

	*ret_process = (struct hk_process){.pid = pid};
	if (pid <= 0) {
		return;
	}
	if (processes->proc_fd < 0) {
		recall(processes, pid, ret_process);
		return;
	}
	pthread_mutex_lock(lock);
	entry = find_locked(processes->entries[set], pid);
	known = entry->tid == pid;
	/* Unsigned: a clock that was set back is far ahead. */
	good = known && (!entry->runs || runs) && now_ns - entry->read_ns < GOOD_FOR_NS;
	if (known) {
		*ret_process = entry->process;
		entry->runs |= runs;
	}
	pthread_mutex_unlock(lock);
	if (good) {
		return;
	}

	/* If it is gone, what was known stays. */
	read_process(processes->proc_fd, pid, ret_process);
	pthread_mutex_lock(lock);
	entry = find_locked(processes->entries[set], pid);
	*entry = (struct entry){
		.tid = pid, .runs = runs, .read_ns = now_ns, .process = *ret_process};
	pthread_mutex_unlock(lock);
}
