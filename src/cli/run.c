/* SPDX-License-Identifier: ISC */
/*
 * `hako run`: a box for one command, from the user's terminal and signals to the exit status.
 *
 * Theory: while files are read, which may take as long as others like (a policy from a pipe),
 * signals end us as they end any program. From then on they are blocked and come through the loop,
 * so that every way out but SIGKILL passes through the end of hk_cmd_run(), which restores the
 * terminal; for SIGKILL there is its guardian. What hangs on the way out is ended by the watchdog.
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
#include "cli/attendant_linux.h"
#include "cli/builtin.h"
#include "cli/explain.h"
#include "cli/findings.h"
#include "cli/layers.h"
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
	struct hk_attendant attendant;
	bool has_left_layers; /* to the attendant, or to be kept: see leave_layers() */
	struct hk_findings findings;
	struct hk_event violation; /* with --strict */
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
	/* So short a time is for leaving: nobody in the box waits for answers any more. */
	if (ns <= HK_BOX_LEAVE_NS) {
		hk_attendant_stop(&run->attendant);
	}
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

static int find_layer(struct hk_box_owner *owner, const struct hk_share *share,
	const char **ret_path, struct hk_err *err)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	return hk_run_layers_add(&run->options.layers, share, ret_path, err);
}

/* In a thread of the file server; so is violated(). */
static bool ask(struct hk_box_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	return hk_attendant_ask(&run->attendant, path, class_name, pid);
}

static void violated(struct hk_box_owner *owner)
{
	struct run *run = hk_container_of(owner, struct run, owner);

	hk_event_signal(&run->violation);
}

static void violation_seen(struct hk_event *event)
{
	struct run *run = hk_container_of(event, struct run, violation);

	hk_box_give_up(run->box);
}

/* The box's monitor opens nothing any more once it runs. */
static int open_outputs(struct run *run, struct hk_err *err)
{
	const struct hk_run_options *options = &run->options;
	struct hk_box_config *config = &run->options.config;
	struct hk_findings *findings = &run->findings;
	struct hk_err ignored = HK_ERR_INIT;
	int r;

	findings->verb = "run";
	findings->argv = config->argv;
	findings->options = &options->watch;
	findings->summary = config->verbose ? HK_SUMMARY_ALWAYS : HK_SUMMARY_IF_DENIED;
	r = hk_findings_open(findings, config->policy, err);
	config->log_fd = findings->log_fd;
	hk_findings_hide(findings, config->hidden, &config->hidden_count);
	/* No place for layers is an error only for who needs one. */
	if (config->policy != NULL && options->layers.dir == NULL) {
		(void)hk_layers_dir(&run->options.layers.dir, &ignored);
	}
	if (options->layers.dir != NULL) {
		config->hidden[config->hidden_count++] = options->layers.dir;
	}
	return r;
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
	r = open_outputs(run, err);
	if (r < 0) {
		return r;
	}
	run->owner = (struct hk_box_owner){.started = started,
		.ended = ended,
		.limit = limit,
		.layer = find_layer,
		.ask = ask};
	if (run->options.watch.strict) {
		run->owner.violated = violated;
		run->violation.raised = violation_seen;
		r = hk_event_add(run->loop, &run->violation, err);
		if (r < 0) {
			return r;
		}
	}
	if (config->verbose) {
		run->owner.progress = progress;
		run->owner.console = console;
	}
	config->loop = run->loop;
	config->owner = &run->owner;
	return 0;
}

/* The terminal cannot answer while the box reads what is typed there. */
static int check_ask(const struct run *run, struct hk_err *err)
{
	const struct hk_run_options *options = &run->options;

	if (!hk_box_asks(run->box) || options->watch.ask != NULL ||
		!(options->config.tty || isatty(STDIN_FILENO))) {
		return 0;
	}
	hk_fail_msg(err, EINVAL, "--policy %s: it asks, and the terminal is the box's",
		options->config.policy);
	hk_err_hint(err,
		"name a program that answers, with --ask, or give the box other input: "
		"-i </dev/null");
	return -EINVAL;
}

/*
 * What the box's monitor cannot do any more once it is confined: ask, and remove layers. Up to here
 * they are ours to remove, in finish(); from here on temporary ones are the attendant's, which does
 * it when we are gone, and one with a name stays.
 */
static int leave_layers(struct run *run, struct hk_err *err)
{
	const struct hk_run_layers *layers = &run->options.layers;
	unsigned to_remove = layers->keep == NULL ? layers->count : 0;
	int r = check_ask(run, err);

	if (r == 0 && layers->keep != NULL && layers->count == 0) {
		hk_fail_msg(err, EINVAL, "--keep %s: the policy keeps nothing apart", layers->keep);
		hk_err_hint(err, "leave it out, or give the policy rules of 'cow'");
		return -EINVAL;
	}
	if (r == 0 && (hk_box_asks(run->box) || to_remove > 0)) {
		r = hk_attendant_start(&run->attendant, run->options.watch.ask,
			(const char *const *)layers->paths, to_remove, err);
	}
	run->has_left_layers = r == 0;
	return r;
}

static int run_box(struct run *run, struct hk_err *err)
{
	int r = prepare(run, err);

	if (r == 0) {
		r = hk_box_create(&run->options.config, &run->box, err);
	}
	if (r == 0) {
		r = catch_signals(run, err);
	}
	if (r == 0) {
		r = hk_box_build(run->box, err);
	}
	if (r == 0) {
		r = hk_findings_begin(&run->findings, err);
	}
	if (r == 0) {
		r = leave_layers(run, err);
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

/*
 * What the audit says of the run. @status: of the box, which a failure or a violation comes before
 */
static int conclude(struct run *run, int status)
{
	struct hk_audit *audit = hk_box_audit(run->box);
	struct hk_err err = HK_ERR_INIT;
	bool good = true;

	if (audit == NULL) {
		return status;
	}
	if (hk_audit_finish(audit, &err) < 0) {
		hk_report_err("run", &err, 0);
		good = false;
	}
	good &= hk_findings_tell(&run->findings, audit);
	if (!good) {
		return HK_STATUS_FAILURE;
	}
	if (hk_box_result(run->box)->end == HK_BOX_TIMED_OUT) {
		return status;
	}
	if (run->options.watch.strict && hk_audit_violations(audit) > 0) {
		hk_report("run", "the policy denied something: ended, as --strict says");
		return HK_STATUS_VIOLATION;
	}
	return status;
}

static void finish(struct run *run)
{
	if (run->box != NULL) {
		limit(&run->owner, HK_BOX_LEAVE_NS);
	}
	hk_box_destroy(run->box);
	hk_watchdog_finish(&run->watchdog);
	if (!run->has_left_layers) {
		hk_run_layers_undo(&run->options.layers);
	}
	hk_attendant_finish(&run->attendant);
	hk_event_remove(&run->violation);
	for (size_t i = 0; i < HK_ARRAY_SIZE(signals); i++) {
		hk_signal_remove(&run->signals[i]);
	}
	hk_loop_destroy(run->loop);
	hk_findings_finish(&run->findings);
	hk_hints_finish(&run->hints);
	hk_run_options_finish(&run->options);
}

int hk_cmd_run(char **argv)
{
	struct run run = {
		.attendant = {.fd = -1},
		.findings = HK_FINDINGS_INIT,
	};
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
		status = r < 0
			? hk_report_err("run", &err, HK_STATUS_FAILURE)
			: conclude(&run, hk_explain(run.box, &run.options.config, &run.hints));
	}
	finish(&run);
	return status;
}
