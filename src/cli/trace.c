/* SPDX-License-Identifier: ISC */
/*
 * `hako trace`: a command on a mirror of the file system, from the user's terminal and signals to
 * the exit status.
 *
 * Theory: the command is a member of our process group, as natively: the shell sees one job, and
 * what the terminal sends (Ctrl-C, Ctrl-Z) reaches the command by itself. What is sent to us alone
 * is passed on (trace/init_linux.c can tell). When the command stops, so do we, for the shell to
 * see; the file server with us, so what the command left running in the background waits, too. Time
 * goes on meanwhile: a timer of the kernel's continues us when the command's is up (SIGCONT does,
 * whoever sends it).
 *
 * The sandbox is forked before anything of this process is changed, and before there are threads;
 * signals are blocked before there are threads, and come through the loop.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/sys.h"
#include "base/timespec.h"
#include "base/util.h"
#include "cli/ask.h"
#include "cli/builtin.h"
#include "cli/findings.h"
#include "cli/layers.h"
#include "cli/report.h"
#include "cli/trace_options.h"
#include "fuse/audit.h"
#include "trace/sandbox_linux.h"
#include "trace/trace.h"

/* How long a command that is told to end may take to do so. */
#define GRACE_NS (2 * HK_NS_PER_SEC)
/*
 * Who does not stop is there on time, and needs no waking; who is stopped once more is woken once
 * more.
 */
#define WAKE_NS (50 * HK_NS_PER_MS)

/* Those that stop, too: we stop when the command has, and once. */
static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP,
	SIGTTIN, SIGTTOU, SIGALRM};

/* Why the command ended, or is about to. */
enum ending { BY_ITSELF, BY_TIMEOUT, BY_VIOLATION };

struct trace {
	struct hk_trace_options options;
	struct hk_trace_config config;
	struct hk_findings findings;
	char *layers; /* owned; where layers are */
	char *layer;  /* owned; this run's */
	struct hk_trace *trace;
	struct hk_loop *loop;
	struct hk_source end;
	struct hk_source news;
	struct hk_timer timer;
	timer_t waker; /* behind @timer */
	bool has_waker;
	struct hk_event violation; /* with --strict */
	struct hk_signal signals[HK_ARRAY_SIZE(signals)];
	int (*judge)(void *arg, const struct hk_fuse_question *question); /* or NULL */
	void *judge_arg;
	enum ending ending;
	int terminal; /* where we are in the foreground, or -1 */
	int over;     /* an eventfd, for hk_ask() */
};

static struct trace *trace_of(struct hk_signal *caught)
{
	size_t index = 0;

	while (signals[index] != caught->signo) {
		index++;
	}
	return hk_container_of(caught - index, struct trace, signals[0]);
}

static void signal_caught(struct hk_signal *caught, const struct signalfd_siginfo *info)
{
	struct trace *trace = trace_of(caught);

	hk_sandbox_signal(hk_trace_sandbox(trace->trace), caught->signo);
}

/* What was ignored when we started (nohup) stays so. */
static int catch_signals(struct trace *trace, struct hk_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(signals); i++) {
		if (!hk_signal_is_ignored(signals[i])) {
			trace->signals[i].caught = signal_caught;
			r = hk_signal_add(trace->loop, &trace->signals[i], signals[i], err);
		}
	}
	return r;
}

static int find_terminal(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (tcgetpgrp(fd) == getpgrp()) {
			return fd;
		}
	}
	return -1;
}

/* The terminal is ours again: a shell may have ended and left it to nobody. */
static void take_terminal(const struct trace *trace)
{
	sigset_t out;
	sigset_t before;

	if (trace->terminal >= 0 && tcgetpgrp(trace->terminal) != getpgrp()) {
		sigemptyset(&out);
		sigaddset(&out, SIGTTOU);
		pthread_sigmask(SIG_BLOCK, &out, &before);
		tcsetpgrp(trace->terminal, getpgrp());
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
}

static void ended(struct hk_source *source, uint32_t events)
{
	struct trace *trace = hk_container_of(source, struct trace, end);

	hk_loop_stop(trace->loop);
}

/* Which group has the terminal that is ours, too? 0: none. */
static pid_t foreground(void)
{
	pid_t group = 0;

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && group <= 0; fd++) {
		group = tcgetpgrp(fd);
	}
	return HK_MAX(group, 0);
}

/*
 * Until the shell lets us go on. To the foreground, that is, if it gave us the terminal: then who
 * had it in there gets it, for a shell in there with a group of its own would stop at once without.
 */
static void stop_with_command(struct trace *trace)
{
	pid_t had = foreground();

	raise(SIGSTOP);                    /* the shell notices, and takes the terminal */
	trace->terminal = find_terminal(); /* a shell may have it now, and keep it */
	if (trace->terminal >= 0 && had != getpgrp() &&
		had == hk_sandbox_group(hk_trace_sandbox(trace->trace))) {
		tcsetpgrp(trace->terminal, had);
	}
}

static void told(struct hk_source *source, uint32_t events)
{
	struct trace *trace = hk_container_of(source, struct trace, news);
	int r = hk_sandbox_news(hk_trace_sandbox(trace->trace));

	if (r < 0) {
		hk_source_remove(source); /* the end is near */
	} else if (r > 0 && trace->ending == BY_ITSELF) {
		stop_with_command(trace);
	}
}

static int make_waker(struct trace *trace, struct hk_err *err)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};

	if (timer_create(CLOCK_MONOTONIC, &event, &trace->waker) < 0) {
		return hk_fail(err, errno, "timer");
	}
	trace->has_waker = true;
	return 0;
}

static void arm(struct trace *trace, uint64_t ns_from_now)
{
	uint64_t due_ns = hk_now_ns() + ns_from_now;
	const struct itimerspec at = {
		.it_value = hk_timespec_of(due_ns + WAKE_NS),
		.it_interval = hk_timespec_of(WAKE_NS),
	};

	hk_timer_arm(trace->loop, &trace->timer, due_ns);
	timer_settime(trace->waker, TIMER_ABSTIME, &at, NULL);
}

/* It is asked to end, and what is left after a while is killed. */
static void end_command(struct trace *trace, enum ending why)
{
	trace->ending = why;
	hk_sandbox_end(hk_trace_sandbox(trace->trace));
	hk_sandbox_signal(hk_trace_sandbox(trace->trace), SIGCONT);
	arm(trace, GRACE_NS);
}

static void time_is_up(struct hk_timer *timer)
{
	struct trace *trace = hk_container_of(timer, struct trace, timer);

	if (trace->ending != BY_ITSELF) {
		hk_loop_stop(trace->loop);
	} else {
		end_command(trace, BY_TIMEOUT);
	}
}

static void violation_seen(struct hk_event *event)
{
	struct trace *trace = hk_container_of(event, struct trace, violation);

	if (trace->ending == BY_ITSELF) {
		end_command(trace, BY_VIOLATION);
	}
}

/* In a thread of the file server: the command is to know before it goes on with the refusal. */
static void violated(void *arg)
{
	struct trace *trace = arg;

	hk_sandbox_end(hk_trace_sandbox(trace->trace));
	hk_event_signal(&trace->violation);
}

/* In a thread of the file server. */
static bool ask(void *arg, const char *path, const char *class_name, pid_t pid)
{
	const struct trace *trace = arg;

	return hk_ask("trace", trace->options.watch.ask, path, class_name, pid, trace->over);
}

static void configure(struct trace *trace)
{
	const struct hk_trace_options *options = &trace->options;

	trace->config = (struct hk_trace_config){
		.argv = (const char *const *)options->argv,
		.env = (const char *const *)environ,
		.cwd = options->cwd,
		.policy = options->watch.policy,
		.fusebox_acl = options->fusebox_acl,
		.has_audit = options->watch.policy != NULL || options->fusebox_acl != NULL ||
			options->watch.strict || hk_watch_options_tell(&options->watch) ||
			options->summary == HK_SUMMARY_ALWAYS || options->view_count > 0,
		.log_fd = trace->findings.log_fd,
		.views = options->views,
		.view_count = options->view_count,
		.cow = options->cow,
		.net = !options->no_net,
		.minimal_dev = options->minimal_dev,
		.ask = ask,
		.ask_arg = trace,
		.judge = trace->judge,
		.judge_arg = trace->judge_arg,
		.violated = options->watch.strict ? violated : NULL,
		.violated_arg = trace,
	};
	hk_findings_hide(&trace->findings, trace->config.hidden, &trace->config.hidden_count);
	if (trace->layers != NULL) {
		trace->config.hidden[trace->config.hidden_count++] = trace->layers;
	}
}

/*
 * Layers of other runs are nobody's business, either. No place for them is an error only for who
 * needs one.
 */
static int find_layers(struct trace *trace, struct hk_err *err)
{
	struct hk_err ignored = HK_ERR_INIT;

	if (trace->options.cow) {
		return hk_layers_dir(&trace->layers, err);
	}
	(void)hk_layers_dir(&trace->layers, &ignored);
	return 0;
}

static int nothing_to_keep(const struct trace *trace, struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "--keep %s: nothing is to be kept apart", trace->options.keep);
	return hk_err_hint(
		err, "give --cow, or -v DIR:cow, or a policy with cow rules, or leave it out");
}

static int make_layer(struct trace *trace, struct hk_err *err)
{
	int r = 0;

	if (!trace->options.cow && !hk_trace_needs_layer(trace->trace)) {
		return trace->options.keep == NULL ? 0 : nothing_to_keep(trace, err);
	}
	if (trace->layers == NULL) {
		r = hk_layers_dir(&trace->layers, err);
	}
	if (r == 0) {
		r = hk_layers_make(trace->layers, trace->options.keep, &trace->layer, err);
	}
	trace->config.layer = trace->layer;
	return r;
}

static int open_findings(struct trace *trace, struct hk_err *err)
{
	const struct hk_trace_options *options = &trace->options;
	struct hk_findings *findings = &trace->findings;

	findings->verb = "trace";
	findings->argv = options->argv;
	findings->options = &options->watch;
	return hk_findings_open(findings,
		options->watch.policy != NULL ? options->watch.policy : options->fusebox_acl, err);
}

static int start(struct trace *trace, bool *ret_at_command, struct hk_err *err)
{
	int r = hk_loop_create(&trace->loop, err);

	*ret_at_command = false;
	trace->timer.fire = time_is_up;
	trace->violation.raised = violation_seen;
	if (r == 0) {
		r = catch_signals(trace, err);
	}
	if (r == 0) {
		r = make_waker(trace, err);
	}
	if (r == 0) {
		r = hk_event_add(trace->loop, &trace->violation, err);
	}
	if (r == 0) {
		r = hk_trace_start(trace->trace, ret_at_command, err);
	}
	if (r < 0) {
		return r;
	}
	trace->end = (struct hk_source){.fd = hk_sandbox_pidfd(hk_trace_sandbox(trace->trace)),
		.events = EPOLLIN,
		.ready = ended};
	trace->news = (struct hk_source){.fd = hk_sandbox_news_fd(hk_trace_sandbox(trace->trace)),
		.events = EPOLLIN,
		.ready = told};
	r = hk_source_add(trace->loop, &trace->end, err);
	if (r == 0) {
		r = hk_source_add(trace->loop, &trace->news, err);
	}
	if (r == 0 && trace->options.timeout_ns > 0) {
		arm(trace, trace->options.timeout_ns);
	}
	return r;
}

static int run(struct trace *trace, bool *ret_at_command, struct hk_err *err)
{
	int r = open_findings(trace, err);

	*ret_at_command = false;
	if (r == 0) {
		r = find_layers(trace, err);
	}
	if (r < 0) {
		return r;
	}
	configure(trace);
	r = hk_trace_create(&trace->config, &trace->trace, err);
	if (r == 0) {
		r = hk_findings_begin(&trace->findings, err);
	}
	if (r < 0) {
		return r;
	}
	trace->over = eventfd(0, EFD_CLOEXEC);
	if (trace->over < 0) {
		return hk_fail(err, errno, "eventfd");
	}
	/* What the command is to find as it was is behind us. */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	r = make_layer(trace, err);
	if (r == 0) {
		r = start(trace, ret_at_command, err);
	}
	if (r == 0) {
		r = hk_loop_run(trace->loop);
		if (r < 0) {
			hk_fail(err, -r, "event loop");
		}
	}
	return r;
}

/* What was found out */

/* @ran: else there is nothing to sum up but a refusal. Return: is all written that should be? */
static bool tell(struct trace *trace, bool ran)
{
	const struct hk_trace_options *options = &trace->options;

	trace->findings.summary = ran || options->quiet ? options->summary : HK_SUMMARY_IF_DENIED;
	return hk_findings_tell(&trace->findings, hk_trace_audit(trace->trace));
}

/* @status: of the command, which others come before. */
static int status_of(const struct trace *trace, int status, bool good)
{
	const struct hk_audit *audit = hk_trace_audit(trace->trace);

	if (trace->ending == BY_TIMEOUT) {
		hk_report("trace", "ended after %.3f s, as --timeout says",
			(double)trace->options.timeout_ns / (double)HK_NS_PER_SEC);
		return HK_STATUS_TIMED_OUT;
	}
	if (!good) {
		return HK_STATUS_FAILURE;
	}
	if (trace->options.watch.strict && audit != NULL && hk_audit_violations(audit) > 0) {
		hk_report("trace", "the policy denied something: ended, as --strict says");
		return HK_STATUS_VIOLATION;
	}
	return status;
}

static int status_of_command(const struct trace *trace, int wait_status)
{
	if (wait_status >= 0) {
		return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
					      : 128 + WTERMSIG(wait_status);
	}
	if (trace->ending == BY_ITSELF) {
		hk_report("trace", "the command's end was not seen: its process 1 was killed");
	}
	return HK_STATUS_FAILURE;
}

/* @failed: the status of a command that could not be executed; 0: it ran. */
static int conclude(struct trace *trace, int failed)
{
	struct hk_err err = HK_ERR_INIT;
	int wait_status;
	int status;
	bool good;

	/* Nobody waits for answers any more. */
	if (trace->over >= 0) {
		(void)eventfd_write(trace->over, 1);
	}
	if (trace->ending != BY_ITSELF) {
		hk_sandbox_kill(hk_trace_sandbox(trace->trace));
	}
	good = hk_trace_finish(trace->trace, &wait_status, &err) == 0;
	take_terminal(trace);
	if (!good) {
		hk_report_err("trace", &err, HK_STATUS_FAILURE);
	}
	status = failed != 0 ? failed : status_of_command(trace, wait_status);
	good &= tell(trace, failed == 0);
	return status_of(trace, status, good);
}

static void drop_layer(struct trace *trace)
{
	struct hk_err err = HK_ERR_INIT;

	if (trace->layer != NULL && trace->options.keep == NULL &&
		hk_layers_remove(trace->layer, &err) < 0) {
		hk_report_err("trace", &err, 0);
	}
	free(trace->layer);
}

static void finish(struct trace *trace)
{
	hk_source_remove(&trace->end);
	hk_source_remove(&trace->news);
	hk_timer_disarm(&trace->timer);
	if (trace->has_waker) {
		timer_delete(trace->waker);
	}
	hk_trace_destroy(trace->trace);
	hk_event_remove(&trace->violation);
	for (size_t i = 0; i < HK_ARRAY_SIZE(signals); i++) {
		hk_signal_remove(&trace->signals[i]);
	}
	hk_loop_destroy(trace->loop);
	hk_close(&trace->over);
	drop_layer(trace);
	free(trace->layers);
	hk_findings_finish(&trace->findings);
	hk_trace_options_finish(&trace->options);
}

static int run_and_conclude(struct trace *trace)
{
	struct hk_err err = HK_ERR_INIT;
	bool at_command;
	int r = run(trace, &at_command, &err);
	int failed = r == -ENOENT ? HK_STATUS_NOT_FOUND : HK_STATUS_NOT_EXECUTABLE;

	if (r < 0) {
		hk_report_err("trace", &err, 0);
	}
	if (r < 0 && !at_command) {
		return HK_STATUS_FAILURE;
	}
	return conclude(trace, r < 0 ? failed : 0);
}

int hk_trace_judged(char **argv, int (*judge)(void *arg, const struct hk_fuse_question *question),
	void *judge_arg)
{
	struct trace trace = {.findings = HK_FINDINGS_INIT,
		.terminal = find_terminal(),
		.over = -1,
		.judge = judge,
		.judge_arg = judge_arg};
	struct hk_err err = HK_ERR_INIT;
	int status;

	if (hk_trace_options_parse(&trace.options, argv, &err) < 0) {
		status = hk_report_err("trace", &err, HK_STATUS_USAGE);
	} else if (trace.options.help) {
		hk_trace_options_print_help();
		status = HK_STATUS_OK;
	} else {
		status = run_and_conclude(&trace);
	}
	finish(&trace);
	return status;
}

int hk_cmd_trace(char **argv)
{
	/* A program of its own, with options of its own. */
	if (argv[1] != NULL && strcmp(argv[1], "--gentoo") == 0) {
		return hk_cmd_sandbox(argv + 1);
	}
	return hk_trace_judged(argv, NULL, NULL);
}
