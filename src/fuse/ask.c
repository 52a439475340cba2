/* SPDX-License-Identifier: ISC */
/*
 * Questions: a rule says `ask`, so the owner has somebody asked, a person mostly.
 *
 * Theory: one question at a time, for there is one person. The same question is asked once: answers
 * are kept, by class and path, for as long as the server lives. The lock is not held while the
 * person thinks: who has a question of his own waits for his turn, and all else goes on. Each of
 * them holds a thread of the transport, which looks at hk_fuse_server_waiting() and has more of
 * them.
 *
 * Limits: HK_FUSE_WAITING_MAX wait; further ones are refused, which is said in the log. What is
 * said is true of a path: a file that is renamed is asked about anew, and what comes to be at the
 * path is not.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "fuse/server_impl.h"

HK_LOG_CHANNEL("fuse");

enum { BUCKETS = 256 };

/** struct hk_answer - what was said */
struct hk_answer {
	struct hk_answer *next;
	enum hk_class class;
	bool allowed;
	char path[];
};

/**
 * struct hk_answers - answers so far, and who waits for one
 * @turn: the person was asked, and may be asked the next question
 * @is_asking: somebody is at it
 * @waiting: requests that wait, with the one whose question it is; written under the lock
 */
struct hk_answers {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool is_asking;
	atomic_uint waiting;
	struct hk_answer *buckets[BUCKETS];
};

struct hk_answers *hk_answers_new(void)
{
	struct hk_answers *answers;

	if (hk_new(answers) != NULL) {
		pthread_mutex_init(&answers->lock, NULL);
		pthread_cond_init(&answers->turn, NULL);
	}
	return answers;
}

void hk_answers_free(struct hk_answers *answers)
{
	if (answers == NULL) {
		return;
	}
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (answers->buckets[i] != NULL) {
			struct hk_answer *answer = answers->buckets[i];

			answers->buckets[i] = answer->next;
			free(answer);
		}
	}
	pthread_cond_destroy(&answers->turn);
	pthread_mutex_destroy(&answers->lock);
	free(answers);
}

unsigned hk_fuse_server_waiting(const struct hk_fuse_server *server)
{
	return atomic_load_explicit(&server->answers->waiting, memory_order_relaxed);
}

bool hk_fuse_server_asks(const struct hk_fuse_server *server)
{
	for (unsigned i = 0; i < server->export_count; i++) {
		const struct hk_rules *rules = server->exports[i].rules;

		if (rules != NULL && hk_rules_any(rules, HK_VERDICT_ASK)) {
			return true;
		}
	}
	return false;
}

static struct hk_answer **bucket_of(
	struct hk_answers *answers, const char *path, enum hk_class class)
{
	uint64_t hash = hk_hash_bytes(HK_HASH_START ^ class, path, strlen(path));

	return &answers->buckets[hash % BUCKETS];
}

static const struct hk_answer *find_locked(
	const struct hk_answer *answer, const char *path, enum hk_class class)
{
	while (answer != NULL && (answer->class != class || strcmp(answer->path, path) != 0)) {
		answer = answer->next;
	}
	return answer;
}

/* Without memory for it, it is asked again. */
static void keep_locked(
	struct hk_answer **bucket, const char *path, enum hk_class class, bool allowed)
{
	size_t size = strlen(path) + 1;
	struct hk_answer *answer = hk_malloc(sizeof(*answer) + size);

	if (answer != NULL) {
		*answer = (struct hk_answer){.next = *bucket, .class = class, .allowed = allowed};
		memcpy(answer->path, path, size);
		*bucket = answer;
	}
}

static void tell_of_too_many(const char *path, enum hk_class class)
{
	char shown[256];

	hk_str_escape(shown, sizeof(shown), path, strlen(path));
	hk_log_warn("%s of '%s' is refused without a question: %u wait for an answer already",
		hk_class_name(class), shown, (unsigned)HK_FUSE_WAITING_MAX);
}

bool hk_ask_owner(struct hk_fuse_server *server, const char *path, enum hk_class class, pid_t pid)
{
	struct hk_answers *answers = server->answers;
	struct hk_answer **bucket = bucket_of(answers, path, class);
	const struct hk_answer *answer;
	bool allowed;

	if (server->owner == NULL || server->owner->ask == NULL || path[0] != '/') {
		return false; /* nobody can say yes to a path that is not whole */
	}
	pthread_mutex_lock(&answers->lock);
	answer = find_locked(*bucket, path, class);
	if (answer == NULL && atomic_load(&answers->waiting) == HK_FUSE_WAITING_MAX) {
		pthread_mutex_unlock(&answers->lock);
		tell_of_too_many(path, class);
		return false;
	}
	atomic_fetch_add(&answers->waiting, 1);
	while (answer == NULL && answers->is_asking) {
		pthread_cond_wait(&answers->turn, &answers->lock);
		answer = find_locked(*bucket, path, class);
	}
	if (answer != NULL) {
		allowed = answer->allowed;
	} else {
		answers->is_asking = true;
		pthread_mutex_unlock(&answers->lock);
		allowed = server->owner->ask(server->owner, path, hk_class_name(class), pid);
		pthread_mutex_lock(&answers->lock);
		answers->is_asking = false;
		keep_locked(bucket, path, class, allowed);
		pthread_cond_broadcast(&answers->turn);
	}
	atomic_fetch_sub(&answers->waiting, 1);
	pthread_mutex_unlock(&answers->lock);
	return allowed;
}
