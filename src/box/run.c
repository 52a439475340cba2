/* SPDX-License-Identifier: ISC */
/*
 * A box while it runs: what comes from the agent, the machine, the user and the clock, and what is
 * done about it.
 *
 * Theory: the phase (box_impl.h) only ever grows. Whatever ends the command first writes the
 * result; what comes later leaves it as it is. From then on all roads lead through the machine's
 * stop: its devices are taken away, which closes the host ends of all streams, the pumps write what
 * they still have, and the owner is told.
 *
 * The timeout stands until the end, whatever the guest says and whoever does not read: it bounds
 * the run. What may hang on the loop's own thread (joins of threads that are in a system call) is
 * bounded by the owner: see hk_box_owner.limit.
 *
 * Limits: the guest has BOOT_NS to call, and is taken for dead if it leaves MAX_PULSES_MISSED
 * questions unanswered. A signal that wants out is obeyed the third time, whatever the guest does.
 */
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"
#include "base/timespec.h"
#include "base/util.h"
#include "box/box_impl.h"
#include "box/env.h"
#include "box/etc.h"

HK_LOG_CHANNEL("box");

#define BOOT_NS      (120 * HK_NS_PER_SEC)
#define DRAIN_NS     (2 * HK_NS_PER_SEC)
#define SHUTDOWN_NS  (10 * HK_NS_PER_SEC)
#define LAST_WORD_NS (3 * HK_NS_PER_SEC)
#define PULSE_NS     (30 * HK_NS_PER_SEC)

enum { MAX_PULSES_MISSED = 3 };

/* The end */

static bool has_run(const struct hk_box_result *result)
{
	return result->end == HK_BOX_EXITED || result->end == HK_BOX_SIGNALED;
}

/* Output that the user does not have: a status of 0 would be a lie. */
static void look_for_lost_output(struct hk_box *box)
{
	const char *name;
	int r = hk_stdio_error(box->stdio, &name);

	if (r < 0 && has_run(&box->result)) {
		box->result.end = HK_BOX_FAILED;
		hk_fail(&box->result.err, -r, "%s", name);
	}
}

static void limit(struct hk_box *box, uint64_t ns)
{
	struct hk_box_owner *owner = box->config.owner;

	if (owner != NULL && owner->limit != NULL) {
		owner->limit(owner, ns);
	}
}

/* The timeout holds: past it, and the time to leave, something hangs. */
static void limit_to_timeout(struct hk_box *box)
{
	uint64_t spent_ns = hk_now_ns() - box->start_ns;
	uint64_t timeout_ns = box->config.timeout_ns;

	if (timeout_ns == 0) {
		limit(box, UINT64_MAX);
	} else {
		limit(box,
			timeout_ns - HK_MIN(spent_ns, timeout_ns) + HK_BOX_GRACE_NS +
				HK_BOX_LEAVE_NS);
	}
}

static void end(struct hk_box *box)
{
	look_for_lost_output(box);
	box->phase = HK_PHASE_ENDED;
	hk_box_disarm(box);
	limit_to_timeout(box);
	if (box->config.owner != NULL && box->config.owner->ended != NULL) {
		box->config.owner->ended(box->config.owner);
	}
}

static void stop(struct hk_box *box)
{
	if (box->phase < HK_PHASE_STOPPING) {
		limit(box, box->leave_ns);
		box->phase = HK_PHASE_STOPPING;
		hk_timer_disarm(&box->phase_timer);
		hk_machine_stop(box->machine);
	}
}

static bool is_decided(const struct hk_box *box)
{
	return box->result.end != HK_BOX_RUNS_STILL;
}

/* box->result.err says what; unless something else has ended the command already. */
static void fail(struct hk_box *box, const struct hk_err *err, bool show_console)
{
	if (!is_decided(box)) {
		box->result.end = HK_BOX_FAILED;
		box->result.err = *err;
		box->result.show_console = show_console;
	}
	stop(box);
}

static void fail_msg(struct hk_box *box, const char *text, bool show_console)
{
	struct hk_err err = HK_ERR_INIT;

	hk_fail_msg(&err, EIO, "%s", text);
	fail(box, &err, show_console);
}

static void arm(struct hk_box *box, struct hk_timer *timer, uint64_t delay_ns)
{
	hk_timer_arm(box->config.loop, timer, hk_now_ns() + delay_ns);
}

void hk_box_disarm(struct hk_box *box)
{
	hk_timer_disarm(&box->phase_timer);
	hk_timer_disarm(&box->timeout_timer);
	hk_timer_disarm(&box->pulse_timer);
}

static void progress(struct hk_box *box, const char *what)
{
	struct hk_box_owner *owner = box->config.owner;

	hk_log_debug("%s", what);
	if (owner != NULL && owner->progress != NULL) {
		owner->progress(owner, what, hk_now_ns() - box->start_ns);
	}
}

/* The agent */

static void send_setup(struct hk_box *box)
{
	struct hk_msg_setup setup = {
		.hostname = hk_box_hostname(box->config.name),
		.steps = hk_control_built(&box->layout.steps),
	};
	struct hk_err err = HK_ERR_INIT;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	setup.wall_time_ns = (uint64_t)hk_timespec_ns(now);
	if (getrandom(setup.entropy, sizeof(setup.entropy), 0) != sizeof(setup.entropy)) {
		hk_fail(&err, EIO, "random numbers");
		fail(box, &err, false);
	} else if (hk_session_setup(&box->channel.session, &setup, &err) < 0) {
		fail(box, &err, false);
	}
}

static void send_exec(struct hk_box *box)
{
	const struct hk_box_user *user = &box->layout.user;
	const char *workdir = hk_layout_workdir(&box->layout);
	struct hk_control_builder argv = {0};
	struct hk_control_builder env = {0};
	struct hk_err err = HK_ERR_INIT;
	struct hk_msg_exec exec = {
		.flags = hk_stdio_exec_flags(box->stdio),
		.uid = user->uid,
		.gid = user->gid,
		.rows = box->rows,
		.cols = box->cols,
		.cwd = workdir,
	};
	int r;

	for (char *const *arg = box->config.argv; *arg != NULL; arg++) {
		hk_control_add_string(&argv, *arg); /* errors stick to the builder */
	}
	hk_env_make(&env, &box->config, user, workdir);
	r = argv.error < 0 ? argv.error : env.error;
	exec.argv = hk_control_built(&argv);
	exec.env = hk_control_built(&env);
	if (r < 0) {
		hk_fail(&err, -r, "the command and its environment");
		fail(box, &err, false);
	} else if (hk_session_exec(&box->channel.session, &exec, &err) < 0) {
		fail(box, &err, false);
	}
	hk_control_builder_finish(&argv);
	hk_control_builder_finish(&env);
}

static void hello(struct hk_box *box)
{
	char text[256];

	hk_fmt(text, sizeof(text), "agent ready on Linux %s (guest's clock: %u ms)",
		box->channel.session.kernel_release,
		(unsigned)HK_MIN(box->channel.session.hello_ns / HK_NS_PER_MS, 999999));
	progress(box, text);
	send_setup(box);
}

static void started(struct hk_box *box)
{
	struct hk_box_owner *owner = box->config.owner;

	progress(box, "command started");
	box->phase = HK_PHASE_RUNNING;
	hk_timer_disarm(&box->phase_timer);
	arm(box, &box->pulse_timer, PULSE_NS);
	if (owner != NULL && owner->started != NULL) {
		owner->started(owner);
	}
}

/* All output has reached the user, or will not. */
static void shut_down(struct hk_box *box)
{
	progress(box, "output complete");
	box->phase = HK_PHASE_SHUTTING_DOWN;
	arm(box, &box->phase_timer, SHUTDOWN_NS);
	hk_session_shutdown(&box->channel.session); /* if it fails, the timer ends the box */
	hk_channel_flush(&box->channel);
}

static void drain(struct hk_box *box)
{
	progress(box, "command ended");
	box->phase = HK_PHASE_DRAINING;
	if (hk_stdio_drained(box->stdio)) {
		shut_down(box);
	} else {
		arm(box, &box->phase_timer, DRAIN_NS);
	}
}

static void exited(struct hk_box *box)
{
	const struct hk_msg_exited *exited = &box->channel.session.exited;

	box->result.oom_kills = exited->oom_kills;
	if (!is_decided(box)) {
		box->result.end = exited->signaled ? HK_BOX_SIGNALED : HK_BOX_EXITED;
		box->result.code = (int)exited->code;
	}
	hk_stdio_expect(box->stdio, exited->stdout_bytes, exited->stderr_bytes);
	drain(box);
}

static void not_started(struct hk_box *box)
{
	if (!is_decided(box)) {
		box->result.end = HK_BOX_NOT_STARTED;
		box->result.code = (int)HK_MIN(box->channel.session.exec_failed.error, 4095);
		box->result.stage = box->channel.session.exec_failed.stage;
	}
	hk_stdio_expect(box->stdio, 0, 0);
	shut_down(box);
}

static void channel_event(struct hk_channel_owner *owner, enum hk_session_event event)
{
	struct hk_box *box = hk_container_of(owner, struct hk_box, channel_owner);

	if (box->phase >= HK_PHASE_STOPPING) {
		return;
	}
	switch (event) {
	case HK_SESSION_HELLO:
		hello(box);
		break;
	case HK_SESSION_DONE:
		progress(box, "file tree set up");
		send_exec(box);
		break;
	case HK_SESSION_STARTED:
		started(box);
		break;
	case HK_SESSION_NOT_STARTED:
		not_started(box);
		break;
	case HK_SESSION_EXITED:
		exited(box);
		break;
	case HK_SESSION_PONG:
		box->pulses_missed = 0;
		break;
	case HK_SESSION_NOTHING:
		break;
	}
}

/* If the agent has died, the kernel will say so before long. */
static void channel_closed(struct hk_channel_owner *owner, int error, const struct hk_err *err)
{
	struct hk_box *box = hk_container_of(owner, struct hk_box, channel_owner);

	if (error < 0) {
		/* A refusal explains itself; a broken protocol may be a broken guest. */
		fail(box, err, error != -ECANCELED && error != -ENOTSUP);
	} else if (box->phase < HK_PHASE_SHUTTING_DOWN) {
		box->phase = HK_PHASE_SHUTTING_DOWN;
		arm(box, &box->phase_timer, LAST_WORD_NS);
	}
}

static int accept_control(struct hk_vsock_listener *listener, uint32_t guest_port)
{
	struct hk_box *box = hk_container_of(listener, struct hk_box, control_listener);

	return hk_channel_accept(&box->channel);
}

static int accept_stream(struct hk_vsock_listener *listener, uint32_t guest_port)
{
	struct hk_box *box = hk_container_of(listener, struct hk_box, stream_listener);

	return hk_stdio_accept(box->stdio);
}

static void stdio_progressed(struct hk_stdio_owner *owner)
{
	struct hk_box *box = hk_container_of(owner, struct hk_box, stdio_owner);

	if (!hk_stdio_drained(box->stdio)) {
		return;
	}
	if (box->phase == HK_PHASE_DRAINING) {
		shut_down(box);
	} else if (box->phase == HK_PHASE_STOPPED) {
		end(box);
	}
}

/* The machine */

/* For --verbose: the registers, as if the guest had said them. */
static void dump_crash(struct hk_box *box)
{
	struct hk_box_owner *owner = box->config.owner;
	char line[HK_CRASH_LINE];

	if (!box->config.verbose || owner == NULL || owner->console == NULL) {
		return;
	}
	for (unsigned i = 0; hk_crash_dump(hk_machine_crash(box->machine), i, line); i++) {
		owner->console(owner, line);
	}
}

static void machine_failed(struct hk_box *box, enum hk_stop why)
{
	char panic[256];
	char where[HK_CRASH_LINE];
	const char *more = NULL; /* what --verbose adds */
	struct hk_err err = HK_ERR_INIT;

	switch (why) {
	case HK_STOP_ENGINE:
		hk_fail_msg(&err, EIO, "%s", hk_machine_stop_error(box->machine));
		break;
	case HK_STOP_POWER_OFF:
		hk_fail_msg(&err, EIO, "the box switched itself off before the command ended");
		break;
	case HK_STOP_CRASH:
		hk_crash_line(hk_machine_crash(box->machine), where);
		hk_fail_msg(&err, EIO, "the box crashed: its CPU gave up (triple fault) %s", where);
		more = "--verbose shows its registers";
		dump_crash(box);
		break;
	default:
		more = "--verbose shows all that its kernel says";
		if (hk_tail_find(&box->tail, "Kernel panic", panic, sizeof(panic))) {
			hk_fail_msg(&err, EIO, "the box crashed: %s", panic);
		} else {
			hk_fail_msg(&err, EIO, "the box restarted itself before the command ended");
		}
		break;
	}
	if (box->phase == HK_PHASE_BOOTING && box->config.memory_bytes < 256 * HK_MIB) {
		hk_err_hint(&err, "it may need more memory: --memory 256M");
	}
	if (more != NULL && !box->config.verbose) {
		hk_err_hint(&err, "%s", more);
	}
	fail(box, &err, why != HK_STOP_POWER_OFF);
}

static void machine_stopped(struct hk_machine_owner *owner, enum hk_stop why)
{
	struct hk_box *box = hk_container_of(owner, struct hk_box, machine_owner);

	progress(box, "machine stopped");
	if (!is_decided(box)) {
		machine_failed(box, why);
	}
	hk_timer_disarm(&box->phase_timer);
	hk_timer_disarm(&box->pulse_timer);
	box->phase = HK_PHASE_STOPPED;
	limit(box, box->leave_ns);
	hk_devices_destroy(&box->devices); /* ends all streams */
	if (box->hurry || hk_stdio_missing(box->stdio) || hk_stdio_drained(box->stdio)) {
		end(box);
	} else {
		limit_to_timeout(box);
	}
}

static void machine_serial(struct hk_machine_owner *owner, const uint8_t *bytes, unsigned len)
{
	struct hk_box *box = hk_container_of(owner, struct hk_box, machine_owner);

	if (hk_tail_write(&box->tail, bytes, len) && box->config.verbose) {
		hk_event_signal(&box->console_event);
	}
}

static void console_raised(struct hk_event *event)
{
	struct hk_box *box = hk_container_of(event, struct hk_box, console_event);
	struct hk_box_owner *owner = box->config.owner;
	char line[1024];

	while (hk_tail_take_line(&box->tail, line, sizeof(line))) {
		if (owner != NULL && owner->console != NULL) {
			owner->console(owner, line);
		}
	}
}

/* Now, and whoever reads the output may never go on. */
static void leave(struct hk_box *box)
{
	box->hurry = true;
	if (box->phase == HK_PHASE_STOPPED) {
		end(box);
	} else if (box->phase == HK_PHASE_STOPPING) {
		limit(box, box->leave_ns);
	} else {
		stop(box);
	}
}

/* The clock */

static void phase_fired(struct hk_timer *timer)
{
	struct hk_box *box = hk_container_of(timer, struct hk_box, phase_timer);

	switch (box->phase) {
	case HK_PHASE_BOOTING:
		fail_msg(box, "the guest did not come up in time", true);
		break;
	case HK_PHASE_DRAINING:
		/* A reader that takes its time is the user's business; a stream that never came is
		 * not. */
		if (hk_stdio_missing(box->stdio)) {
			shut_down(box);
		} else {
			arm(box, &box->phase_timer, DRAIN_NS);
		}
		break;
	case HK_PHASE_SHUTTING_DOWN:
		if (!is_decided(box)) {
			fail_msg(box, "the agent in the box is gone", true);
		}
		stop(box);
		break;
	default:
		break;
	}
}

/* The timer comes again when the command has had its time to end. */
static void end_command(struct hk_box *box, enum hk_box_end end)
{
	box->result.end = end;
	hk_session_signal(&box->channel.session, SIGTERM);
	hk_session_signal(&box->channel.session, SIGCONT);
	hk_channel_flush(&box->channel);
	arm(box, &box->timeout_timer, HK_BOX_GRACE_NS);
}

static void timeout_fired(struct hk_timer *timer)
{
	struct hk_box *box = hk_container_of(timer, struct hk_box, timeout_timer);

	if (!is_decided(box) && box->phase == HK_PHASE_RUNNING) {
		end_command(box, HK_BOX_TIMED_OUT);
		return;
	}
	/* Also output that nobody has read in time is too late. */
	if (!is_decided(box) || (has_run(&box->result) && !hk_stdio_drained(box->stdio))) {
		box->result.end = HK_BOX_TIMED_OUT;
	}
	leave(box);
}

static void pulse_fired(struct hk_timer *timer)
{
	struct hk_box *box = hk_container_of(timer, struct hk_box, pulse_timer);
	struct hk_session *session = &box->channel.session;

	if (session->pongs < session->pings && ++box->pulses_missed >= MAX_PULSES_MISSED) {
		fail_msg(box, "the box hangs: its agent does not answer any more", true);
		return;
	}
	if (session->pongs == session->pings) {
		hk_session_ping(session);
		hk_channel_flush(&box->channel);
	}
	arm(box, timer, PULSE_NS);
}

/* The user */

static bool wants_out(int signo)
{
	return signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGQUIT;
}

/* Is this the third one in a row? */
static bool is_urgent(struct hk_box *box)
{
	uint64_t now_ns = hk_now_ns();
	uint64_t oldest_ns = box->signals_ns[HK_BOX_SIGNALS_TO_STOP - 2];

	memmove(box->signals_ns + 1, box->signals_ns,
		sizeof(box->signals_ns) - sizeof(box->signals_ns[0]));
	box->signals_ns[0] = now_ns;
	return oldest_ns != 0 && now_ns - oldest_ns < HK_BOX_GRACE_NS;
}

void hk_box_signal(struct hk_box *box, int signo)
{
	bool at_once = box->phase <= HK_PHASE_BOOTING;

	if (wants_out(signo) && (is_urgent(box) || at_once)) {
		if (!is_decided(box)) {
			box->result.end = HK_BOX_STOPPED;
			box->result.code = signo;
		}
		box->leave_ns = HK_BOX_HURRY_NS;
		leave(box);
		return;
	}
	hk_session_signal(&box->channel.session, signo);
	hk_channel_flush(&box->channel);
}

void hk_box_give_up(struct hk_box *box)
{
	if (is_decided(box)) {
		return;
	}
	box->result.code = SIGTERM;
	if (box->phase > HK_PHASE_BOOTING) {
		end_command(box, HK_BOX_STOPPED);
		return;
	}
	box->result.end = HK_BOX_STOPPED;
	leave(box);
}

void hk_box_resize(struct hk_box *box, uint16_t rows, uint16_t cols)
{
	box->rows = rows;
	box->cols = cols;
	hk_session_winsize(&box->channel.session, rows, cols);
	hk_channel_flush(&box->channel);
}

/* Life */

void hk_box_init_handlers(struct hk_box *box)
{
	static const struct hk_vsock_listener_ops control_ops = {"control", accept_control};
	static const struct hk_vsock_listener_ops stream_ops = {"stream", accept_stream};

	box->machine_owner = (struct hk_machine_owner){machine_stopped, machine_serial};
	box->channel_owner = (struct hk_channel_owner){channel_event, channel_closed};
	box->stdio_owner = (struct hk_stdio_owner){stdio_progressed};
	box->control_listener = (struct hk_vsock_listener){&control_ops, HK_CONTROL_PORT};
	box->stream_listener = (struct hk_vsock_listener){&stream_ops, HK_STREAM_PORT};
	box->console_event.raised = console_raised;
	box->phase_timer.fire = phase_fired;
	box->timeout_timer.fire = timeout_fired;
	box->pulse_timer.fire = pulse_fired;
}

void hk_box_run_started(struct hk_box *box)
{
	char text[HK_CONFINE_TEXT_SIZE + 16];

	box->start_ns = hk_now_ns();
	box->phase = HK_PHASE_BOOTING;
	box->leave_ns = HK_BOX_LEAVE_NS;
	hk_fmt(text, sizeof(text), "confined: %s", box->confinement);
	progress(box, text);
	arm(box, &box->phase_timer, BOOT_NS);
	if (box->config.timeout_ns != 0) {
		arm(box, &box->timeout_timer, box->config.timeout_ns);
	}
	limit_to_timeout(box);
}
