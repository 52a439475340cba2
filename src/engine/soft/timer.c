/* SPDX-License-Identifier: ISC */
/*
 * The APICs' timers. A halted CPU waits until its own timer is due; for those that run guest code
 * one thread sleeps until the earliest is, and sets HK_ATT_IRQ.
 *
 * The thread is told only of deadlines before the one it sleeps for; it finds out by itself that
 * one was moved on or taken back. With nothing to wait for it sleeps until it is told.
 */
#include <signal.h>
#include <time.h>

#include "base/timespec.h"
#include "base/util.h"
#include "engine/soft/soft.h"

/* @deadline_ns is of CLOCK_MONOTONIC, as is the condition's clock. */
static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline_ns)
{
	struct timespec at = hk_timespec_of(deadline_ns);

	if (deadline_ns == UINT64_MAX) {
		pthread_cond_wait(cond, lock);
	} else {
		pthread_cond_timedwait(cond, lock, &at);
	}
}

/* Lets the timer fire if it is due. */
static void tick_locked(struct hk_soft_vcpu *vcpu)
{
	struct hk_lapic_time now = hk_soft_now(vcpu);

	if (vcpu->attached && (hk_lapic_tick(&vcpu->lapic, &now) & HK_LAPIC_WANT_IRQ) != 0) {
		hk_soft_irq_check_locked(vcpu);
	}
	vcpu->timer_ns = hk_lapic_deadline_ns(&vcpu->lapic, &now);
}

/* Sees to it that the thread wakes up in time. */
static void cover_locked(struct hk_soft_vcpu *vcpu)
{
	struct hk_soft *soft = vcpu->soft;

	if (vcpu->attached && !vcpu->idle && vcpu->timer_ns < soft->timer_until) {
		soft->timer_until = vcpu->timer_ns;
		pthread_cond_signal(&soft->timer_changed);
	}
}

void hk_soft_timer_update_locked(struct hk_soft_vcpu *vcpu)
{
	tick_locked(vcpu);
	cover_locked(vcpu);
}

void hk_soft_timer_attach(struct hk_soft_vcpu *vcpu, bool attached)
{
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	vcpu->attached = attached;
	hk_soft_timer_update_locked(vcpu);
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
}

static void *timer_thread(void *arg)
{
	struct hk_soft *soft = arg;

	/* seccomp: prctl:PR_SET_NAME */
	pthread_setname_np(pthread_self(), "timer");
	pthread_mutex_lock(&soft->chip_lock);
	while (!soft->timer_ends) {
		uint64_t now_ns = hk_soft_host_ns();

		soft->timer_until = UINT64_MAX;
		for (unsigned i = 0; i < soft->vcpu_count; i++) {
			struct hk_soft_vcpu *vcpu = soft->vcpus[i];

			if (vcpu->idle || !vcpu->attached) {
				continue;
			}
			if (vcpu->timer_ns <= now_ns) {
				tick_locked(vcpu);
			}
			soft->timer_until = HK_MIN(soft->timer_until, vcpu->timer_ns);
		}
		wait_until(&soft->timer_changed, &soft->chip_lock, soft->timer_until);
	}
	pthread_mutex_unlock(&soft->chip_lock);
	return NULL;
}

int hk_soft_timer_start(struct hk_soft *soft, struct hk_err *err)
{
	sigset_t all, old;
	int r = 0;

	pthread_mutex_lock(&soft->chip_lock);
	if (!soft->timer_started) {
		/* Signals are for others, but for the one that reports a refused system call. */
		sigfillset(&all);
		sigdelset(&all, SIGSYS);
		pthread_sigmask(SIG_BLOCK, &all, &old);
		r = pthread_create(&soft->timer_thread, NULL, timer_thread, soft);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		soft->timer_started = r == 0;
	}
	pthread_mutex_unlock(&soft->chip_lock);
	return r == 0 ? 0 : hk_fail(err, r, "start timer thread");
}

void hk_soft_timer_stop(struct hk_soft *soft)
{
	if (!soft->timer_started) {
		return;
	}
	pthread_mutex_lock(&soft->chip_lock);
	soft->timer_ends = true;
	pthread_cond_signal(&soft->timer_changed);
	pthread_mutex_unlock(&soft->chip_lock);
	pthread_join(soft->timer_thread, NULL);
	soft->timer_started = false;
}

void hk_soft_idle(struct hk_soft_vcpu *vcpu)
{
	enum { WAKING = HK_ATT_IRQ | HK_ATT_NMI | HK_ATT_KICK };
	struct hk_soft *soft = vcpu->soft;

	pthread_mutex_lock(&soft->chip_lock);
	vcpu->idle = true;
	if (vcpu->cpu.activity == HK_CPU_HALTED && vcpu->unhalted) {
		vcpu->unhalted = false;
		vcpu->cpu.activity = HK_CPU_RUNNING;
	} else {
		while ((atomic_load(&vcpu->cpu.attention) & WAKING) == 0) {
			wait_until(&vcpu->wake, &soft->chip_lock, vcpu->timer_ns);
			if (vcpu->timer_ns <= hk_soft_host_ns()) {
				tick_locked(vcpu);
			}
		}
	}
	vcpu->idle = false;
	cover_locked(vcpu);
	pthread_mutex_unlock(&soft->chip_lock);
}
