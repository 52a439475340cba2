/* SPDX-License-Identifier: ISC */
/*
 * Work on a stack of a given size: as little as a server's thread has, or more than the tests' own.
 */
#ifndef HK_TESTS_STACK_H
#define HK_TESTS_STACK_H

#include <pthread.h>
#include <stddef.h>

/* Runs @go(@arg) to its end, on a stack of @bytes. */
static inline void run_on_stack(size_t bytes, void *(*go)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;

	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, bytes), 0);
	assert_int_equal(pthread_create(&thread, &attr, go, arg), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
}

#endif
