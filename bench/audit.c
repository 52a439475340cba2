/* SPDX-License-Identifier: ISC */
/*
 * What hk_audit_event() costs the thread that calls it.
 *
 *	ninja -C build src/fuse/audit_bench && build/src/fuse/audit_bench [EVENTS [THREADS]]
 *
 * Paths and operations as a build has them: 20 bytes to 90, six deep. Three ways:
 *
 *	paced	bursts of 100 events, as a server has them between requests: the queue is never full. The cost of a call
 *	flood	as fast as can be: what the audit's thread can take, as callers wait for it
 *	exec	each process runs a program: /proc is read twice for each
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "fuse/audit_impl.h"

enum { BURST = 100, MAX_THREADS = 16 };

struct worker {
	pthread_t thread;
	struct hk_audit *audit;
	unsigned number, events;
	bool paced, runs;
	uint64_t busy_ns; /* within hk_audit_event() */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * HK_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t time_of_day_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * HK_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static void *work(void *argument)
{
	struct worker *w = argument;
	char paths[BURST][128];
	unsigned done = 0;

	for (unsigned i = 0; i < BURST; i++) {
		hk_fmt(paths[i], sizeof(paths[i]),
			"/usr/include/x86_64-linux-gnu/part%u/directory%u/file%u.h", w->number,
			i % 10, i);
	}
	while (done < w->events) {
		uint64_t start = now_ns();
		uint64_t time_ns = time_of_day_ns();

		for (unsigned i = 0; i < BURST; i++, done++) {
			bool runs = w->runs && i % 2 == 0;

			hk_audit_event(w->audit,
				&(struct hk_audit_event){
					.op = runs           ? HK_EVENT_EXEC
						: i % 2 == 0 ? HK_EVENT_OPEN
							     : HK_EVENT_CLOSE,
					.time_ns = time_ns,
					.pid = getpid(),
					.path = paths[i],
					.exact = true,
				});
		}
		w->busy_ns += now_ns() - start;
		if (w->paced) {
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		}
	}
	return NULL;
}

static void measure(const char *name, unsigned events, unsigned threads, bool paced, bool runs)
{
	struct hk_audit_options options = {.log_fd = STDOUT_FILENO};
	struct worker workers[MAX_THREADS] = {0};
	const struct hk_audit_results *results;
	uint64_t start = now_ns(), busy_ns = 0, all_ns;
	struct hk_audit *audit;

	if (hk_audit_create(&options, &audit, NULL) < 0) {
		fprintf(stderr, "hk_audit_create failed\n");
		exit(1);
	}
	for (unsigned i = 0; i < threads; i++) {
		workers[i] = (struct worker){.audit = audit,
			.number = i,
			.events = events / threads,
			.paced = paced,
			.runs = runs};
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		busy_ns += workers[i].busy_ns;
	}
	if (hk_audit_finish(audit, NULL) < 0) {
		fprintf(stderr, "the log could not be written\n");
		exit(1);
	}
	all_ns = now_ns() - start;
	results = hk_audit_results(audit);
	fprintf(stderr,
		"%-6s %u threads  %7.0f ns a call  %7.0f ns an event in all  waited %.3f s\n", name,
		threads, (double)busy_ns / (double)results->tree->events,
		(double)all_ns / (double)results->tree->events, (double)results->blocked_ns / 1e9);
	hk_audit_free(audit);
}

int main(int argc, char **argv)
{
	uint64_t events = 1000000, threads = 2;

	if ((argc > 1 && hk_parse_uint(argv[1], 1000, UINT32_MAX, &events) < 0) ||
		(argc > 2 && hk_parse_uint(argv[2], 1, MAX_THREADS, &threads) < 0) ||
		isatty(STDOUT_FILENO)) {
		fprintf(stderr, "usage: audit_bench [EVENTS [THREADS]] >/dev/null\n");
		return 2;
	}
	measure("paced", (unsigned)events / 10, 1, true, false);
	measure("paced", (unsigned)events / 10, (unsigned)threads, true, false);
	measure("flood", (unsigned)events, 1, false, false);
	measure("flood", (unsigned)events, (unsigned)threads, false, false);
	measure("exec", (unsigned)events / 50, 1, true, true);
	return 0;
}
