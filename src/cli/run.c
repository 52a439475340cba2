/* SPDX-License-Identifier: ISC */
/*
 * `hako run`: a box for one command, from the user's terminal and signals to the exit status.
 *
 * Theory: signals are blocked and come through the loop, so that every way out but SIGKILL passes
 * through the end of hk_cmd_run(), which restores the terminal; for SIGKILL there is its guardian.
 * What hangs on the way out is ended by the watchdog.
 * SIGTSTP keeps its default: Ctrl-Z without a terminal in the box stops hako, and the box with it.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/str.h"
#include "base/util.h"
#include "box/box.h"
#include "cli/builtin.h"
#include "cli/explain.h"
#include "cli/report.h"
#include "cli/run_options.h"
#include "cli/terminal_linux.h"
#include "cli/watchdog.h"

static const int signals[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

struct run {
	struct hk_run_options options;
	struct hk_loop *loop;
	struct hk_box_owner owner;
	struct hk_box *box;
	struct hk_hints hints;
	struct hk_terminal terminal;
	struct hk_watchdog watchdog;
	struct hk_signal signals[HK_ARRAY_SIZE(signals)];
};

/* The run that signals are for: a handler is given the signal's place in the array only. */
static struct run *run_of(struct hk_signal *caught)
{
	size_t index = 0;

	while (signals[index] != caught->signo) {
		index++;
	}
	return hk_container_of(caught - index, struct run, signals[0]);
}

static void resize(struct run *run)
{
	uint16_t rows;
	uint16_t cols;

	for (int fd = STDIN_FILENO; run->options.config.tty && fd <= STDERR_FILENO; fd++) {
		if (hk_terminal_size(fd, &rows, &cols)) {
			hk_box_resize(run->box, rows, cols);
			return;
		}
	}
}

static void signal_caught(struct hk_signal *caught, const struct signalfd_siginfo *info)
{
	struct run *run = run_of(caught);

	if (run->box == NULL) {
		return;
	}
	switch (caught->signo) {
	case SIGWINCH:
		resize(run);
		break;
	case SIGCONT:
		/* Meanwhile the shell has had the terminal. */
		if (run->terminal.raw) {
			hk_terminal_make_raw(&run->terminal);
		}
		resize(run);
		hk_box_signal(run->box, SIGCONT);
		break;
	default:
		hk_box_signal(run->box, caught->signo);
		break;
	}
}

/* What was ignored when we started (nohup) stays so, for the command as well. */
static int catch_signals(struct run *run, struct hk_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(signals); i++) {
		if (!hk_signal_is_ignored(signals[i])) {
			run->signals[i].caught = signal_caught;
			r = hk_signal_add(run->loop, &run->signals[i], signals[i], err);
		}
	}
	return r;
}

static void started(struct hk_box_owner *owner)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	if (run->terminal.open) {
		hk_terminal_make_raw(&run->terminal);
		hk_report_on_raw_terminal(true);
	}
}

static void ended(struct hk_box_owner *owner)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	hk_loop_stop(run->loop);
}

/* The status if the box is given up: it has not done all that it should. */
static int status_if_abandoned(const struct run *run)
{
	const struct hk_box_result *result = hk_box_result(run->box);

	if (result->end == HK_BOX_TIMED_OUT || result->end == HK_BOX_STOPPED) {
		return hk_box_status(result);
	}
	return result->end == HK_BOX_RUNS_STILL ? HK_STATUS_TIMED_OUT : HK_STATUS_FAILURE;
}

static void limit(struct hk_box_owner *owner, uint64_t ns)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	hk_watchdog_set(&run->watchdog, ns, status_if_abandoned(run));
}

static void progress(struct hk_box_owner *owner, const char *what, uint64_t since_start_ns)
{
	hk_report("run", "%6" PRIu64 ".%03" PRIu64 " ms  %s", since_start_ns / HK_NS_PER_MS,
		since_start_ns / 1000 % 1000, what);
}

static void console(struct hk_box_owner *owner, const char *line)
{
	hk_report("run", "| %s", line);
}

static int prepare(struct run *run, struct hk_err *err)
{
	struct hk_box_config *config = &run->options.config;
	int r;

	if (config->tty && isatty(STDIN_FILENO)) {
		r = hk_terminal_open(&run->terminal, STDIN_FILENO, err);
		if (r < 0) {
			return r;
		}
	}
	r = hk_loop_create(&run->loop, err);
	if (r < 0) {
		return r;
	}
	run->owner = (struct hk_box_owner){.started = started, .ended = ended, .limit = limit};
	if (config->verbose) {
		run->owner.progress = progress;
		run->owner.console = console;
	}
	config->loop = run->loop;
	config->owner = &run->owner;
	return catch_signals(run, err);
}

static int run_box(struct run *run, struct hk_err *err)
{
	int r = prepare(run, err);

	if (r == 0) {
		r = hk_box_create(&run->options.config, &run->box, err);
	}
	if (r == 0) {
		r = hk_box_start(run->box, err);
	}
	if (r == 0) {
		r = hk_watchdog_start(&run->watchdog, err);
	}
	if (r == 0) {
		r = hk_loop_run(run->loop);
		if (r < 0) {
			hk_fail(err, -r, "event loop");
		}
	}
	return r;
}

static void finish(struct run *run)
{
	if (run->box != NULL) {
		limit(&run->owner, HK_BOX_LEAVE_NS);
	}
	hk_box_destroy(run->box);
	hk_watchdog_finish(&run->watchdog);
	for (size_t i = 0; i < HK_ARRAY_SIZE(signals); i++) {
		hk_signal_remove(&run->signals[i]);
	}
	hk_loop_destroy(run->loop);
	hk_hints_finish(&run->hints);
	hk_run_options_finish(&run->options);
}

int hk_cmd_run(char **argv)
{
	struct run run = {0};
	struct hk_err err = HK_ERR_INIT;
	int status;
	int r;

	hk_watchdog_init(&run.watchdog, &run.terminal);
	r = hk_run_options_parse(&run.options, argv, &err);
	if (r < 0) {
		status = hk_report_err("run", &err, HK_STATUS_USAGE);
	} else if (run.options.help) {
		hk_run_options_print_help();
		status = HK_STATUS_OK;
	} else {
		hk_hints_find(&run.hints, &run.options.config);
		r = run_box(&run, &err);
		hk_terminal_close(&run.terminal);
		hk_report_on_raw_terminal(false);
		status = r < 0 ? hk_report_err("run", &err, HK_STATUS_FAILURE)
			       : hk_explain(run.box, &run.options.config, &run.hints);
	}
	finish(&run);
	return status;
}
