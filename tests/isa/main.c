/* SPDX-License-Identifier: ISC */
/*
 * test_isa: our CPU against the real one.
 *
 *	test_isa [--seed N] [--first N] [--count N] [--seconds S] [--only MNEMONIC] [--coverage]
 *		[--record FILE] [--keep-going] [--no-32]
 *
 * Case K of seed N is always the same, so a failure is repeated with what it prints:
 * --seed N --first K --count 1. The nightly run is --count 1000000 with a seed of its own.
 *
 * What differs is shrunk: the case is cut after each instruction in turn, and the first cut that
 * differs shows the instruction that is wrong.
 *
 * At the end each row of the instruction table must have been run and compared, or have a reason
 * why not: --coverage prints the table.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "base/util.h"
#include "compare.h"
#include "engine/soft/cpu.h"
#include "engine/soft/decode.h"
#include "gen.h"
#include "native.h"
#include "soft.h"
#include "vector.h"

enum {
	ENOUGH_FOR_COVERAGE = 200000, /* cases */
	SHOW_PER_ROW = 2,
	STOP_AFTER = 100,
	EXIT_SKIP = 77,
};

/* With AddressSanitizer, much of the address space from here on is mapped in the child, too. */
#define CROWDED_FROM UINT64_C(0x7fff0000)
#if defined(__SANITIZE_ADDRESS__)
#define CROWDED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CROWDED 1
#endif
#endif
#ifndef CROWDED
#define CROWDED 0
#endif

struct coverage {
	uint64_t run, compared, failed;
};

struct options {
	uint64_t seed, first, count;
	double seconds;
	const char *only, *record;
	bool coverage, keep_going, no_code32;
};

struct tester {
	struct options options;
	struct isa_native *native;
	struct isa_native *again; /* for shrinking, while the other one is at work */
	struct isa_soft *soft;
	struct isa_gen *gen;
	uint32_t features;
	struct coverage *coverage; /* by row */
	uint64_t cases, insns, failures, lost, inexact, lax;
	FILE *record;
	struct isa_result result; /* scratch: large */
};

static struct isa_soft *kick_target;

static void on_alarm(int signal)
{
	isa_soft_kick(kick_target);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- What went wrong ---- */

static void print_insns(const struct isa_case *c, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned off = c->insns[i].off;
		unsigned end = i + 1 < c->insn_count ? c->insns[i + 1].off : c->len;
		enum hk_code_mode mode = c->code32 ? HK_CODE_32 : HK_CODE_64;
		char text[HK_DISASM_MAX] = "(no instruction)";
		struct hk_insn insn;

		if (end > c->len) {
			end = c->len;
		}
		if (off < end &&
			hk_decode(c->code + off, end - off, mode, UINT32_MAX, (int)off - (int)end,
				&insn) == HK_DECODE_OK) {
			hk_disasm(&insn, mode, c->start.rip + off, text);
		}
		printf("    %08" PRIx64 " ", c->start.rip + off);
		for (unsigned k = off; k < end; k++) {
			printf(" %02x", c->code[k]);
		}
		printf("%*s %s\n", (int)(3 * (12 - HK_MIN(end - off, 12u))), "", text);
	}
}

static void print_start(const struct isa_case *c)
{
	const struct isa_state *s = &c->start;

	printf("  from (%d-bit, memory %" PRIu64 "):\n", c->code32 ? 32 : 64, c->memory);
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		printf("%s%016" PRIx64, i % 4 == 0 ? "    gpr " : " ", s->gpr[i]);
		printf("%s", i % 4 == 3 ? "\n" : "");
	}
	printf("    rflags %" PRIx64 " fcw %x fsw %x ftw %02x mxcsr %x fs %" PRIx64 " gs %" PRIx64
	       "\n",
		s->rflags, isa_get16(s->fx + ISA_FX_FCW), isa_get16(s->fx + ISA_FX_FSW),
		s->fx[ISA_FX_FTW], isa_get16(s->fx + ISA_FX_MXCSR), s->fs_base, s->gs_base);
}

static void print_slots(const char *name, const uint8_t *p, unsigned count, unsigned bytes)
{
	for (unsigned i = 0; i < count; i++) {
		printf("    %s%u ", name, i);
		for (unsigned k = bytes; k-- > 0;) {
			printf("%02x%s", p[16 * i + k], k == 8 ? "_" : "");
		}
		printf("%s", i % 2 == 1 ? "\n" : "");
	}
}

static bool differs(
	struct tester *t, const struct isa_case *c, enum isa_way way, struct isa_result *native)
{
	*isa_native_cases(t->again, 0) = *c;
	isa_native_start(t->again, 0, 1);
	*native = *isa_native_wait(t->again, 0);
	isa_soft_case(t->soft, c, way, &t->result);
	return !isa_same(native, &t->result, isa_mask_of(c, native), c->code32, NULL, NULL);
}

/* Cuts the case short. Return: the instruction that is wrong. */
static unsigned shrink(
	struct tester *t, struct isa_case *c, enum isa_way *way, struct isa_result *native)
{
	unsigned full = c->len, insns = c->insn_count;

	if (*way == ISA_AGAIN) {
		*way = ISA_RUN;
	}
	for (unsigned i = 0; i < insns; i++) {
		c->len = (uint16_t)(i + 1 < insns ? c->insns[i + 1].off : full);
		c->len = (uint16_t)HK_MIN(c->len, full);
		c->insn_count = (uint8_t)(i + 1);
		if (differs(t, c, *way, native)) {
			return i;
		}
	}
	return insns - 1;
}

static void report(
	struct tester *t, const struct isa_case *whole, uint64_t number, enum isa_way way)
{
	static const char *const ways[] = {"run", "run again", "step"};
	static struct isa_result native;
	struct isa_case c = *whole;
	bool single = way != ISA_AGAIN;
	unsigned insn = shrink(t, &c, &way, &native);
	unsigned row = c.insns[insn].row;

	t->failures++;
	t->coverage[row].failed++;
	if (t->coverage[row].failed > SHOW_PER_ROW && !t->options.only) {
		return;
	}
	printf("not ok: %s %s (%s%s): --seed %" PRIu64 " --first %" PRIu64 " --count 1\n",
		hk_isa[row].name, hk_isa[row].operands, ways[way],
		single ? "" : ", the second time", t->options.seed, number);
	print_insns(&c, c.insn_count);
	print_start(&c);
	if (hk_isa[row].op >= 0xd8 && hk_isa[row].map == HK_MAP_L) {
		print_slots("st", c.start.fx + ISA_FX_ST, 8, 10);
	} else if (strpbrk(hk_isa[row].operands, "VWUPQN") != NULL) {
		print_slots("xmm", c.start.fx + ISA_FX_XMM, c.code32 ? 8 : 16, 16);
	}
	(void)differs(t, &c, way, &native);
	printf("  real: vector %u error %#x cr2 %#" PRIx64 " rip %#" PRIx64 "\n", native.vector,
		native.code, native.cr2, native.state.rip);
	isa_same(&native, &t->result, isa_mask_of(&c, &native), c.code32, stdout, NULL);
	fflush(stdout);
}

/* ---- What went right ---- */

static void count(struct tester *t, const struct isa_case *c, const struct isa_result *r)
{
	uint64_t off = r->state.rip - c->start.rip;

	for (unsigned i = 0; i < c->insn_count; i++) {
		struct coverage *row = &t->coverage[c->insns[i].row];

		row->run++;
		t->insns++;
		if (c->insns[i].off == off) {
			break;
		}
		row->compared++;
	}
}

static void check_case(struct tester *t, const struct isa_case *c, const struct isa_result *native,
	uint64_t number)
{
	struct isa_mask mask = isa_mask_of(c, native);
	/* All run as programs do; some also from what was cached before, or step by step. */
	unsigned ways = number % 4 == 0 ? ISA_WAY_COUNT : 1;

	t->cases++;
	if (native->end == ISA_LOST) {
		t->lost++;
		printf("lost: --seed %" PRIu64 " --first %" PRIu64 " --count 1\n", t->options.seed,
			number);
		print_insns(c, c->insn_count);
		return;
	}
	for (unsigned way = 0; way < ways; way++) {
		bool inexact;

		isa_soft_case(t->soft, c, (enum isa_way)way, &t->result);
		if (!isa_same(native, &t->result, mask, c->code32, NULL, &inexact)) {
			if (!CROWDED || t->result.vector != HK_VECTOR_PF ||
				t->result.cr2 < CROWDED_FROM) {
				report(t, c, number, (enum isa_way)way);
			}
			return;
		}
		if (way == 0 && (mask.lax & (ISA_LAX_ULP | ISA_LAX_RCP)) != 0) {
			t->lax++;
			t->inexact += inexact;
		}
	}
	count(t, c, native);
	if (t->record != NULL && isa_vector_write(t->record, c, native, mask) != 0) {
		perror("test_isa: record");
		exit(1);
	}
}

static void run_all(struct tester *t)
{
	const struct options *o = &t->options;
	uint64_t end = o->first + o->count;
	uint64_t start[ISA_BATCHES] = {0};
	unsigned filled[ISA_BATCHES] = {0};
	double deadline = now() + o->seconds;
	uint64_t next = o->first;
	unsigned batch = 0;

	for (;;) {
		/*
		 * This batch is filled while the other one runs, then runs while that one is
		 * compared.
		 */
		bool more = next < end && (o->seconds <= 0 || now() < deadline) &&
			(o->keep_going || t->failures < STOP_AFTER);
		unsigned other = batch ^ 1;
		const struct isa_result *results;

		start[batch] = next;
		filled[batch] = more ? (unsigned)HK_MIN(end - next, (uint64_t)ISA_BATCH) : 0;
		for (unsigned i = 0; i < filled[batch]; i++) {
			isa_gen_case(
				t->gen, o->seed, next++, &isa_native_cases(t->native, batch)[i]);
		}
		results = filled[other] > 0 ? isa_native_wait(t->native, other) : NULL;
		if (filled[batch] > 0) {
			isa_native_start(t->native, batch, filled[batch]);
		}
		for (unsigned i = 0; i < filled[other]; i++) {
			check_case(t, &isa_native_cases(t->native, other)[i], &results[i],
				start[other] + i);
		}
		filled[other] = 0;
		if (!more) {
			if (filled[batch] == 0) {
				return;
			}
		}
		batch = other;
	}
}

/* Instructions that user code is not to run: they fault, and that is what is compared. */
static bool always_faults(const struct hk_isa_row *row)
{
	static const char *const names[] = {"in", "out", "insb", "insw", "outsb", "outsw", "cli",
		"sti", "ud0", "ud1", "ud2", "clac", "stac", "int", "hlt", "int1"};

	if ((row->flags & HK_ROW_PRIV) != 0) {
		return true;
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(names); i++) {
		size_t len = strcspn(row->name, "|");

		if (strlen(names[i]) == len && memcmp(names[i], row->name, len) == 0) {
			return true;
		}
	}
	return false;
}

/* Return: how many rows lack a test without having an excuse. */
static unsigned cover(const struct tester *t)
{
	unsigned missing = 0, excused = 0;

	for (unsigned i = 0; i < hk_isa_count; i++) {
		const struct hk_isa_row *row = &hk_isa[i];
		const struct coverage *c = &t->coverage[i];
		const char *excuse = isa_gen_excuse(t->gen, i);
		bool lacks = c->run == 0 || (c->compared == 0 && !always_faults(row));

		if (t->options.coverage) {
			printf("%3u %u/%02x/%03x %-14.14s %-12s run %9" PRIu64 " compared %9" PRIu64
			       " failed %6" PRIu64 "%s%s\n",
				i, row->map, row->op, row->ext, row->name, row->operands, c->run,
				c->compared, c->failed, excuse != NULL ? "  not tested: " : "",
				excuse != NULL ? excuse : "");
		}
		excused += excuse != NULL;
		if (lacks && excuse == NULL) {
			missing++;
			printf("not tested: %s %s (map %u, opcode %02x, ext %#x)\n", row->name,
				row->operands, row->map, row->op, row->ext);
		}
	}
	printf("rows: %u, tested: %u, with a reason not to: %u, without: %u\n", hk_isa_count,
		hk_isa_count - excused - missing, excused, missing);
	return missing;
}

static void print_failures(const struct tester *t)
{
	for (unsigned i = 0; i < hk_isa_count; i++) {
		if (t->coverage[i].failed > 0) {
			printf("failed: %-16.16s %-12s %6" PRIu64 " times of %" PRIu64 "\n",
				hk_isa[i].name, hk_isa[i].operands, t->coverage[i].failed,
				t->coverage[i].run + t->coverage[i].failed);
		}
	}
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "test_isa: not a number: '%s'\n", text);
		exit(2);
	}
	return value;
}

static struct options parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seed", required_argument, NULL, 's'},
		{"first", required_argument, NULL, 'f'},
		{"count", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 't'},
		{"only", required_argument, NULL, 'o'},
		{"coverage", no_argument, NULL, 'c'},
		{"record", required_argument, NULL, 'r'},
		{"keep-going", no_argument, NULL, 'k'},
		{"no-32", no_argument, NULL, '3'},
		{NULL, 0, NULL, 0},
	};
	struct options o = {.seed = 1, .count = 1000000};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			o.seed = number(optarg);
			break;
		case 'f':
			o.first = number(optarg);
			break;
		case 'n':
			o.count = number(optarg);
			break;
		case 't':
			o.seconds = (double)number(optarg);
			break;
		case 'o':
			o.only = optarg;
			break;
		case 'c':
			o.coverage = true;
			break;
		case 'r':
			o.record = optarg;
			break;
		case 'k':
			o.keep_going = true;
			break;
		case '3':
			o.no_code32 = true;
			break;
		default:
			exit(2);
		}
	}
	return o;
}

static bool set_up(struct tester *t)
{
	struct itimerval second = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
	struct isa_gen_options gen;

	t->native = isa_native_create();
	t->again = t->native != NULL ? isa_native_create() : NULL;
	if (t->again == NULL) {
		return false;
	}
	t->features = isa_native_features();
	gen = (struct isa_gen_options){
		.features = t->features,
		.only = t->options.only,
		.code32 = isa_native_code32(t->native) && !t->options.no_code32,
		.fsgsbase = isa_native_fsgsbase(t->native),
	};
	t->soft = isa_soft_create(t->features);
	t->gen = isa_gen_create(&gen);
	t->coverage = calloc(hk_isa_count + 1, sizeof(*t->coverage));
	if (t->soft == NULL || t->coverage == NULL) {
		fprintf(stderr, "test_isa: out of memory\n");
		exit(1);
	}
	if (t->gen == NULL) {
		fprintf(stderr, "test_isa: no instruction '%s'\n",
			t->options.only != NULL ? t->options.only : "");
		exit(2);
	}
	if (t->options.record != NULL) {
		t->record = fopen(t->options.record, "wb");
		if (t->record == NULL || isa_vector_begin(t->record, t->features) != 0) {
			fprintf(stderr, "test_isa: %s: %s\n", t->options.record, strerror(errno));
			exit(1);
		}
	}
	kick_target = t->soft;
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &second, NULL);
	return true;
}

int main(int argc, char **argv)
{
	static struct tester tester;
	struct tester *t = &tester;
	bool failed;
	double begin;

	t->options = parse(argc, argv);
	if (!set_up(t)) {
		return EXIT_SKIP;
	}
	begin = now();
	run_all(t);
	failed = t->failures > 0;
	printf("seed %" PRIu64 ": %" PRIu64 " cases, %" PRIu64 " instructions, %" PRIu64
	       " failed, %" PRIu64 " lost; %.0f cases/s; 32-bit code: %s; approximations: %" PRIu64
	       " of %" PRIu64 " exact\n",
		t->options.seed, t->cases, t->insns, t->failures, t->lost,
		(double)t->cases / (now() - begin), isa_native_code32(t->native) ? "yes" : "no",
		t->lax - t->inexact, t->lax);
	if (isa_gen_surprises(t->gen) > 0) {
		printf("not ok: the decoder took %" PRIu64 " instructions for others than meant\n",
			isa_gen_surprises(t->gen));
		failed = true;
	}
	print_failures(t);
	if (t->options.coverage || (t->options.only == NULL && t->cases >= ENOUGH_FOR_COVERAGE)) {
		failed |=
			cover(t) > 0 && t->options.only == NULL && t->cases >= ENOUGH_FOR_COVERAGE;
	}
	if (t->record != NULL && fclose(t->record) != 0) {
		perror("test_isa: record");
		failed = true;
	}
	isa_gen_destroy(t->gen);
	isa_soft_destroy(t->soft);
	isa_native_destroy(t->again);
	isa_native_destroy(t->native);
	free(t->coverage);
	return failed ? 1 : 0;
}
