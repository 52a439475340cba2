/* SPDX-License-Identifier: ISC */
/*
 * The vCPU threads: start, pause, end.
 *
 * Each thread loops between its vCPU and a look at what is asked for. Asking is: set the flag
 * under the lock, then kick every vCPU. A thread that sees `pause` parks until it is
 * taken back; one that sees `end` returns, and the last of them posts to the loop, where the
 * threads are joined and the owner is told.
 */
#include <assert.h>
#include <signal.h>

#include "base/str.h"
#include "base/util.h"
#include "machine/machine_impl.h"

static void kick_all(struct hk_machine *m)
{
	for (unsigned i = 0; i < m->config.vcpu_count; i++) {
		hk_vcpu_kick(hk_engine_vcpu(m->engine, i));
	}
}

static void end_with_error(struct hk_machine *m, enum hk_stop why, const struct hk_err *err)
{
	struct hk_run_control *run = &m->run;

	pthread_mutex_lock(&run->lock);

	bool first = !run->end;

	if (first) {
		run->end = true;
		run->why = why;
		if (err != NULL) {
			run->error = *err;
		}
		pthread_cond_broadcast(&run->changed);
	}
	pthread_mutex_unlock(&run->lock);
	if (first && m->engine != NULL) {
		kick_all(m);
	}
}

void hk_machine_end(struct hk_machine *m, enum hk_stop why)
{
	end_with_error(m, why, NULL);
}

/* Waits while a pause is asked for. Return: false where the thread is to end. */
static bool may_run(struct hk_run_control *run)
{
	pthread_mutex_lock(&run->lock);
	while (run->pause && !run->end) {
		run->parked++;
		pthread_cond_broadcast(&run->changed);
		pthread_cond_wait(&run->changed, &run->lock);
		run->parked--;
	}

	bool go = !run->end;

	pthread_mutex_unlock(&run->lock);
	return go;
}

static void note_crash(struct hk_machine *m, struct hk_vcpu *vcpu)
{
	struct hk_run_control *run = &m->run;
	struct hk_crash crash;

	hk_crash_note(&crash, vcpu, &m->mem);
	pthread_mutex_lock(&run->lock);
	if (!run->end) {
		run->crash = crash;
	}
	pthread_mutex_unlock(&run->lock);
}

static void run_vcpu(struct hk_machine *m, struct hk_vcpu *vcpu)
{
	struct hk_err err = HK_ERR_INIT;

	while (may_run(&m->run)) {
		switch (hk_vcpu_run(vcpu, &err)) {
		case HK_RUN_SHUTDOWN:
			note_crash(m, vcpu);
			hk_machine_end(m, HK_STOP_CRASH);
			break;
		case HK_RUN_FAILED:
			end_with_error(m, HK_STOP_ENGINE, &err);
			break;
		default:
			break;
		}
	}
}

/* On the loop's thread, after the last vCPU thread has said that it ends. */
static void on_ended(struct hk_post *post)
{
	struct hk_run_control *run = hk_container_of(post, struct hk_run_control, ended);
	struct hk_machine_owner *owner = run->machine->config.owner;
	enum hk_stop why = run->why;

	hk_run_finish(run);
	if (owner != NULL && owner->stopped != NULL) {
		owner->stopped(owner, why);
	}
}

static void *vcpu_thread(void *arg)
{
	struct hk_machine *m = arg;
	struct hk_run_control *run = &m->run;
	char name[16];

	pthread_mutex_lock(&run->lock);

	unsigned index = run->next_index++;

	pthread_mutex_unlock(&run->lock);
	hk_fmt(name, sizeof(name), "vcpu%u", index);
	/* seccomp: prctl:PR_SET_NAME */
	pthread_setname_np(pthread_self(), name);

	run_vcpu(m, hk_engine_vcpu(m->engine, index));

	pthread_mutex_lock(&run->lock);

	bool last = --run->live == 0;

	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
	if (last) {
		hk_loop_post(m->config.loop, &run->ended);
	}
	return NULL;
}

void hk_run_init(struct hk_run_control *run, struct hk_machine *machine)
{
	run->machine = machine;
	run->ended.run = on_ended;
	run->error = HK_ERR_INIT;
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->changed, NULL);
}

void hk_run_finish(struct hk_run_control *run)
{
	for (unsigned i = 0; i < run->thread_count; i++) {
		pthread_join(run->threads[i], NULL);
	}
	run->thread_count = 0;
	hk_loop_cancel_post(run->machine->config.loop, &run->ended);
}

/* vCPU threads take no signal but the engine's kick: signals are the loop's. */
static void block_signals(sigset_t *ret_old)
{
	sigset_t set;

	sigfillset(&set);
	for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++) {
		sigdelset(&set, signo);
	}
	sigdelset(&set, SIGSYS); /* how a refused system call is reported; blocked, it kills */
	sigdelset(&set, SIGBUS); /* so do these; see engine/window_linux.c */
	sigdelset(&set, SIGSEGV);
	pthread_sigmask(SIG_BLOCK, &set, ret_old);
}

int hk_machine_start(struct hk_machine *m, struct hk_err *err)
{
	struct hk_run_control *run = &m->run;
	sigset_t old;
	int r = 0;

	assert(m->engine != NULL && run->thread_count == 0);
	block_signals(&old);
	pthread_mutex_lock(&run->lock);
	while (r == 0 && run->thread_count < m->config.vcpu_count) {
		r = pthread_create(&run->threads[run->thread_count], NULL, vcpu_thread, m);
		if (r == 0) {
			run->thread_count++;
			run->live++;
		}
	}
	/* Threads wait at the lock until here, so that none can be the last before all are there.
	 */
	run->end |= r != 0;
	pthread_mutex_unlock(&run->lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		kick_all(m);
		hk_run_finish(run);
		return hk_fail(err, r, "start vCPU thread");
	}
	return 0;
}

void hk_machine_stop(struct hk_machine *m)
{
	hk_machine_end(m, HK_STOP_ASKED);
}

const char *hk_machine_stop_error(const struct hk_machine *m)
{
	return hk_err_text(&m->run.error);
}

const struct hk_crash *hk_machine_crash(const struct hk_machine *m)
{
	return &m->run.crash;
}

int hk_machine_pause(struct hk_machine *m, struct hk_err *err)
{
	struct hk_run_control *run = &m->run;

	pthread_mutex_lock(&run->lock);
	assert(!run->pause);
	run->pause = true;
	pthread_mutex_unlock(&run->lock);
	kick_all(m);

	pthread_mutex_lock(&run->lock);
	while (run->parked < run->live && !run->end) {
		pthread_cond_wait(&run->changed, &run->lock);
	}

	bool ended = run->end;

	run->pause &= !ended;
	pthread_mutex_unlock(&run->lock);
	return ended ? hk_fail_msg(err, ESRCH, "the guest has ended") : 0;
}

int hk_machine_resume(struct hk_machine *m, struct hk_err *err)
{
	struct hk_run_control *run = &m->run;

	pthread_mutex_lock(&run->lock);
	run->pause = false;
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
	return 0;
}
