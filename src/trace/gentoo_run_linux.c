/* SPDX-License-Identifier: ISC */
/*
 * A run under the policy of Gentoo's sandbox: who has which policy, the log, and what is said on
 * stderr.
 *
 * Theory: a process has the policy of its parent, until it tells of a change. The run's first one
 * has that of our own environment. A bash with our hook (gentoo_hook.c) writes changed variables
 * into a socket that all of the sandbox inherits, as "NAME=VALUE\0"; the kernel says who wrote.
 * What was written is read before anything is judged: so what comes after it, by the same process
 * or by what it starts, is judged by it. Whoever told is a *teller*: its policy is its own and its
 * children's. Which teller a process has above itself is found through /proc, and remembered.
 *
 * A command may be given variables of its own (SANDBOX_ON=0 CMD): those are in its environment. So
 * where a process would be refused something, and its environment is another than that of the
 * process whose policy it has, it is judged once more, by its environment. A process that has no
 * such variables (env -i) has its parents' policy.
 *
 * What is looked up of a process may take its time (gentoo_look_linux.c). So that is done by a copy
 * of the policy, without the lock, but for who tells for the first time; and for a second at most.
 *
 * Limits: a process whose environment cannot be read in that time has the policy of its teller, and
 * the log of one whose words cannot be has real paths and no command. A process whose teller has
 * ended before it did anything is found below process 1, and has the first policy.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/server.h"
#include "trace/gentoo.h"

enum {
	TELLERS_MAX = 4096, /* a bound on what a sandbox can have us keep */
	VALUE_MAX = 64 << 10,
	SEEN_SLOTS = 4096,
	CLIMB_MAX = 256,
	CHUNK = 4096,
};

/** struct process - one incarnation of a number */
struct process {
	pid_t pid;
	uint64_t start; /* ticks since boot */
};

/**
 * struct teller - a process with a policy of its own; the first one stands for the run
 * @born_with: a sum over the variables it was executed with
 * @pending: what it has written of a variable so far
 */
struct teller {
	struct process who;
	struct hk_gentoo_policy policy;
	uint64_t born_with;
	struct hk_str pending;
};

/* Whose policy a process has. */
struct seen {
	struct process who;
	struct teller *teller;
};

struct hk_gentoo_run {
	struct hk_gentoo_env env;
	const struct hk_gentoo_options *options; /* borrowed */
	pthread_mutex_t lock;                    /* of tellers and what was seen */
	struct teller *tellers[TELLERS_MAX];
	size_t teller_count;
	struct seen seen[SEEN_SLOTS];
	pthread_mutex_t log_lock; /* of the logs */
	bool log_failed;
	atomic_bool violated;
};

static char *real_path(struct hk_gentoo_env *env, const char *path)
{
	return realpath(path, NULL);
}

/* Processes */

/* Return: does it live? */
static bool read_process(pid_t pid, struct process *ret_process, pid_t *ret_parent)
{
	char path[32];
	char text[1024];
	unsigned long long start;
	const char *after;
	int parent;

	hk_fmt(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (hk_read_text(AT_FDCWD, path, text, sizeof(text)) <= 0) {
		return false;
	}
	/* "PID (NAME) STATE PPID ...": a name may have anything in it. */
	after = strrchr(text, ')');
	if (after == NULL ||
		sscanf(after + 1,
			" %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			"%*d %llu",
			&parent, &start) != 2) {
		return false;
	}
	*ret_process = (struct process){.pid = pid, .start = start};
	*ret_parent = parent;
	return true;
}

static bool is_same(const struct process *a, const struct process *b)
{
	return a->pid == b->pid && a->start == b->start;
}

static struct teller *find_teller(const struct hk_gentoo_run *run, const struct process *who)
{
	for (size_t i = 1; i < run->teller_count; i++) {
		if (is_same(&run->tellers[i]->who, who)) {
			return run->tellers[i];
		}
	}
	return NULL;
}

/* Whose policy has it? */
static struct teller *teller_of(struct hk_gentoo_run *run, pid_t pid)
{
	struct teller *found = NULL;
	struct process asked = {0};
	struct process at;
	struct seen *seen;
	pid_t parent;

	if (run->teller_count == 1 || !read_process(pid, &asked, &parent)) {
		return run->tellers[0];
	}
	seen = &run->seen[(unsigned)pid % SEEN_SLOTS];
	if (is_same(&seen->who, &asked)) {
		return seen->teller;
	}
	at = asked;
	for (unsigned i = 0; i < CLIMB_MAX && found == NULL; i++) {
		found = find_teller(run, &at);
		if (found == NULL && (parent <= 1 || !read_process(parent, &at, &parent))) {
			break;
		}
	}
	if (found == NULL) {
		found = run->tellers[0];
	}
	*seen = (struct seen){.who = asked, .teller = found};
	return found;
}

/* Environments */

/* The variables of an environment, lines that end in NUL; what it has not stays NULL. */
static bool find_vars(const char *text, size_t len, const char *values[HK_GENTOO_VARS])
{
	bool any = false;

	for (const char *at = text; at < text + len; at += strlen(at) + 1) {
		const char *equals = strchr(at, '=');
		enum hk_gentoo_var var = equals == NULL
			? HK_GENTOO_VARS
			: hk_gentoo_var_find(at, (size_t)(equals - at));

		if (var != HK_GENTOO_VARS) {
			values[var] = equals + 1;
			any |= var <= HK_GENTOO_ON;
		}
	}
	return any;
}

static uint64_t sum_of(const char *const values[HK_GENTOO_VARS])
{
	uint64_t sum = 14695981039346656037ULL;

	for (unsigned var = 0; var <= HK_GENTOO_ON; var++) {
		for (const char *p = values[var]; p != NULL && *p != '\0'; p++) {
			sum = (sum ^ (uint8_t)*p) * 1099511628211ULL;
		}
		sum = (sum ^ (values[var] == NULL ? 256 : 257)) * 1099511628211ULL;
	}
	return sum;
}

static int copy_policy(
	struct hk_gentoo_run *run, const struct hk_gentoo_policy *from, struct hk_gentoo_policy *to)
{
	int r = 0;

	for (unsigned var = 0; r == 0 && var < HK_GENTOO_VARS; var++) {
		r = hk_gentoo_set(to, (enum hk_gentoo_var)var, from->text[var], &run->env);
	}
	return r;
}

/*
 * What it may by the variables it was executed with, where those are its own: not those that whose
 * policy it has was executed with. Any thread, no lock.
 */
static enum hk_gentoo_verdict judge_by_environ(struct hk_gentoo_run *run,
	const struct hk_gentoo_policy *policy, uint64_t born_with,
	const struct hk_fuse_question *question, enum hk_gentoo_verdict verdict)
{
	const char *values[HK_GENTOO_VARS] = {NULL};
	struct hk_gentoo_policy own = {0};
	size_t len;
	autofree char *text = hk_gentoo_environ(question->pid, &len);
	int r;

	if (text == NULL || !find_vars(text, len, values) || sum_of(values) == born_with) {
		return verdict;
	}
	r = copy_policy(run, policy, &own);
	for (unsigned var = 0; r == 0 && var <= HK_GENTOO_ON; var++) {
		if (values[var] != NULL) {
			r = hk_gentoo_set(&own, (enum hk_gentoo_var)var, values[var], &run->env);
		}
	}
	if (r == 0) {
		verdict = hk_gentoo_judge(&own, question);
	}
	hk_gentoo_finish(&own);
	return verdict;
}

/* What is told */

static void free_teller(struct teller *teller)
{
	if (teller != NULL) {
		hk_gentoo_finish(&teller->policy);
		hk_str_finish(&teller->pending);
	}
	free(teller);
}

/* Those that have ended make room. What they left running falls to the first policy. */
static void forget_ended(struct hk_gentoo_run *run)
{
	size_t kept = 1;

	for (size_t i = 1; i < run->teller_count; i++) {
		struct teller *teller = run->tellers[i];
		struct process now;
		pid_t parent;

		if (read_process(teller->who.pid, &now, &parent) && is_same(&now, &teller->who)) {
			run->tellers[kept++] = teller;
		} else {
			free_teller(teller);
		}
	}
	run->teller_count = kept;
	memset(run->seen, 0, sizeof(run->seen));
}

/* The teller that @pid is, or becomes; NULL where it is gone or there are too many. */
static struct teller *be_teller(struct hk_gentoo_run *run, pid_t pid)
{
	const char *values[HK_GENTOO_VARS] = {NULL};
	autofree char *text = NULL;
	struct teller *teller;
	struct process who;
	pid_t parent;
	size_t len;

	if (!read_process(pid, &who, &parent)) {
		return NULL;
	}
	teller = find_teller(run, &who);
	if (teller != NULL) {
		return teller;
	}
	if (run->teller_count == TELLERS_MAX) {
		forget_ended(run);
	}
	if (run->teller_count == TELLERS_MAX || hk_new(teller) == NULL) {
		return NULL;
	}
	teller->who = who;
	/* With the lock held: it is told of once, and must be before it executes something else. */
	text = hk_gentoo_environ(pid, &len);
	if (text != NULL) {
		find_vars(text, len, values);
	}
	teller->born_with = sum_of(values);
	if (copy_policy(run, &teller_of(run, pid)->policy, &teller->policy) < 0) {
		free_teller(teller);
		return NULL;
	}
	run->tellers[run->teller_count++] = teller;
	memset(run->seen, 0, sizeof(run->seen));
	return teller;
}

/* "NAME=VALUE", or "NAME" for one that was unset. */
static void take_line(struct hk_gentoo_run *run, struct teller *teller)
{
	const char *line = hk_str_text(&teller->pending);
	size_t name_len = strcspn(line, "=");
	enum hk_gentoo_var var = hk_gentoo_var_find(line, name_len);

	if (var != HK_GENTOO_VARS && !teller->pending.failed) {
		/* Out of memory: it stays as it was. */
		(void)hk_gentoo_set(&teller->policy, var,
			line[name_len] == '=' ? line + name_len + 1 : NULL, &run->env);
	}
	hk_str_finish(&teller->pending);
}

static void take_bytes(struct hk_gentoo_run *run, pid_t pid, const char *bytes, size_t len)
{
	struct teller *teller = be_teller(run, pid);

	for (size_t i = 0; teller != NULL && i < len; i++) {
		if (bytes[i] == '\0') {
			take_line(run, teller);
		} else if (teller->pending.len < VALUE_MAX) {
			hk_str_add_bytes(&teller->pending, &bytes[i], 1);
		}
	}
}

/* All that was told so far. */
static void listen_to_all(struct hk_gentoo_run *run)
{
	char bytes[CHUNK];
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * 8)];
	} control;

	while (run->options->control_fd >= 0) {
		struct iovec iov = {bytes, sizeof(bytes)};
		struct msghdr msg = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		ssize_t n =
			recvmsg(run->options->control_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		struct ucred from = {0};

		if (n <= 0) {
			return;
		}
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
			if (c->cmsg_type == SCM_CREDENTIALS) {
				memcpy(&from, CMSG_DATA(c), sizeof(from));
			} else if (c->cmsg_type == SCM_RIGHTS) {
				/* Nobody asked for descriptors. */
				for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len;
					i++) {
					int fd;

					memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
					close(fd);
				}
			}
		}
		if (from.pid > 0) {
			take_bytes(run, from.pid, bytes, (size_t)n);
		}
	}
}

/* The log */

int hk_gentoo_log_open(const struct hk_gentoo_log *log, int flags)
{
	const char *name = strrchr(log->path, '/') + 1;
	autoclose int fd = -1;
	struct stat st;

	if (log->dir < 0) {
		return -ENOENT;
	}
	fd = hk_open(log->dir, name, flags | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0644);
	if (fd < 0) {
		return fd;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		return -EINVAL;
	}
	return st.st_nlink > 1 ? -EMLINK : take_fd(&fd);
}

static int append(const struct hk_gentoo_log *log, const struct hk_str *record)
{
	autoclose int fd = hk_gentoo_log_open(log, O_WRONLY | O_APPEND | O_CREAT);
	struct stat st;
	int r;

	if (fd < 0) {
		return fd;
	}
	if (fstat(fd, &st) == 0 && st.st_size == 0) {
		fchmod(fd, 0644); /* whatever the umask */
		r = hk_write_full(fd, hk_gentoo_log_head, strlen(hk_gentoo_log_head));
		if (r < 0) {
			return r;
		}
	}
	return hk_write_full(fd, record->data, record->len);
}

static void log_to(struct hk_gentoo_run *run, const struct hk_gentoo_log *log,
	const struct hk_gentoo_event *event)
{
	struct hk_str record = {0};
	int r;

	hk_gentoo_record(&record, event);
	pthread_mutex_lock(&run->log_lock);
	r = record.failed ? -ENOMEM : append(log, &record);
	if (r < 0 && !run->log_failed) {
		run->log_failed = true;
		fprintf(stderr, "hako sandbox: '%s': %s\n", log->path, strerror(-r));
	}
	pthread_mutex_unlock(&run->log_lock);
	hk_str_finish(&record);
}

static void say(const struct hk_gentoo_run *run, enum hk_gentoo_verdict verdict,
	const struct hk_gentoo_event *event)
{
	static const struct {
		const char *text;
		const char *color;
	} words[] = {
		[HK_GENTOO_ALLOWED] = {"ALLOWED", "\033[32;01m"},
		[HK_GENTOO_DENIED] = {"DENIED", "\033[31;01m"},
		[HK_GENTOO_PREDICTED] = {"PREDICTED", "\033[33;01m"},
	};
	const char *color = run->options->color ? words[verdict].color : "";
	const char *plain = run->options->color ? "\033[0m" : "";
	char path[8192];

	hk_str_escape(path, sizeof(path), event->absolute, strlen(event->absolute));
	fprintf(stderr, " %s*%s %sACCESS %s%s:  %s:%*s%s\n", color, plain, color,
		words[verdict].text, plain, event->function, (int)(15 - strlen(event->function)),
		"", path);
}

/* Refused with a word: always. The rest only for who looks for faults in rules. */
static void tell(struct hk_gentoo_run *run, const struct hk_gentoo_policy *policy,
	enum hk_gentoo_verdict verdict, const struct hk_fuse_question *question)
{
	bool is_denied = verdict == HK_GENTOO_DENIED;
	struct hk_gentoo_words words;
	struct hk_gentoo_event event;

	if (!is_denied && !policy->debug) {
		return;
	}
	hk_gentoo_words(question->pid, question->path, &words);
	event = (struct hk_gentoo_event){
		.function = hk_gentoo_function(question),
		.allowed = !is_denied,
		.passed = words.passed != NULL ? words.passed : question->path,
		.absolute = words.absolute != NULL ? words.absolute : question->path,
		.real = question->path,
		.command = words.command,
	};
	if (policy->verbose) {
		say(run, verdict, &event);
	}
	if (is_denied) {
		atomic_store(&run->violated, true);
		log_to(run, &run->options->log, &event);
	}
	if (policy->debug) {
		log_to(run, &run->options->debug_log, &event);
	}
	hk_gentoo_words_finish(&words);
}

bool hk_gentoo_run_violated(const struct hk_gentoo_run *run)
{
	return atomic_load(&run->violated);
}

/*
 * By whose policy the process has. Return: the verdict; if more is to be done, a copy of that
 * policy in *@policy, else nothing, as without memory.
 */
static enum hk_gentoo_verdict judge_by_teller(struct hk_gentoo_run *run,
	const struct hk_fuse_question *question, struct hk_gentoo_policy *policy,
	uint64_t *ret_born_with, bool *ret_is_copied)
{
	enum hk_gentoo_verdict verdict;
	const struct teller *teller;

	*ret_is_copied = false;
	pthread_mutex_lock(&run->lock);
	listen_to_all(run);
	teller = teller_of(run, question->pid);
	verdict = hk_gentoo_judge(&teller->policy, question);
	if (verdict != HK_GENTOO_ALLOWED || (teller->policy.on && teller->policy.debug)) {
		*ret_is_copied = copy_policy(run, &teller->policy, policy) == 0;
		*ret_born_with = teller->born_with;
	}
	pthread_mutex_unlock(&run->lock);
	return verdict;
}

int hk_gentoo_run_judge(void *arg, const struct hk_fuse_question *question)
{
	struct hk_gentoo_run *run = arg;
	struct hk_gentoo_policy policy = {0};
	enum hk_gentoo_verdict verdict;
	uint64_t born_with;
	bool is_copied;

	if (hk_gentoo_function(question) == NULL) {
		return 0;
	}
	verdict = judge_by_teller(run, question, &policy, &born_with, &is_copied);
	if (verdict != HK_GENTOO_ALLOWED && is_copied) {
		verdict = judge_by_environ(run, &policy, born_with, question, verdict);
	}
	if (policy.on || verdict != HK_GENTOO_ALLOWED) {
		tell(run, &policy, verdict, question);
	}
	hk_gentoo_finish(&policy);
	return verdict == HK_GENTOO_ALLOWED ? 0 : EACCES;
}

int hk_gentoo_run_create(const struct hk_gentoo_options *options, struct hk_gentoo_run **ret_run)
{
	const char *values[HK_GENTOO_VARS];
	struct hk_gentoo_run *run;
	struct teller *first;
	int r = 0;

	if (hk_new(run) == NULL || hk_new(first) == NULL) {
		free(run);
		return -ENOMEM;
	}
	run->env.real = real_path;
	run->options = options;
	pthread_mutex_init(&run->lock, NULL);
	pthread_mutex_init(&run->log_lock, NULL);
	run->tellers[run->teller_count++] = first;
	for (unsigned var = 0; r == 0 && var < HK_GENTOO_VARS; var++) {
		values[var] = getenv(hk_gentoo_var_name((enum hk_gentoo_var)var));
		r = hk_gentoo_set(&first->policy, (enum hk_gentoo_var)var, values[var], &run->env);
	}
	if (r < 0) {
		hk_gentoo_run_destroy(run);
		return r;
	}
	first->born_with = sum_of(values);
	*ret_run = run;
	return 0;
}

void hk_gentoo_run_destroy(struct hk_gentoo_run *run)
{
	if (run == NULL) {
		return;
	}
	for (size_t i = 0; i < run->teller_count; i++) {
		free_teller(run->tellers[i]);
	}
	pthread_mutex_destroy(&run->log_lock);
	pthread_mutex_destroy(&run->lock);
	free(run);
}
