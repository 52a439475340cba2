/* SPDX-License-Identifier: ISC */
/* Errands that come back, those that do not, and too many of them. */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/util.h"
#include "trace/errand.h"

static sem_t go_on;
static sem_t freed;

struct errand {
	struct hk_errand base;
	bool waits;
	int result;
};

static void work(struct hk_errand *base)
{
	struct errand *errand = hk_container_of(base, struct errand, base);

	if (errand->waits) {
		sem_wait(&go_on);
	}
	errand->result = 42;
}

static void release(struct hk_errand *base)
{
	free(hk_container_of(base, struct errand, base));
	sem_post(&freed);
}

static struct errand *new_errand(bool waits)
{
	struct errand *errand = calloc(1, sizeof(*errand));

	assert_non_null(errand);
	*errand = (struct errand){.base = {.work = work, .free = release}, .waits = waits};
	return errand;
}

static void comes_back(void **state)
{
	struct errand *errand = new_errand(false);

	(void)state;
	assert_true(hk_errand_run(&errand->base, 600000));
	assert_int_equal(errand->result, 42);
	release(&errand->base);
	sem_wait(&freed);
}

/* Nobody waits for those that do not; they free themselves, and no more than so many are begun. */
static void stays_away(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HK_ERRANDS_MAX; i++) {
		assert_false(hk_errand_run(&new_errand(true)->base, 1));
	}
	assert_int_not_equal(sem_trywait(&freed), 0);
	assert_false(hk_errand_run(&new_errand(false)->base, 600000));
	sem_wait(&freed);
	for (unsigned i = 0; i < HK_ERRANDS_MAX; i++) {
		sem_post(&go_on);
	}
	for (unsigned i = 0; i < HK_ERRANDS_MAX; i++) {
		sem_wait(&freed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_back),
		cmocka_unit_test(stays_away),
	};

	sem_init(&go_on, 0, 0);
	sem_init(&freed, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
